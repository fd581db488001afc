"""Statistics of what solvers took and left: quartiles, and a mean of times."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SHIFT_SECONDS = 0.01
"""Added to times before their geometric mean, and taken off after: what is below does not count."""


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles and the largest value.

    Example:
        >>> Spread.of([4.0, 1.0, 2.0, 3.0, 5.0])
        Spread(median=3.0, low=2.0, high=4.0, most=5.0)
    """

    median: float
    low: float
    high: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """That of the values that there are; None if there are none."""
        known = sorted(v for v in values if v is not None)
        if not known:
            return None
        low, median, high = (_quantile(known, share) for share in (0.25, 0.5, 0.75))
        return cls(median, low, high, known[-1])


def _quantile(rising: Sequence[float], share: float) -> float:
    """As NumPy's, but infinite, not NaN, between a number and an infinite one."""
    place = share * (len(rising) - 1)
    below = int(place)
    part = place - below
    return (1.0 - part) * rising[below] + part * rising[below + 1] if part else rising[below]


def shifted_geometric_mean(seconds: Sequence[float], shift: float = SHIFT_SECONDS) -> float:
    """`exp(mean(log(seconds + shift))) - shift`: a mean that neither end rules.

    Example:
        >>> round(shifted_geometric_mean([0.01, 0.07]), 9)  # sqrt(0.02 * 0.08) - 0.01
        0.03
    """
    return math.exp(statistics.fmean(math.log(t + shift) for t in seconds)) - shift
