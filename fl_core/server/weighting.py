"""Shares of updates in their mean: by examples, alike, or by what an update's noise is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..wire.codec import Update
from ..wire.measure import rounding_variance, squared_norm

LEAST_SAMPLING = 0.01
"""Sampling noise is never taken to be less than this part of the rounding noise."""


def shares_of(weights: Sequence[float]) -> list[float]:
    """Shares that sum up to 1, whatever the order; all 0 if no weight is positive.

    Example:
        >>> shares_of([3, 1]), shares_of([0.0, 0.0])
        ([0.75, 0.25], [0.0, 0.0])
    """
    total = math.fsum(weights)
    return [weight / total if total else 0.0 for weight in weights]


def example_weights(updates: Sequence[Update]) -> list[float]:
    """The examples behind each update."""
    return [float(update.num_examples) for update in updates]


def staleness_weights(updates: Sequence[Update], round_number: int, power: float) -> list[float]:
    """(1 + s) ** -power for an update that is s rounds old (Xie et al., arXiv 1903.03934).

    Args:
        updates: Of this round or earlier ones.
        round_number: The current round.
        power: 0 weighs all alike.
    """
    return [(1.0 + round_number - update.round_number) ** -power for update in updates]


def norm_of(update: Update) -> float:
    """Euclidean norm of an update, all tensors together."""
    return math.sqrt(math.fsum(squared_norm(coded) for coded in update.coded.values()))


def error_aware_weights(updates: Sequence[Update], squared_norm_of_mean: float) -> list[float]:
    """Weights that are inverse to the noise of an update: that of its sample and of its rounding.

    Update i of n_i examples is taken for the common one plus independent noise of variance
    S / n_i + R_i, summed over the elements. R_i, the noise of rounding, is known from the scales
    (`rounding_variance`). S, the noise of one example and of what sets clients apart, is that which
    explains how far the updates lie from their mean u by examples (moments, as DerSimonian & Laird
    1986), with N = sum n_i over the K updates with examples:

        E sum n_i |u_i - u|**2 = (K - 1) S + sum n_i (1 - n_i / N) R_i

    The mean's noise is least at weights 1 / (S / n_i + R_i), here times S: n_i / (1 + n_i R_i / S).
    Without rounding these are the examples. S is at least 1 % of the mean of n_i R_i, so that one
    client that does not round never counts for all only since others happened to agree.

    Args:
        updates: Any widths.
        squared_norm_of_mean: |u|**2.

    Returns:
        A weight for each update, 0 without examples.
    """
    counts = example_weights(updates)
    some, total = sum(n > 0 for n in counts), math.fsum(counts)
    noise = [math.fsum(map(rounding_variance, update.coded.values())) for update in updates]
    if some < 2 or not any(noise):
        return counts
    spread = math.fsum(n * norm_of(u) ** 2 for n, u in zip(counts, updates, strict=True))
    spread -= total * squared_norm_of_mean
    explained = math.fsum(n * (1 - n / total) * r for n, r in zip(counts, noise, strict=True))
    least = LEAST_SAMPLING * math.fsum(n * r for n, r in zip(counts, noise, strict=True)) / some
    sampling = max((spread - explained) / (some - 1), least)
    if sampling == 0:  # whoever rounds holds no example
        return counts
    return [n / (1 + n * r / sampling) for n, r in zip(counts, noise, strict=True)]
