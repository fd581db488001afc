"""Tensors as rows, one for each scale: what the operators of `ops` work on."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def as_rows(x: Tensor, scale_shape: Sequence[int]) -> Tensor:
    """The values in rows, one for each scale, `(rows, cols)`, contiguous.

    Args:
        x: Values of any shape; channels first unless there is one scale.
        scale_shape: `()`, `(channels,)`, or `(channels, groups)`.

    Raises:
        ValueError: If the values cannot be put into rows so.

    Example:
        >>> import torch
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
