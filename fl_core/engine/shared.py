"""Weights in shared memory: written by one process, read by others, never pickled."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
import torch

from ..weights import Weights


class SharedWeights:
    """One block of shared memory that holds float32 arrays of fixed names and shapes.

    Args:
        shapes: Name to shape.
        places: How many of each.

    Example:
        >>> block = SharedWeights({"w": (2,)})
        >>> block.write({"w": np.array([1, 2], np.float32)})
        >>> block.read()
        {'w': array([1., 2.], dtype=float32)}
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], places: int = 1) -> None:
        self._shapes = dict(shapes)
        size = sum(prod(shape) for shape in self._shapes.values())
        self._block = torch.zeros(places, size).share_memory_()  # type: ignore[no-untyped-call]

    def write(self, weights: Weights, place: int = 0) -> None:
        """Copies arrays in."""
        for name, view in self._views(place).items():
            view[...] = weights[name]

    def read(self, place: int = 0) -> Weights:
        """Copies the arrays out."""
        return {name: view.copy() for name, view in self._views(place).items()}

    def _views(self, place: int) -> Weights:
        flat = self._block[place].numpy()
        views: Weights = {}
        start = 0
        for name, shape in self._shapes.items():
            end = start + prod(shape)
            views[name] = np.reshape(flat[start:end], shape)
            start = end
        return views
