"""Coverage without labels: counts of examples by the nearest of a few centres, in place of classes.

The server finds centres among its own examples and sends them; each client counts which of them its
examples are nearest to. `HybridAllocator` takes these counts as `label_counts`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .arrays import FloatArray, IntArray

_MOST_STEPS = 100


def find_centres(features: ArrayLike, num_centres: int, rng: np.random.Generator) -> FloatArray:
    """Centres of examples by k-means.

    The first are drawn far apart (k-means++); then examples and centres are matched in turn until
    nothing changes. A centre that no example is nearest to stays where it is.

    Args:
        features: `(examples, ...)` what examples look like: inputs, or what a network makes of
            them; all that follows the first axis is one vector.
        num_centres: At most as many as there are examples.
        rng: Draws.

    Returns:
        `(centres, features)`.

    Raises:
        ValueError: If there are fewer examples than centres, or a feature is not finite.

    References:
        D. Arthur, S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA, 2007.

    Example:
        >>> found = find_centres([[0.0], [0.2], [5.0], [5.2]], 2, np.random.default_rng(0))
        >>> np.sort(found, axis=0).round(1)
        array([[0.1],
               [5.1]])
    """
    points = _vectors("features", features)
    if not 1 <= num_centres <= len(points):
        raise ValueError(
            "`1 <= num_centres <= examples` must hold, but got "
            f"{num_centres} for {len(points)} examples."
        )
    centres = _far_apart(points, num_centres, rng)
    nearest = np.full(len(points), -1)
    for _ in range(_MOST_STEPS):
        found = _squares(points, centres).argmin(axis=1)
        if (found == nearest).all():
            break
        nearest = found
        for k in np.unique(nearest):
            centres[k] = points[nearest == k].mean(axis=0)
    return centres


def feature_counts(features: ArrayLike, centres: ArrayLike) -> IntArray:
    """How many of a client's examples are nearest to each centre.

    Args:
        features: `(examples, ...)` of the client, made as the server made its own.
        centres: `(centres, features)` of `find_centres`.

    Returns:
        `(centres,)` counts: a client's row of `label_counts`.

    Raises:
        ValueError: If the sizes differ, or a feature is not finite.

    Example:
        >>> feature_counts([[0.3], [4.0], [9.0]], [[0.1], [5.1]])
        array([1, 2])
    """
    at = _vectors("centres", centres)
    if not len(np.asarray(features)):
        return np.zeros(len(at), dtype=np.int64)
    points = _vectors("features", features)
    if points.shape[1] != at.shape[1]:
        raise ValueError(
            f"`features` must have {at.shape[1]} numbers an example, as centres have, but has "
            f"{points.shape[1]}."
        )
    nearest = _squares(points, at).argmin(axis=1)
    return np.bincount(nearest, minlength=len(at)).astype(np.int64)


def _vectors(name: str, values: ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim < 2 or not array.size:
        raise ValueError(
            f"`{name}` must be a row of numbers an example, but its shape is {array.shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite, but a value is NaN or infinite.")
    return array.reshape(len(array), -1)


def _far_apart(points: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    centres = [points[rng.integers(len(points))]]
    while len(centres) < count:
        far = _squares(points, np.array(centres)).min(axis=1)
        total = far.sum()
        chances = far / total if total > 0 else np.full(len(points), 1 / len(points))
        centres.append(points[rng.choice(len(points), p=chances)])
    return np.array(centres)


def _squares(points: FloatArray, centres: FloatArray) -> FloatArray:
    """`(examples, centres)` squared distances; rounding may not make them negative."""
    squares = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    return np.asarray(squares.clip(min=0.0))
