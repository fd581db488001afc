"""A model's weights as the federation handles them: float32 arrays by name."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Weights = dict[str, NDArray[np.float32]]


def read_weights(model: nn.Module) -> Weights:
    """Copies a model's parameters out, by name."""
    return {name: p.detach().cpu().numpy().copy() for name, p in model.named_parameters()}


def load_weights_(model: nn.Module, weights: Weights) -> None:
    """Copies parameters into a model, in place."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weights[name]))
