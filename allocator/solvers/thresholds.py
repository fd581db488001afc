"""The sweep as an oracle: the relaxation's bound for every round time at once, given the prices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray, IntArray
from .relaxation import Relaxation


@dataclass(frozen=True, eq=False)
class Thresholds:
    """The round times that can be optimal, and how clients' choices lie among them.

    Args:
        times: `(thresholds,)` seconds, rising, from the straggler floor on.
    """

    times: FloatArray
    _relaxation: Relaxation
    _order: IntArray
    _possible: FloatArray
    _place: IntArray

    @classmethod
    def of(cls, relaxation: Relaxation) -> Thresholds:
        """Sorts the times once; a client with nothing usable leaves no threshold."""
        seconds = np.where(relaxation.usable, relaxation.seconds, np.inf)
        order = np.argsort(seconds, axis=1, kind="stable")
        times = np.take_along_axis(seconds, order, axis=1)
        floor = float(times[:, 0].max())
        distinct = np.unique(times[(times >= floor) & np.isfinite(times)])
        if relaxation.problem.time_weight == 0:
            distinct = distinct[-1:]  # time costs nothing: the last one allows most
        place = np.searchsorted(distinct, times[:, 1:]).ravel()
        possible = np.where(np.isfinite(times), 0.0, np.inf)
        return cls(distinct, relaxation, order, possible, place)

    def bounds(self, prices: FloatArray) -> FloatArray:
        """`(thresholds,)` D with the time term, in units: what no allocation is below."""
        relaxation, count = self._relaxation, len(self.times)
        cost = np.take_along_axis(relaxation.priced(prices), self._order, axis=1)
        cost += self._possible
        np.minimum.accumulate(cost, axis=1, out=cost)
        first = float(cost[:, 0].sum())
        falls = np.diff(cost, axis=1).ravel()
        # A time beyond the last threshold is that of a forbidden choice: nothing falls there.
        steps = np.bincount(self._place, weights=falls, minlength=count)[:count]
        time = relaxation.problem.time_weight * self.times / relaxation.unit
        return np.asarray(first + np.cumsum(steps) + relaxation.constant(prices) + time)
