"""The search over round times that `Dual` and `Exact` share.

Every price vector bounds every threshold (`Thresholds.bounds`), so one climb at a good threshold
settles nearly all others. The open threshold with the least bound is climbed next; its prices raise
the bounds around it, and its recovered allocation lowers the upper bound, until the two meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..arrays import IntArray
from ..check import violations
from ..problem import AllocationProblem
from ..solution import Answer, Prices, Status
from .ascent import Peak, ascend
from .recovery import Recovery
from .relaxation import Relaxation
from .thresholds import Thresholds

_SMALL = 4_000  # clients up to which the search does not start from a sample
_THINNING = 16  # a sample holds one of so many clients
_ROUNDING = 1e-12  # of sums, in units
_COARSE = 0.05  # of what is open: no climb needs to be more precise
_FINEST = 2e-6  # of the bound: below, allocations differ by more than the bound may gain
_SAMPLE_GAP = 1e-4
_DENSE = 100.0  # clients within the width at first
_MOST_CLIMBS = 40
_AROUND = 6  # thresholds at which an allocation is sought at last
_FAR = 0.01  # of the bound: beyond, a peak's prices say little of a threshold
_PROVEN = 1e-8  # relative: as near as HiGHS can tell
_PRICED, _DUST = 1e-5, 30.0  # precision of reported prices, relative; least price over barrier


class Bounds:
    """What is known of a relaxation: a bound for every threshold, and the prices behind it.

    Args:
        relaxation: The priced problem; every client can do something.
        gap: Relative gap that is asked for; climbs are as precise as that needs.
        enough: In units, as of `Search`.
    """

    def __init__(self, relaxation: Relaxation, gap: float, enough: float = -np.inf) -> None:
        self.relaxation = relaxation
        self.thresholds = Thresholds.of(relaxation)
        self.upper = np.inf
        self.peaks: dict[int, Peak] = {}
        self._gap = gap
        self._climbs = 0
        self.enough = enough
        self.lower = self.thresholds.bounds(np.zeros(relaxation.num_prices))
        # No allocation costs more: a bound above it proves that there is none.
        self.ceiling = float(self.lower.min()) + 1.0 + 1e-6
        self._first = self._sampled() if len(relaxation.base) > _SMALL else None

    @property
    def bound(self) -> float:
        """What is proven, in units."""
        return float(self.lower.min())

    @property
    def slack(self) -> float:
        """By how much, in units, the bound may stay below the upper one."""
        size = self.upper if np.isfinite(self.upper) else abs(self.bound)
        return self._gap * abs(size) + _ROUNDING * max(1.0, abs(size))

    @property
    def goal(self) -> float:
        """A threshold with a bound up to here is done with."""
        if self.upper <= self.enough:
            return -np.inf
        return min(self.upper - self.slack, self.above, self.ceiling)

    @property
    def above(self) -> float:
        """What need not be looked for: an objective beyond what is enough."""
        return self.enough * (1 + _PROVEN) if np.isfinite(self.enough) else np.inf

    def next_threshold(self) -> int | None:
        """The open threshold to climb next; None where no climb can raise the bound."""
        if self.bound >= self.goal or self._climbs >= _MOST_CLIMBS:
            return None
        if self._first is not None and not self.peaks:
            return int(np.searchsorted(self.thresholds.times[:-1], self._first[0]))
        least = int(self.lower.argmin())
        if least in self.peaks:
            finer = max(self._finest, _COARSE * (self.upper - self.bound))
            return least if self.peaks[least].precision > finer else None
        return self._between(least)

    def _between(self, least: int) -> int:
        """Half-way to the nearest peak while much is open: far from a peak its bounds are loose."""
        if not self.peaks:
            return len(self.lower) // 2
        near = min(self.peaks, key=lambda k: (abs(k - least), k))
        if self.peaks[near].bound - self.bound < _FAR * abs(self.peaks[near].bound):
            return least
        middle = (near + least) // 2
        return least if middle in self.peaks else middle

    @property
    def _finest(self) -> float:
        return max(self.slack / 4, _FINEST * abs(self.bound))

    def climb(self, k: int) -> Peak:
        """Finds the best prices for a threshold and what they say of all."""
        time = float(self.thresholds.times[k])
        open_yet = min(self.upper, self.ceiling) - self.bound
        precision = max(self._finest, _COARSE * min(open_yet, 0.1 * abs(self.bound)))
        if k in self.peaks and np.isfinite(self.peaks[k].precision):
            precision = max(self._finest, self.peaks[k].precision / 20)
        peak = ascend(
            self.relaxation,
            time,
            self._start(k),
            precision,
            min(self.upper, self.above, self.ceiling),
        )
        self._climbs += 1
        self.peaks[k] = peak
        self.lower = np.maximum(self.lower, self.thresholds.bounds(peak.prices) - _ROUNDING)
        return peak

    def _start(self, k: int) -> Peak | None:
        if self.peaks:
            start = self.nearest_peak(k)
        elif self._first is not None:
            start = self._first[1]
        else:
            return None
        clients = len(self.relaxation.base)
        if clients <= _SMALL:
            return start
        # So narrow that hardly a client lies within it, a smoothing has no curvature to go by.
        return replace(start, width=max(start.width, _DENSE / clients))

    def nearest_peak(self, k: int) -> Peak:
        """The peak of the nearest threshold that was climbed to the top, if any was."""
        tops = [other for other, peak in self.peaks.items() if np.isfinite(peak.precision)]
        return self.peaks[min(tops or self.peaks, key=lambda other: (abs(other - k), other))]

    def prices(self, k: int) -> Prices:
        """Prices at a threshold, by what they are for; precise in all but large problems."""
        near, peak = self.nearest_peak(k), self.peaks.get(k)
        if peak is None or peak.precision > _PRICED * abs(self.bound):
            peak = near
            if len(self.relaxation.base) <= _SMALL:
                time = float(self.thresholds.times[k])
                peak = ascend(self.relaxation, time, near, _PRICED * abs(self.bound))
        # A limit that does not bind has a price too, since the barrier keeps prices above 0.
        barrier = peak.width / max(self.relaxation.big_parts, 1)
        dust = max(_DUST * barrier, _PRICED * abs(self.bound))
        return self.relaxation.named(np.where(peak.prices > dust, peak.prices, 0.0))

    def _sampled(self) -> tuple[float, Peak]:
        """The best round time and its prices for a sample of the clients, itself sampled so."""
        rows = np.arange(0, len(self.relaxation.base), _THINNING)
        sample = Bounds(self.relaxation.sampled(rows), _SAMPLE_GAP)
        while (k := sample.next_threshold()) is not None:
            sample.climb(k)
        k = min(sample.peaks, key=lambda k: (sample.peaks[k].bound, k))
        peak = sample.peaks[k]
        first = replace(peak, precision=np.inf)
        return float(sample.thresholds.times[k]), first


class Search:
    """Bounds, and the best allocation so far."""

    def __init__(self, problem: AllocationProblem, bounds: Bounds) -> None:
        self.problem = problem
        self.bounds = bounds
        self.choice: IntArray | None = None

    @classmethod
    def of(cls, problem: AllocationProblem, gap: float, enough: float = -np.inf) -> Search | None:
        """Prepares a search; None if a client can do nothing before the deadline.

        Args:
            problem: Without groups, with a goal.
            gap: Relative gap that is asked for.
            enough: An objective that is good enough; and to know that none is as good is enough.

        Raises:
            ValueError: If the problem does not say what to minimise.
        """
        relaxation = Relaxation.of(problem)
        if not relaxation.usable.any(axis=1).all():
            return None
        return cls(problem, Bounds(relaxation, gap, enough / relaxation.unit))

    def run(self, is_late: Callable[[], bool] = lambda: False, kicks: int = 0) -> None:
        """Climbs and recovers until the gap is reached, no climb helps, or it is late.

        Args:
            is_late: Asked after every climb.
            kicks: Of every recovery at last.
        """
        while not self.is_infeasible and (k := self.bounds.next_threshold()) is not None:
            self.recover(k, self.bounds.climb(k), in_pairs=False)
            if is_late():
                break
        if not self.is_infeasible and self.bounds.peaks:
            self._recover_around(kicks)

    @property
    def is_infeasible(self) -> bool:
        """Whether it is proven that no allocation keeps every limit."""
        return self.choice is None and self.bounds.bound >= self.bounds.ceiling

    @property
    def is_proven(self) -> bool:
        """Whether the best allocation is optimal."""
        missing = self.bounds.upper - self.bounds.bound
        return missing <= _PROVEN * abs(self.bounds.upper) + 2 * _ROUNDING

    def recover(self, k: int, peak: Peak, in_pairs: bool = True, kicks: int = 0) -> None:
        """Looks for an allocation within a threshold, from prices of it or of one nearby."""
        bounds = self.bounds
        if bounds.lower[k] >= bounds.upper - bounds.slack:
            return
        mask = bounds.relaxation.within(float(bounds.thresholds.times[k]))
        for width in (None, peak.width) if bounds.relaxation.curves.has_leads else (None,):
            recovery = Recovery(bounds.relaxation, peak.prices, mask, width)
            recovery.improve(in_pairs)
            recovery.kick(kicks)
            self.offer(recovery.choice)

    def _recover_around(self, kicks: int) -> None:
        """Tries the thresholds of least bound: rounding is luck, and they are many tickets."""
        bounds = self.bounds
        for k in np.argsort(bounds.lower, kind="stable")[:_AROUND]:
            self.recover(int(k), bounds.nearest_peak(int(k)), kicks=kicks)

    def offer(self, choice: IntArray) -> None:
        """Takes a choice if it keeps all limits and is better than the present one."""
        value = self.problem.objective(choice) / self.bounds.relaxation.unit
        if value < self.bounds.upper and not violations(self.problem, choice):
            self.choice, self.bounds.upper = choice.copy(), value

    def _best_threshold(self) -> int:
        """Where the best allocation stands, or the bound if there is none."""
        bounds = self.bounds
        if self.choice is None:
            return int(bounds.lower.argmin())
        times = bounds.thresholds.times
        return int(np.searchsorted(times[:-1], self.problem.round_seconds(self.choice)))

    def answer(self, message: str) -> Answer:
        """What is known, as a claim."""
        if self.is_infeasible:
            return Answer(Status.INFEASIBLE)
        bounds, unit = self.bounds, self.bounds.relaxation.unit
        bound = bounds.bound * unit
        if self.choice is not None and bounds.bound >= bounds.upper:
            bound = self.problem.objective(self.choice)
        prices = bounds.prices(self._best_threshold()) if bounds.peaks else None
        if self.choice is None:
            return Answer(Status.UNKNOWN, None, bound, prices, message)
        status = Status.OPTIMAL if self.is_proven else Status.FEASIBLE
        return Answer(status, self.choice, bound, prices, message)
