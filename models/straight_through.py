"""The gradients of fake quantization, for plain autograd, `torch.func` and `torch.compile`.

`fake_quant` has the functions to call; these are the autograd functions beneath them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .ops import vmap as vmap  # tells torch.func of the operators
from .ops.library import operators
from .rows import as_rows


class _Quantize(torch.autograd.Function):
    """What the functions share: the first output is the values on the grid, of the first input."""

    generate_vmap_rule = True
    folded: type[_Quantize] | None = None

    @staticmethod
    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keeps what the backward pass needs: here nothing."""

    @classmethod
    def run(cls, *inputs: Any) -> tuple[Tensor, ...]:
        """All outputs; the first has a graph."""
        # Who transforms functions knows those of one kind only.
        if torch.compiler.is_compiling():
            return cls._transformed(*inputs)
        if torch._C._are_functorch_transforms_active():
            function = cls.folded if cls.folded and _is_only_stacked() else cls
            return function._transformed(*inputs)
        rest: list[Tensor] = []
        return _Eager.apply(rest, cls, *inputs), *rest  # type: ignore[no-untyped-call]

    @classmethod
    def _transformed(cls, *inputs: Any) -> tuple[Tensor, ...]:
        output: tuple[Tensor, ...] = cls.apply(*inputs)  # type: ignore[no-untyped-call]
        return output


def _fold(function: type[_Quantize]) -> type[_Quantize]:
    """Lets `torch.vmap` alone stack the clients of a function that fits ranges as more rows.

    Plain autograd, outside, then sees one call and one mask of all clients. Where `torch.func.grad`
    takes a gradient inside, each client needs a mask of its own.
    """

    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, shape: tuple[int, ...], *rest: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
        assert in_dims[0] is not None
        x = x.movedim(in_dims[0], 0)
        rows = x.flatten(0, 1) if shape else x
        y, *masks, scale, zero_point = function.run(rows, (len(rows), *shape[1:]), *rest)
        stacked = len(x), *shape
        grid = scale.view(stacked), zero_point.view(stacked)
        return (y.view(x.shape), *masks, *grid), (0, *(None for _ in masks), 0, 0)

    rules = {"generate_vmap_rule": False, "vmap": staticmethod(vmap)}
    function.folded = type(f"Folded{function.__name__}", (function,), rules)
    return function


def _is_only_stacked() -> bool:
    """Whether `torch.vmap` is the only transformation at work."""
    stack = torch._C._functorch.get_interpreter_stack() or ()
    return all(level.key() == torch._C._functorch.TransformType.Vmap for level in stack)


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
class Static(_Quantize):
    """Given ranges: the gradient passes where the code lies on the grid; a bit each is kept."""

    @staticmethod
    def forward(
        x: Tensor, scale: Tensor, zero_point: Tensor | int, qmin: int, qmax: int, needs_mask: bool
    ) -> tuple[Tensor, Tensor]:
        """The values on the grid, and the mask."""
        grid = _grid_rows(x, scale, zero_point)
        rows = as_rows(x, scale.shape)
        y, mask = operators(x).quantize_static(rows, *grid, qmin, qmax, needs_mask)
        return y.view(x.shape), mask

    @staticmethod
    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keeps the mask."""
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradient where the mask lets it pass."""
        return _passed(ctx, grads[0]), None, None, None, None, None


@_fold
@_set_up
class Fitted(_Quantize):
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
        """The values on the grid, the mask, scales and zero points."""
        y, mask, scale, zero_point = operators(x).quantize_fitted(
            as_rows(x, scale_shape), qmin, qmax, symmetric, ratios, stride, needs_mask
        )
        return y.view(x.shape), mask, scale.view(scale_shape), zero_point.view(scale_shape)

    @staticmethod
    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keeps the mask."""
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradient where the mask lets it pass."""
        return _passed(ctx, grads[0]), None, None, None, None, None, None, None


def _passed(ctx: Any, grad: Tensor | None) -> Tensor | None:
    """The gradient where the mask lets it pass."""
    if grad is None:
        return None
    passed: Tensor = operators(grad).mask_gradient(grad.contiguous(), ctx.saved_tensors[0])
    return passed


@_fold
@_set_up
class Dynamic(_Quantize):
    """Ranges that hold every value: the gradient passes everywhere, and nothing is kept."""

    @staticmethod
    def forward(
        x: Tensor, scale_shape: tuple[int, ...], qmin: int, qmax: int, symmetric: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The values on the grid, scales and zero points."""
        rows = as_rows(x, scale_shape)
        y, scale, zero_point = operators(x).quantize_dynamic(rows, qmin, qmax, symmetric)
        return y.view(x.shape), scale.view(scale_shape), zero_point.view(scale_shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradient as it is."""
        return grads[0], None, None, None, None


@_set_up
class Learned(_Quantize):
    """Ranges that are trained: the gradient goes to the scale, too."""

    @staticmethod
    def forward(
        x: Tensor, scale: Tensor, zero_point: Tensor | int, qmin: int, qmax: int, factor: float
    ) -> tuple[Tensor]:
        """The values on the grid."""
        grid = _grid_rows(x, scale, zero_point)
        rows = as_rows(x, scale.shape)
        y, _ = operators(x).quantize_static(rows, *grid, qmin, qmax, False)
        return (y.view(x.shape),)

    @staticmethod
    def keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keeps all but the result."""
        x, scale, ctx.zero_point, ctx.qmin, ctx.qmax, ctx.factor = inputs
        ctx.save_for_backward(x, scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of the values and the scale."""
        if grads[0] is None:
            return (None,) * 6
        x, scale = ctx.saved_tensors
        grad, rows = (as_rows(value, scale.shape) for value in (grads[0], x))
        grid = _grid_rows(x, scale, ctx.zero_point)
        dx, dscale, _ = operators(grad).learned_backward(grad, rows, *grid, ctx.qmin, ctx.qmax)
        return dx.view(x.shape), (dscale * ctx.factor).view(scale.shape), None, None, None, None


def _grid_rows(x: Tensor, scale: Tensor, zero_point: Tensor | int) -> tuple[Tensor, Tensor]:
    """Scale and zero point of each row."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    scales = scale.reshape(-1).to(dtype).contiguous()
    if isinstance(zero_point, Tensor):
        return scales, zero_point.expand(scale.shape).reshape(-1).to(torch.int32).contiguous()
    return scales, torch.full_like(scales, zero_point, dtype=torch.int32)
