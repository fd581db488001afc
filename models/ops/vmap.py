"""How the operators are batched: the clients that `torch.func.vmap` stacks become more rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .library import _LIBRARY
from .sizes import MASK_BLOCK

_ops = torch.ops.fedhq


def _front(value: Tensor, dim: int | None, size: int) -> Tensor:
    """With the clients in front; a value that all share is repeated."""
    moved = value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0)
    return moved.contiguous()


def _unfold(value: Tensor, size: int) -> Tensor:
    return value.view(size, len(value) // size, *value.shape[1:])


def _fold_all(
    num_tensors: int, name: str
) -> Callable[..., tuple[tuple[Tensor, ...], tuple[int, ...]]]:
    """The rule of an operator whose first arguments, and all results, have rows."""

    def rule(info, in_dims, *arguments):  # type: ignore[no-untyped-def]
        size = info.batch_size
        folded = [
            _front(value, dim, size).flatten(0, 1)
            for value, dim in zip(arguments[:num_tensors], in_dims[:num_tensors], strict=True)
        ]
        found = getattr(_ops, name)(*folded, *arguments[num_tensors:])
        return tuple(_unfold(value, size) for value in found), (0,) * len(found)

    return rule


def _fitted(info, in_dims, x, qmin, qmax, symmetric, ratios, stride, with_mask):  # type: ignore[no-untyped-def]
    size = info.batch_size
    rows = _front(x, in_dims[0], size)
    fitted = _ops.fit_range(rows.flatten(0, 1), qmin, qmax, symmetric, ratios, stride)
    grid = tuple(_unfold(value, size) for value in fitted)
    (y, mask), dims = _static(  # type: ignore[no-untyped-call]
        info, (0, 0, 0), rows, grid[0], grid[1], qmin, qmax, with_mask
    )
    return (y, mask, *grid), (*dims, 0, 0)


def _static(info, in_dims, x, scale, zero_point, qmin, qmax, with_mask):  # type: ignore[no-untyped-def]
    """Masks come in blocks; where a client's last is not full, clients are taken one by one."""
    size = info.batch_size
    stacked = [_front(v, d, size) for v, d in zip((x, scale, zero_point), in_dims[:3], strict=True)]
    if with_mask and stacked[0][0].numel() % MASK_BLOCK:
        pairs = [_ops.quantize_static(*one, qmin, qmax, True) for one in zip(*stacked, strict=True)]
        return tuple(torch.stack(values) for values in zip(*pairs, strict=True)), (0, 0)
    y, mask = _ops.quantize_static(*(v.flatten(0, 1) for v in stacked), qmin, qmax, with_mask)
    return (_unfold(y, size), mask.view(size, -1) if with_mask else mask), (
        0,
        0 if with_mask else None,
    )


def _mask_gradient(info, in_dims, grad, mask):  # type: ignore[no-untyped-def]
    size = info.batch_size
    grads, masks = (_front(v, d, size) for v, d in zip((grad, mask), in_dims, strict=True))
    if grads[0].numel() % MASK_BLOCK:
        return torch.stack([_ops.mask_gradient(*one) for one in zip(grads, masks, strict=True)]), 0
    return _ops.mask_gradient(grads, masks.flatten()), 0


for _name, _rule in (
    ("quantize_dynamic", _fold_all(1, "quantize_dynamic")),
    ("quantize_static", _static),
    ("quantize_fitted", _fitted),
    ("mask_gradient", _mask_gradient),
    ("learned_backward", _fold_all(4, "learned_backward")),
    ("fit_range", _fold_all(1, "fit_range")),
):
    torch.library.register_vmap(f"fedhq::{_name}", _rule, lib=_LIBRARY)
