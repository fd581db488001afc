"""Fake quantization: round to a grid of few values, and let the gradient pass straight through.

Everything that quantizes uses these functions: training, calibration, deployment. They put a tensor
of any shape into rows, one for each scale, for the compiled kernels of `ops`. A tensor has one
scale `()`, one for each channel `(channels,)`, or one for each group of columns `(channels,
groups)` of its `(channels, ...)` values. float32 and bfloat16 run compiled, others in plain torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .ops import library as library  # defines torch.ops.fedhq
from .ops import vmap as vmap

MIN_BITS, MAX_BITS = 2, 8
_ops = torch.ops.fedhq


def check_bits(name: str, bits: int) -> None:
    """Raises `ValueError` unless the bits lie in 2 to 8.

    Example:
        >>> check_bits("weight_bits", 2)
    """
    if not MIN_BITS <= bits <= MAX_BITS:
        raise ValueError(f"`{MIN_BITS} <= {name} <= {MAX_BITS}` must hold, but got {name}={bits}.")


class _Quantize(torch.autograd.Function):
    """What the functions share: the first output is the values on the grid, of the first input."""

    generate_vmap_rule = True

    @staticmethod
    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keeps what the backward pass needs: here nothing."""

    @classmethod
    def run(cls, *inputs: Any) -> tuple[Tensor, ...]:
        """All outputs; the first has a graph."""
        # Who transforms functions knows those of one kind only.
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            output: tuple[Tensor, ...] = cls.apply(*inputs)  # type: ignore[no-untyped-call]
            return output
        rest: list[Tensor] = []
        return _Eager.apply(rest, cls, *inputs), *rest  # type: ignore[no-untyped-call]


def _set_up(function: type[_Quantize]) -> type[_Quantize]:
    """Lets `torch.func` and `torch.compile` keep what the function keeps."""

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        function.keep(ctx, inputs, output)

    function.setup_context = staticmethod(setup_context)  # type: ignore[method-assign]
    return function


class _Eager(torch.autograd.Function):
    """Any of the functions for plain autograd.

    Torch calls a function that gets its context at once without looking up its signature, and
    outputs that need no graph are handed out past it: both take longer than a small tensor.
    """

    @staticmethod
    def forward(ctx: Any, rest: list[Tensor], function: type[_Quantize], *inputs: Any) -> Tensor:
        output = function.forward(*inputs)
        function.keep(ctx, inputs, output)
        ctx.function = function
        rest += output[1:]
        return output[0]  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.function.backward(ctx, *grads)


@_set_up
class _Static(_Quantize):
    """Given ranges: the gradient passes where the code lies on the grid; a bit each is kept."""

    @staticmethod
    def forward(
        x: Tensor, scale: Tensor, zero_point: Tensor | int, qmin: int, qmax: int, needs_mask: bool
    ) -> tuple[Tensor, Tensor]:
        grid = _grid_rows(x, scale, zero_point)
        y, mask = _ops.quantize_static(as_rows(x, scale.shape), *grid, qmin, qmax, needs_mask)
        return y.view(x.shape), mask

    @staticmethod
    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return _passed(ctx, grads[0]), None, None, None, None, None


