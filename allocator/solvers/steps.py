"""`Steps`: the least total cost of a separable problem as a function of the round time, exact.

For a fixed round time T every client takes its cheapest strategy that ends by T, so the total cost
is a step function of T that falls at some `seconds[i, s]`. In order of its times a client's running
least cost says where its own cost falls and by how much; only these falls are sorted, all together,
and summed up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..check import with_tolerance
from ..problem import AllocationProblem
from .order import each_block, least_costs, places, sort_columns

_FIRST = np.iinfo(np.int64).min  # the sign bit: such a key comes before every time


@dataclass(frozen=True)
class Goal:
    """What is minimised over the steps, and within which limits.

    Args:
        time_weight: Of the round time.
        cost_weight: Of the total cost.
        latest: Longest round time, tolerance included; may be infinite.
        most: Largest total cost, likewise.
    """

    time_weight: float
    cost_weight: float
    latest: float
    most: float

    @classmethod
    def of(cls, problem: AllocationProblem, cost_weight: float) -> Goal:
        """The goal of a problem; its maximum loss is one of the costs."""
        deadline, most = problem.deadline_seconds, problem.max_loss
        return cls(
            problem.time_weight,
            cost_weight,
            np.inf if deadline is None else with_tolerance(deadline),
            np.inf if most is None else with_tolerance(most),
        )

    def value(self, thresholds: FloatArray, costs: FloatArray) -> FloatArray:
        """`(steps,)` the objective."""
        return self.time_weight * thresholds + self.cost_weight * costs

    def best(self, thresholds: FloatArray, costs: FloatArray) -> int | None:
        """The first of the best steps within the limits, if any is."""
        keep = (thresholds <= self.latest) & (costs <= self.most)
        if not keep.any():
            return None
        return int(np.argmin(np.where(keep, self.value(thresholds, costs), np.inf)))


@dataclass(frozen=True, eq=False)
class Steps:
    """The least total cost as a function of the round time, as its steps.

    Args:
        thresholds: `(steps,)` round times in seconds, rising; at least one client takes part.
        costs: `(steps,)` least total cost of an allocation that ends by the threshold, falling.
    """

    thresholds: FloatArray
    costs: FloatArray
    _seconds: FloatArray
    _cost: FloatArray
    _participates: BoolArray

    @classmethod
    def of(
        cls, seconds: FloatArray, cost: FloatArray, allowed: BoolArray, participates: BoolArray
    ) -> Steps:
        """Finds all steps in O(n log n), n = the number of falls, at most clients x strategies.

        Args:
            seconds: `(clients, strategies)`, >= 0; 0 for skip.
            cost: `(clients, strategies)` separable costs.
            allowed: `(clients, strategies)`.
            participates: `(strategies,)` false for skip.

        Example:
            >>> steps = Steps.of(np.array([[1., 2.], [3., 5.]]), np.array([[.1, 0.], [.1, 0.]]),
            ...                  np.ones((2, 2), bool), np.ones(2, bool))
            >>> steps.thresholds, steps.costs
            (array([3., 5.]), array([0.1, 0. ]))
        """
        seconds, cost = masked(seconds, cost, allowed)
        skip = idle(allowed, participates)
        falls = Falls.of(seconds, cost, skip)
        thresholds, costs = falls.steps(falls.floor)
        if skip is not None and falls.first > falls.floor:
            forced, forced_costs = forced_steps(seconds, cost, skip, falls.first)
            late = int(np.searchsorted(thresholds, falls.first))
            thresholds = np.append(forced, thresholds[late:])
            costs = np.append(forced_costs, costs[late:])
        falling = np.append(True, costs[1:] < np.minimum.accumulate(costs)[:-1])
        thresholds, costs = _where(falling, thresholds, costs)
        return cls(thresholds, costs, seconds, cost, participates)

    def within(self, problem: AllocationProblem) -> BoolArray:
        """`(steps,)` which keep the deadline and, where the costs are losses, the maximum loss."""
        keep = np.ones(len(self.thresholds), dtype=bool)
        if problem.deadline_seconds is not None:
            keep &= self.thresholds <= with_tolerance(problem.deadline_seconds)
        if problem.max_loss is not None:
            keep &= self.costs <= with_tolerance(problem.max_loss)
        return keep

    def choose(self, threshold: float) -> IntArray:
        """`(clients,)` the cheapest choice that ends by the threshold; ties go to the fastest."""
        choice = cheapest(self._seconds, self._cost, threshold)
        if not self._participates[choice].any():
            skip = int(np.flatnonzero(~self._participates)[0])
            extra = self._cost - self._cost[:, [skip]]
            extra[(self._seconds > threshold) | ~self._participates] = np.inf
            client, strategy = np.unravel_index(int(np.argmin(extra)), extra.shape)
            choice[client] = strategy
        return choice


def masked(
    seconds: FloatArray, cost: FloatArray, allowed: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """The tables with what is not allowed at the end of time and of no advantage there."""
    if allowed.all():
        return seconds, cost
    return np.where(allowed, seconds, np.inf), np.where(allowed, cost, cost.max())


def idle(allowed: BoolArray, participates: BoolArray) -> int | None:
    """Where in the menu skip is, if every client may skip: then nobody might take part."""
    skips = np.flatnonzero(~participates)
    return int(skips[0]) if skips.size and allowed[:, skips[0]].all() else None


def least_round_time(seconds: FloatArray) -> float:
    """The least time in which every client can do something, in seconds."""
    fastest = each_block(seconds.shape, lambda part: seconds[part].T.copy().min(axis=0).max())
    return float(max(fastest))


def forced_steps(
    seconds: FloatArray, cost: FloatArray, skip: int, before: float
) -> tuple[FloatArray, FloatArray]:
    """Steps below `before`, where all would skip: the one whose taking part costs least goes."""
    client, strategy = np.divmod(np.flatnonzero(seconds < before), seconds.shape[1])
    client, strategy = client[strategy != skip], strategy[strategy != skip]
    times, order = _in_time(seconds[client, strategy])
    extra = (cost[client, strategy] - cost[client, skip])[order]
    final = np.append(times[1:] > times[:-1], True)[: len(times)]
    totals = cost[:, skip].sum() + np.minimum.accumulate(extra)
    return times[final], totals[final]


def cheapest(seconds: FloatArray, cost: FloatArray, threshold: float) -> IntArray:
    """`(clients,)` the cheapest strategy by the threshold, then the fastest, then the first.

    Example:
        >>> cheapest(np.array([[3., 1., 2.]]), np.array([[0., 5., 5.]]), 2.0)
        array([1])
    """
    strategies = seconds.shape[1]
    after = np.nextafter(threshold, np.inf)
    rank = np.arange(strategies, 0, -1, dtype=np.min_scalar_type(strategies))[:, None]
    choice = np.empty(len(seconds), dtype=np.int64)

    def choose(part: slice) -> None:
        # An infinite barrier where a strategy is late, -inf elsewhere: a selection costs far more.
        barrier = np.empty((strategies, part.stop - part.start))
        np.subtract(seconds[part].T, after, out=barrier)
        np.copysign(np.inf, barrier, out=barrier)
        costs = np.maximum(cost[part].T, barrier, out=barrier)
        best = costs == costs.min(axis=0)
        if np.count_nonzero(best) > best.shape[1]:
            times = np.where(best, seconds[part].T, np.inf)
            best = times == times.min(axis=0)
        np.subtract(strategies, (best * rank).max(axis=0), out=choice[part])

    each_block(seconds.shape, choose)
    return choice


@dataclass(frozen=True, eq=False)
class Falls:
    """Where the costs of single clients fall as the round time grows.

    Args:
        floor: Least round time in which every client can do something, in seconds.
        last: Total cost without a limit of the round time.
        times: `(falls,)` in seconds, in no order; some that lie below the floor are left out.
        sizes: `(falls,)` by how much a client's cost falls there, > 0.
    """

    floor: float
    last: float
    times: FloatArray
    sizes: FloatArray

    @classmethod
    def of(cls, seconds: FloatArray, cost: FloatArray, skip: int | None = None) -> Falls:
        """Finds the falls of all clients.

        Args:
            seconds: `(clients, strategies)` as of `masked`.
            cost: `(clients, strategies)` as of `masked`.
            skip: Place in the menu of what comes before all else that takes no time, if anything.
        """

        def find(part: slice) -> Falls:
            time, least = _in_order(seconds[part], cost[part], skip)
            floor, fall = float(time[0].max()), least[:-1] - least[1:]
            found = np.flatnonzero((fall > 0) & (time[1:] >= floor))
            times, sizes = time[1:].ravel().take(found), fall.ravel().take(found)
            return Falls(floor, float(least[-1].sum()), times, sizes)

        parts = each_block(seconds.shape, find)
        return cls(
            floor=max(part.floor for part in parts),
            last=sum(part.last for part in parts),
            times=np.concatenate([part.times for part in parts]),
            sizes=np.concatenate([part.sizes for part in parts]),
        )

    @property
    def first(self) -> float:
        """The first fall, where all start with skip: when somebody takes part of its own accord."""
        return float(np.min(self.times, initial=np.inf))

    def steps(self, start: float, stop: float = np.inf) -> tuple[FloatArray, FloatArray]:
        """Thresholds from a start at or after the floor, rising, and the total cost by each.

        What falls after `stop` is left out of the thresholds and of all totals alike.
        """
        times, sizes = _where((self.times > start) & (self.times <= stop), self.times, self.sizes)
        times, order = _in_time(times)
        thresholds = np.append(start, times)
        # Summed up from the end: the last total is exact, and rounding never makes one negative.
        totals = np.append(sizes.take(order), self.last)
        np.cumsum(totals[::-1], out=totals[::-1])
        return _where(np.append(thresholds[1:] > thresholds[:-1], True), thresholds, totals)


def _where(keep: BoolArray, first: FloatArray, second: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Both where it holds; the arrays themselves where it always does."""
    return (first, second) if keep.all() else (first[keep], second[keep])


