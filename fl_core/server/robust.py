"""Combining updates weight by weight, so that a hostile minority moves little.

Yin et al., arXiv 1803.01498: the coordinate-wise median and trimmed mean. Both are unweighted: a
claim of many examples buys no influence. A stretch of all updates is decoded at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..weights import Weights
from ..wire.codec import Update
from ..wire.measure import decode_range
from ..wire.rounding import Float32Array

BLOCK_VALUES = 1 << 20
"""Floats that are held at a time, whatever the number of clients and the size of the model."""

_Combine = Callable[[Float32Array], Float32Array]


def median_change(
    template: Weights, updates: Sequence[Update], factors: Sequence[float]
) -> Weights:
    """The median of factor * update, of every weight apart; of two middle values their mean.

    Args:
        template: Weights of the model; only names and shapes are read.
        updates: Decoded updates, at least one.
        factors: One for each of them.

    Returns:
        float32, by name.
    """

    def combine(values: Float32Array) -> Float32Array:
        low, high = (len(updates) - 1) // 2, len(updates) // 2
        ordered = np.sort(values, axis=-1)  # faster than np.partition, twice for 100
        middle: Float32Array = (ordered[:, low] + ordered[:, high]) / np.float32(2)
        return middle

    return _combine(template, updates, factors, combine)


def trimmed_mean_change(
    template: Weights, updates: Sequence[Update], factors: Sequence[float], trim: float
) -> Weights:
    """The mean of factor * update without the least and greatest, of every weight apart.

    Args:
        template: Weights of the model; only names and shapes are read.
        updates: Decoded updates, at least one.
        factors: One for each of them.
        trim: Share cut at each end, below .5; rounded down.

    Returns:
        float32, by name.
    """
    cut = int(round(trim * len(updates), 9))  # .29 of 100 is 29

    def combine(values: Float32Array) -> Float32Array:
        kept = np.sort(values, axis=-1)[:, cut : len(updates) - cut]
        mean: Float32Array = kept.mean(axis=-1, dtype=np.float64).astype(np.float32)
        return mean

    return _combine(template, updates, factors, combine)


def _combine(
    template: Weights, updates: Sequence[Update], factors: Sequence[float], combine: _Combine
) -> Weights:
    """Applies `combine`, `(weights, updates)` -> `(weights,)`, to all weights."""
    size = max(BLOCK_VALUES // len(updates), 1)
    changes: Weights = {}
    for name, values in template.items():
        change = np.zeros(values.size, np.float32)
        for start in range(0, values.size, size):
            stop = min(start + size, values.size)
            block = np.empty((stop - start, len(updates)), np.float32)
            for k, (update, factor) in enumerate(zip(updates, factors, strict=True)):
                part = decode_range(update.coded[name], start, stop)
                np.multiply(part, np.float32(factor), out=block[:, k])
            block += np.float32(0)  # no -0.0, which sorts as it comes
            change[start:stop] = combine(block)
        changes[name] = change.reshape(values.shape)
    return changes
