"""Fake quantization: round to a grid of few values, and let the gradient pass straight through."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MIN_BITS, MAX_BITS = 2, 8


def check_bits(name: str, bits: int) -> None:
    """Raises `ValueError` unless the bits lie in 2 to 8.

    Example:
        >>> check_bits("weight_bits", 2)
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ValueError(f"`{MIN_BITS} <= {name} <= {MAX_BITS}` must hold, but got {name}={bits}.")


class _FakeQuantize(torch.autograd.Function):
    """Quantizes and dequantizes in one buffer; saves the input, which costs no copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
        inverse = scale.reciprocal()
        ctx.save_for_backward(x, inverse)
        ctx.low, ctx.high = low, high
        return torch.mul(x, inverse).round_().clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, None]:
        """Passes the gradient where the rounded code lies on the grid."""
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        x, inverse = ctx.saved_tensors
        codes = torch.mul(x, inverse).round_()
        # Codes are whole numbers, so "strictly between low - 1 and high + 1" is "low to high".
        torch.ops.aten.hardtanh_backward.grad_input(
            grads[0], codes, ctx.low - 1, ctx.high + 1, grad_input=codes
        )
        return codes, None, None, None


def fake_quantize(
    x: Tensor, scale: Tensor, zero_point: int, quant_min: int, quant_max: int
) -> Tensor:
    """Rounds to the nearest point of a grid, with a straight-through gradient.

    `y = (code - zero_point) * scale`, `code = clamp(round(x / scale) + zero_point)`. Halves round
    to even and the division is a product with the reciprocal, so the result equals ATen's
    `fake_quantize_per_tensor_affine` and `fake_quantize_per_channel_affine` bit for bit on finite
    float32 input; unlike there, NaN stays NaN. The gradient passes where the code before clamping
    lies in `quant_min .. quant_max` and is zero elsewhere; the scale is a constant.

    Args:
        x: Values of any shape, channels first if the scale is per channel.
        scale: `()` for one scale, or `(channels,)`; > 0.
        zero_point: The code that stands for zero.
        quant_min: Smallest code.
        quant_max: Largest code.

    Returns:
        Values of the shape of `x`.

    Raises:
        ValueError: If the scale's shape fits neither way, or `quant_min < quant_max` does not hold.

    References:
        Bengio, Leonard and Courville, arXiv 1308.3432 (straight-through gradient).

    Example:
        >>> fake_quantize(torch.tensor([0.4, 0.6, 9.0]), torch.tensor(0.5), 0, -2, 1)
        tensor([0.5000, 0.5000, 0.5000])
    """
    if quant_min >= quant_max:
        raise ValueError(f"`quant_min < quant_max` must hold, but got {quant_min} and {quant_max}.")
    if scale.dim() == 1 and x.dim() > 0 and scale.shape[0] == x.shape[0]:
        scale = scale.view(-1, *[1] * (x.dim() - 1))
    elif scale.dim() != 0:
        raise ValueError(
            f"`scale` must have shape () or (channels,) for x of shape {tuple(x.shape)}, "
            f"but got {tuple(scale.shape)}."
        )
    # Rounding happens before the zero point is added, so adding it only moves the two ends.
    low, high = quant_min - zero_point, quant_max - zero_point
    quantized: Tensor = _FakeQuantize.apply(x, scale, low, high)  # type: ignore[no-untyped-call]
    return quantized