def _in_order(
    seconds: FloatArray, cost: FloatArray, skip: int | None
) -> tuple[FloatArray, FloatArray]:
    """`(strategies, clients)` a block's times in order, and the least cost up to each."""
    strategies = seconds.shape[1]
    bits = (strategies - 1).bit_length()
    keys = np.add(seconds.T, 0.0, order="C").view(np.int64)  # + 0.0 makes a zero of -0.0
    keys &= -1 << bits
    keys |= np.arange(strategies)[:, None]
    if skip is not None:
        keys[skip] |= _FIRST
    sort_columns(keys)
    place = places(keys, bits)
    time = seconds.ravel().take(place)
    if (wrong := (time[1:] < time[:-1]).any(axis=0)).any():
        # Times that differ only in the bits which carry the strategy: rare, so sorted plainly.
        order = np.argsort(time[:, wrong], axis=0, kind="stable")
        place[:, wrong] = np.take_along_axis(place[:, wrong], order, axis=0)
        time[:, wrong] = np.take_along_axis(time[:, wrong], order, axis=0)
    return time, least_costs(cost, place)


def _in_time(times: FloatArray) -> tuple[FloatArray, IntArray]:
    """The times >= 0 in order, and the order; ties as they come.

    NumPy sorts integers several times faster than it finds an order. So the place is put into the
    low bits of the times; the few that thereby change sides are put right in a second go, which is
    cheap on what is almost in order.
    """
    low = (1 << max(len(times) - 1, 0).bit_length()) - 1
    keys = (times + 0.0).view(np.int64)
    keys &= ~low
    keys |= np.arange(len(times))
    keys.sort()
    keys &= low
    ordered = times.take(keys)
    if (ordered[1:] < ordered[:-1]).any():
        again = np.argsort(ordered, kind="stable")
        ordered, keys = ordered.take(again), keys.take(again)
    return ordered, keys
