"""Which values of a weight share a scale; named as in torchao."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole weight."""

    def scale_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the scales of a weight of this shape.

        Example:
            >>> PerTensor().scale_shape((8, 3, 3, 3))
            ()
        """
        return ()


@dataclass(frozen=True)
class PerAxis:
    """One scale for each output channel (dim 0), or for each token of an embedding."""

    def scale_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the scales of a weight of this shape.

        Example:
            >>> PerAxis().scale_shape((8, 3, 3, 3))
            (8,)
        """
        return (shape[0],)


@dataclass(frozen=True)
class PerGroup:
    """One scale for each group of neighbouring values of a channel.

    Args:
        group_size: Values of a group; a channel that is no multiple of it has one scale.
    """

    group_size: int

    def __post_init__(self) -> None:
        if not isinstance(self.group_size, int) or self.group_size < 1:
            raise ValueError(f"`group_size >= 1` must hold, but got {self.group_size!r}.")

    def scale_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the scales of a weight of this shape.

        Example:
            >>> PerGroup(32).scale_shape((8, 96)), PerGroup(32).scale_shape((8, 27))
            ((8, 3), (8,))
        """
        channels, *rest = shape
        size = 1
        for dim in rest:
            size *= dim
        return (channels, size // self.group_size) if size % self.group_size == 0 else (channels,)


Granularity = PerTensor | PerAxis | PerGroup

PER_CHANNEL = PerAxis()
"""One scale for each output channel: the rule."""
