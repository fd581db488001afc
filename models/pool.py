"""Max pooling that is fast on the CPU where the windows are 2 x 2.

Torch's own kernel chooses the greatest value by a branch that no processor can foretell, and takes
a third of a small CNN's training step. Values and gradients here are the same to the last bit.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from .ops import cpu_kernels
from .ops.cpu_build import BuildError, load_library
from .ops.library import is_plain

_TYPES = frozenset({torch.float32, torch.bfloat16})
_SIZES = (2, 2)


class MaxPool2d(nn.MaxPool2d):
    """`nn.MaxPool2d`, faster where a compiler was found and windows of 2 x 2 do not overlap.

    That is for contiguous float32 and bfloat16 on the CPU. Everything else is torch's own operator,
    also what is compiled, exported, traced or transformed: a deployed graph has plain pools.

    Example:
        >>> MaxPool2d(2)(torch.tensor([[[1.0, 5.0, 0.0], [2.0, 3.0, 9.0]]]))
        tensor([[[5.]]])
    """

    def forward(self, input: Tensor) -> Any:
        """From `(examples, channels, height, width)` to half of the height and width."""
        if not (self.halves() and _is_served(input)):
            return super().forward(input)
        if torch.is_grad_enabled() and input.requires_grad:
            return _Halve.apply(input)  # type: ignore[no-untyped-call]
        return cpu_kernels.max_pool(input)

    def halves(self) -> bool:
        """Whether its windows are those that the compiled kernel serves."""
        settings = (self.kernel_size, self.stride, self.padding, self.dilation)
        return settings == (2, 2, 0, 1) and not (self.ceil_mode or self.return_indices)


def _is_served(x: Tensor) -> bool:
    """Whether the compiled kernel takes a tensor, and nobody but autograd looks on."""
    return (
        is_plain(x)
        and torch._C._get_tracing_state() is None
        and forward_ad._current_level < 0
        and x.is_cpu
        and x.dtype in _TYPES
        and x.dim() in (3, 4)
        and min(x.shape[-2:]) >= 2
        and x.numel() > 0
        and x.is_contiguous()
        and _is_compiled()
    )


@functools.cache
def _is_compiled() -> bool:
    """Whether there are compiled kernels. Unlike quantization, pooling does without in silence."""
    if os.environ.get("FEDHQ_KERNELS") == "torch":
        return False
    try:
        load_library()
    except BuildError:
        return False
    return True


class _Halve(torch.autograd.Function):
    """The compiled kernel; like torch's own it keeps its input, but no indices."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return cpu_kernels.max_pool(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        grad = grads[0]
        if not torch.is_grad_enabled() and is_plain(grad):
            return cpu_kernels.max_pool_gradient(grad.contiguous(), x)
        # Gradients of gradients, and several at once, are torch's own.
        aten = torch.ops.aten
        _, indices = aten.max_pool2d_with_indices(x.detach(), _SIZES, _SIZES)
        back: Tensor = aten.max_pool2d_with_indices_backward(
            grad, x, _SIZES, _SIZES, (0, 0), (1, 1), False, indices
        )
        return back
