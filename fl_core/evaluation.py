"""How good the model is: centrally, and for every client by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..allocator.goal import ServerAccuracy
from ..models import accuracy, evaluating
from .data.datasets import Dataset
from .federation import Federation
from .weights import Weights

_BATCH = 500
_WORST_SHARE = 0.1


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation gave, as fractions; None where it was not asked for.

    Args:
        deployed: Of the quantized model on the test examples.
        in_float: Of the float model on them.
        clients: Mean over clients of the quantized model on their own test examples.
        worst: The same over the worst tenth of the clients, one at least.
        server: Of both on what the server keeps to calibrate with: what an allocator may see. The
            deployed model's ranges were fitted to these very examples, so that it flatters.
    """

    deployed: float | None = None
    in_float: float | None = None
    clients: float | None = None
    worst: float | None = None
    server: ServerAccuracy | None = None


def evaluate(federation: Federation, weights: Weights) -> Evaluation:
    """Evaluates the server's weights, in float and as deployed.

    Args:
        federation: Model, test data and settings.
        weights: The server's.
    """
    test, network, kept = federation.test, federation.network(weights), federation.calibration
    shipped = _shipped(federation, weights, network)
    own = [_accuracy(shipped, data) for data in federation.client_tests or () if len(data)]
    return Evaluation(
        deployed=_accuracy(shipped, test),
        in_float=_accuracy(network, test),
        clients=float(np.mean(own)) if own else None,
        worst=worst_mean(own) if own else None,
        server=ServerAccuracy(
            _accuracy(shipped, kept), _accuracy(network, kept), int(kept.labels.numel())
        ),
    )


def _shipped(federation: Federation, weights: Weights, network: nn.Module) -> nn.Module | None:
    """The deployed model; None where activations overflow, so that no range can be fitted."""
    try:
        return federation.ship(weights)
    except ValueError:
        with evaluating(network), torch.no_grad():
            if network(federation.calibration.inputs).isfinite().all():
                raise
        return None


def _accuracy(model: nn.Module | None, data: Dataset) -> float:
    """Of no model: it gets nothing right."""
    return 0.0 if model is None else accuracy(model, data.inputs, data.labels, _BATCH)


def worst_mean(values: list[float]) -> float:
    """Mean of the worst tenth, of one at least.

    Example:
        >>> worst_mean([0.9, 0.5, 0.7])
        0.5
    """
    worst = sorted(values)[: math.ceil(_WORST_SHARE * len(values))]
    return float(np.mean(worst))
