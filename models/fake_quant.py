"""Fake quantization: round to a grid of few values, and let the gradient pass straight through.

Everything that quantizes uses these functions: training, calibration, deployment. They put a tensor
of any shape into rows, one for each scale, for the compiled kernels of `ops`. A tensor has one
scale `()`, one for each channel `(channels,)`, or one for each group of columns `(channels,
groups)` of its `(channels, ...)` values. float32 and bfloat16 run compiled, others in plain torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .straight_through import Dynamic, Fitted, Learned, Static

MIN_BITS, MAX_BITS = 2, 8


def check_bits(name: str, bits: int) -> None:
    """Raises `ValueError` unless the bits lie in 2 to 8.

    Example:
        >>> check_bits("weight_bits", 2)
    """
    if not isinstance(bits, int) or not MIN_BITS <= bits <= MAX_BITS:
        raise ValueError(
            f"`{name}` must be a whole number from {MIN_BITS} to {MAX_BITS}: `{MIN_BITS} <= {name} "
            f"<= {MAX_BITS}` must hold, but got {name}={bits!r}."
        )


def _check_codes(quant_min: int, quant_max: int) -> None:
    if not -(2**15) <= quant_min < quant_max < 2**16:
        raise ValueError(
            "`-2**15 <= quant_min < quant_max < 2**16` must hold, but got "
            f"{quant_min} and {quant_max}."
        )


def fake_quantize(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | int,
    quant_min: int,
    quant_max: int,
    scale_gradient: float = 1.0,
) -> Tensor:
    """Rounds to the nearest point of a grid, with a straight-through gradient.

    `y = (code - zero_point) * scale`, `code = clamp(round(x / scale) + zero_point)`. Halves round
    to even and the division is a product with the reciprocal, so the result equals ATen's
    `fake_quantize_per_tensor_affine` and `fake_quantize_per_channel_affine` bit for bit on finite
    float32 input; unlike there, NaN stays NaN, and infinities go to the ends. The gradient passes
    where the code before clamping lies in `quant_min .. quant_max` and is zero elsewhere. Where the
    scale requires a gradient it gets that of LSQ: `dy/dscale = code - zero_point - x / scale` on
    the grid, and the end's code less the zero point beyond it.

    Args:
        x: Values of any shape, channels first if the scale is per channel or group.
        scale: `()` for one scale, `(channels,)`, or `(channels, groups)`; > 0.
        zero_point: The code that stands for zero; one, or of the scale's shape.
        quant_min: Smallest code.
        quant_max: Largest code.
        scale_gradient: Factor on the scale's gradient.

    Returns:
        Values of the shape and type of `x`.

    Raises:
        ValueError: If the scale's shape fits no way, or `quant_min < quant_max` does not hold.

    References:
        Bengio, Leonard and Courville, arXiv 1308.3432 (straight-through gradient); Esser et al.,
        arXiv 1902.08153, equation 3 (LSQ).

    Example:
        >>> fake_quantize(torch.tensor([0.4, 0.6, 9.0]), torch.tensor(0.5), 0, -2, 1)
        tensor([0.5000, 0.5000, 0.5000])
    """
    _check_codes(quant_min, quant_max)
    if scale.requires_grad:
        learned = x, scale, zero_point, quant_min, quant_max, scale_gradient
        return Learned.run(*learned)[0]
    return Static.run(x, scale, zero_point, quant_min, quant_max, _needs_mask(x))[0]


def _needs_mask(x: Tensor) -> bool:
    # Under vmap a tensor does not know of the gradient that is taken outside.
    asked = x.requires_grad or torch._C._are_functorch_transforms_active()
    return asked and torch.is_grad_enabled()


def fake_quantize_fitted(
    x: Tensor,
    quant_min: int,
    quant_max: int,
    symmetric: bool,
    scale_shape: Sequence[int],
    ratios: Tensor,
    stride: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rounds to the grid with the least squared error, with a straight-through gradient.

    `observers.fit_range` and `fake_quantize` in one; the range is a constant to the gradient.

    Args:
        x: Values of any shape, channels first if there are several scales.
        quant_min: Smallest code.
        quant_max: Largest code, > 0.
        symmetric: Whether zero has code 0.
        scale_shape: `()`, `(channels,)` or `(channels, groups)`.
        ratios: `(k,)` shares of the limits to try as ranges.
        stride: The error is judged by every stride-th value, from the first.

    Returns:
        Values of the shape of `x`; scales and zero points (int32) of the shape asked for.

    Example:
        >>> fake_quantize_fitted(torch.tensor([1.0, 0.9, 9.0]), 0, 3, False, (), torch.ones(1))[0]
        tensor([0., 0., 9.])
    """
    _check_codes(quant_min, quant_max)
    shape = tuple(scale_shape)
    y, _, scale, zero_point = Fitted.run(
        x, shape, quant_min, quant_max, symmetric, ratios, stride, _needs_mask(x)
    )
    return y, scale, zero_point


def fake_quantize_dynamic(
    x: Tensor, quant_min: int, quant_max: int, symmetric: bool, scale_shape: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Rounds to a grid that holds every value, in one pass; the gradient passes everywhere.

    Symmetric, the scale is the largest magnitude over `quant_max`; else it spans from the smallest
    to the largest value, zero included. A row with NaN or an infinity becomes NaN, and so does one
    that spans more than float32 holds.

    Args:
        x: Values of any shape, channels first if there are several scales.
        quant_min: Smallest code; if symmetric at most `-quant_max`.
        quant_max: Largest code, > 0.
        symmetric: Whether zero has code 0.
        scale_shape: `()`, `(channels,)` or `(channels, groups)`.

    Returns:
        Values of the shape of `x`; scales and zero points (int32) of the shape asked for.

    Raises:
        ValueError: If a symmetric grid is not wide enough on both sides of zero, or shapes do not
            fit.

    Example:
        >>> fake_quantize_dynamic(torch.tensor([[-1.0, 0.4]]), -7, 7, True, (1,))[0]
        tensor([[-1.0000,  0.4286]])
    """
    _check_codes(quant_min, quant_max)
    if symmetric and not 0 < quant_max <= -quant_min:
        raise ValueError(
            f"`0 < quant_max <= -quant_min` must hold for a symmetric range, but got {quant_min} "
            f"and {quant_max}: values would be clipped. Take `fit_range` and `fake_quantize`."
        )
    y, scale, zero_point = Dynamic.run(x, tuple(scale_shape), quant_min, quant_max, symmetric)
    return y, scale, zero_point
