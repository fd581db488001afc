"""The area that points of two measures dominate, and up to where it is taken."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np

from ...allocator.arrays import FloatArray

_MARGIN = 0.1  # of the frontier's extent: how far beyond its ends hypervolumes reach


def corner_of(frontier: FloatArray) -> tuple[float, float]:
    """Beyond a frontier's slowest and least accurate point by a tenth of its extent.

    Args:
        frontier: `(points, 2)`, less is better.

    Example:
        >>> corner_of(np.array([[1.0, 0.5], [3.0, 0.0]]))
        (3.2, 0.55)
    """
    low, high = frontier.min(axis=0), frontier.max(axis=0)
    extent = np.where(high > low, high - low, np.where(high > 0, high, 1.0))
    seconds, loss = high + _MARGIN * extent
    return float(seconds), float(loss)


def hypervolumes(points: FloatArray, corner: tuple[float, float]) -> FloatArray:
    """The area that the first 1, 2, ... points dominate together, up to a corner.

    Args:
        points: `(points, 2)`, less is better; those beyond the corner, infinite ones too, add 0.
        corner: The worst of both.

    Returns:
        `(points,)` areas, never falling.

    Example:
        >>> hypervolumes(np.array([[1.0, 2.0], [2.0, 1.0], [2.5, 2.5]]), (3.0, 3.0))
        array([2., 3., 3.])
    """
    areas = np.zeros(len(points))
    xs: list[float] = []  # the points that none so far dominates: rising, and their y falling
    ys: list[float] = []
    area = 0.0
    for k, (x, y) in enumerate(points.tolist()):
        before = bisect_right(xs, x)
        above = ys[before - 1] if before else corner[1]
        if x < corner[0] and y < above:
            first = bisect_left(xs, x)
            area += _added(x, y, xs, ys, before, corner)
            end = first
            while end < len(xs) and ys[end] >= y:
                end += 1
            xs[first:end], ys[first:end] = [x], [y]
        areas[k] = area
    return areas


def _added(
    x: float, y: float, xs: list[float], ys: list[float], k: int, corner: tuple[float, float]
) -> float:
    """What a new point adds: rectangles down to its y, as wide as each step of the front."""
    above = ys[k - 1] if k else corner[1]
    area = 0.0
    while above > y:
        end = xs[k] if k < len(xs) else corner[0]
        area += (end - x) * (above - y)
        if k == len(xs):
            break
        x, above, k = end, ys[k], k + 1
    return area
