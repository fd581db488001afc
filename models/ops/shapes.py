"""What the operators of `library` return, without the values: for tracing and the meta device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .sizes import mask_bytes, packed_bytes


def _grid_like(x: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.new_empty(x.shape[0], dtype=dtype), x.new_empty(x.shape[0], dtype=torch.int32)


def dynamic(x: Tensor, qmin: int, qmax: int, symmetric: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Of the operator's results."""
    return torch.empty_like(x), *_grid_like(x)


def static(
    x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int, with_mask: bool
) -> tuple[Tensor, Tensor]:
    """Of the operator's results."""
    size = mask_bytes(x.numel()) if with_mask else 0
    return torch.empty_like(x), x.new_empty(size, dtype=torch.uint8)


def mask_gradient(grad: Tensor, mask: Tensor) -> Tensor:
    """Of the operator's results."""
    return torch.empty_like(grad)


def learned(
    grad: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the operator's results."""
    return torch.empty_like(x), torch.empty_like(scale), torch.empty_like(scale)


def fit(
    x: Tensor, qmin: int, qmax: int, symmetric: bool, ratios: Tensor, stride: int
) -> tuple[Tensor, Tensor]:
    """Of the operator's results."""
    return _grid_like(x)


def fitted(
    x: Tensor,
    qmin: int,
    qmax: int,
    symmetric: bool,
    ratios: Tensor,
    stride: int,
    with_mask: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of the operator's results."""
    mask = x.new_empty(mask_bytes(x.numel()) if with_mask else 0, dtype=torch.uint8)
    return torch.empty_like(x), mask, *_grid_like(x)


def weights(
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    mask: Sequence[Tensor],
    bits: Sequence[int],
    ratios: Tensor,
) -> None:
    """Of the operator's results."""
    return None


def pack(x: Tensor, residual: Tensor | None, wire_bits: int, key: int) -> tuple[Tensor, Tensor]:
    """Of the operator's results."""
    size = packed_bytes(x.numel(), wire_bits)
    return x.new_empty(size, dtype=torch.uint8), x.new_empty(x.shape[0])


def unpack(packed: Tensor, wire_bits: int, total: int) -> Tensor:
    """Of the operator's results."""
    return packed.new_empty(total)


def unpack_add(
    packed: Sequence[Tensor],
    scales: Sequence[Tensor],
    weights: Sequence[float],
    wire_bits: int,
    total: Tensor,
) -> None:
    """Of the operator's results."""
    return None