@_set_up
class _Fitted(_Quantize):
    """Ranges fitted to the values at hand, and then as if given."""

    @staticmethod
    def forward(
        x: Tensor,
        scale_shape: tuple[int, ...],
        qmin: int,
        qmax: int,
        symmetric: bool,
        ratios: Tensor,
        stride: int,
        needs_mask: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        y, mask, scale, zero_point = _ops.quantize_fitted(
            as_rows(x, scale_shape), qmin, qmax, symmetric, ratios, stride, needs_mask
        )
        return y.view(x.shape), mask, scale.view(scale_shape), zero_point.view(scale_shape)

    @staticmethod
    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return _passed(ctx, grads[0]), None, None, None, None, None, None, None


def _passed(ctx: Any, grad: Tensor | None) -> Tensor | None:
    """The gradient where the mask lets it pass."""
    if grad is None:
        return None
    passed: Tensor = _ops.mask_gradient(grad.contiguous(), ctx.saved_tensors[0])
    return passed


@_set_up
class _Dynamic(_Quantize):
    """Ranges that hold every value: the gradient passes everywhere, and nothing is kept."""

    @staticmethod
    def forward(
        x: Tensor, scale_shape: tuple[int, ...], qmin: int, qmax: int, symmetric: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = as_rows(x, scale_shape)
        y, scale, zero_point = _ops.quantize_dynamic(rows, qmin, qmax, symmetric)
        return y.view(x.shape), scale.view(scale_shape), zero_point.view(scale_shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return grads[0], None, None, None, None


@_set_up
class _Learned(_Quantize):
    """Ranges that are trained: the gradient goes to the scale, too."""

    @staticmethod
    def forward(
        x: Tensor, scale: Tensor, zero_point: Tensor | int, qmin: int, qmax: int, factor: float
    ) -> tuple[Tensor]:
        grid = _grid_rows(x, scale, zero_point)
        y, _ = _ops.quantize_static(as_rows(x, scale.shape), *grid, qmin, qmax, False)
        return (y.view(x.shape),)

    @staticmethod
    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, scale, ctx.zero_point, ctx.qmin, ctx.qmax, ctx.factor = inputs
        ctx.save_for_backward(x, scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if grads[0] is None:
            return (None,) * 6
        x, scale = ctx.saved_tensors
        grad, rows = (as_rows(value, scale.shape) for value in (grads[0], x))
        grid = _grid_rows(x, scale, ctx.zero_point)
        dx, dscale, _ = _ops.learned_backward(grad, rows, *grid, ctx.qmin, ctx.qmax)
        return dx.view(x.shape), (dscale * ctx.factor).view(scale.shape), None, None, None, None


def _grid_rows(x: Tensor, scale: Tensor, zero_point: Tensor | int) -> tuple[Tensor, Tensor]:
    """Scale and zero point of each row."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    scales = scale.reshape(-1).to(dtype).contiguous()
    if isinstance(zero_point, Tensor):
        return scales, zero_point.expand(scale.shape).reshape(-1).to(torch.int32).contiguous()
    return scales, torch.full_like(scales, zero_point, dtype=torch.int32)


def as_rows(x: Tensor, scale_shape: Sequence[int]) -> Tensor:
    """The values in rows, one for each scale, `(rows, cols)`, contiguous.

    Args:
        x: Values of any shape; channels first unless there is one scale.
        scale_shape: `()`, `(channels,)`, or `(channels, groups)`.

    Raises:
        ValueError: If the values cannot be put into rows so.

    Example:
        >>> as_rows(torch.zeros(8, 3, 3, 3), (8,)).shape, as_rows(torch.zeros(8, 6), (8, 2)).shape
        (torch.Size([8, 27]), torch.Size([16, 3]))
    """
    if len(scale_shape) == 0:
        return x.reshape(1, -1).contiguous()
    per_channel = x.numel() // x.shape[0] if x.dim() and x.shape[0] else 0
    groups = scale_shape[1] if len(scale_shape) == 2 else 1
    fits = len(scale_shape) <= 2 and x.dim() > 0 and x.shape[0] == scale_shape[0]
    if not fits or groups < 1 or per_channel % groups:
        raise ValueError(
            "`scale` must have shape (), (channels,) or (channels, groups), with equal groups, for "
            f"x of shape {tuple(x.shape)}, but got {tuple(scale_shape)}."
        )
    return x.reshape(x.shape[0] * groups, per_channel // groups).contiguous()


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
        return _Learned.run(*learned)[0]
    return _Static.run(x, scale, zero_point, quant_min, quant_max, _needs_mask(x))[0]


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
    y, _, scale, zero_point = _Fitted.run(
        x, shape, quant_min, quant_max, symmetric, ratios, stride, _needs_mask(x)
    )
    return y, scale, zero_point


def fake_quantize_dynamic(
    x: Tensor, quant_min: int, quant_max: int, symmetric: bool, scale_shape: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Rounds to a grid that holds every value, in one pass; the gradient passes everywhere.

    Symmetric, the scale is the largest magnitude over `quant_max`; else it spans from the smallest
    to the largest value, zero included. A row with NaN or an infinity becomes NaN.

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
    y, scale, zero_point = _Dynamic.run(x, tuple(scale_shape), quant_min, quant_max, symmetric)
    return y, scale, zero_point
