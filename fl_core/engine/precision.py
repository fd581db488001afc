"""In which precision a network computes while it trains."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

_Convolve = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def use_bfloat16_(model: nn.Module, device: torch.device) -> nn.Module:
    """Lets a network compute in bfloat16 what gains by it, forward and backward, in place.

    On the CPU these are convolutions alone; what enters and leaves them, and the gradients of
    weights, are float32. Torch's autocast would take linear layers and normalisation along: a step
    then takes 1.8 times as long as in float32 (mlp, 28 x 28), 2.4 times (vit), 1.1 times (cnn),
    against 1.0 here. Wide convolutions (32 x 32 images, 32, 64, 128 channels) take .73 of
    float32's time here and .68 by autocast (one Zen 4 core). On CUDA it is autocast; that was not
    measured.

    Args:
        model: Not to be copied afterwards.
        device: Where it will train.

    Returns:
        The same model.

    Example:
        >>> model = nn.Conv1d(1, 1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 1 / 3)
        >>> use_bfloat16_(model, torch.device("cpu"))(torch.ones(1, 1)).item()
        0.333984375
    """
    if device.type != "cpu":
        autocast = torch.autocast(device.type, torch.bfloat16)
        model.forward = autocast(model.forward)
        return model
    for module in model.modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            forward: _Convolve = module._conv_forward
            module._conv_forward = partial(_in_bfloat16, forward)  # type: ignore[method-assign]
    return model


def _in_bfloat16(
    convolve: _Convolve, inputs: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    bias = None if bias is None else bias.bfloat16()
    return convolve(inputs.bfloat16(), weight.bfloat16(), bias).float()
