"""A window of round times outside of which no optimum of a large separable problem can lie.

The objective at round time T is F(T) = w T + v M(T), M the least total cost by T, which falls. In a
bin [a, b) of round times nothing is better than w a + v M(b), and F(b) = w b + v M(b) is reached
just before b. So one pass over the clients that adds up the falls of M by bins, without sorting
them, gives an upper bound of the optimum and excludes every bin whose lower bound is above it.

That leaves few bins if they are narrow where F is nearly flat. Around its optimum F grows like the
square of the distance, so bins may be wider the farther they lie from it: their width is a fixed
share of the distance from a guess, the optimum of a sample of the clients. A bad guess makes the
window wide, never wrong. Only the clients with a time in the window are then swept exactly: what
the others cost is constant there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import FloatArray, IntArray
from ..problem import AllocationProblem
from .order import each_block, least_costs, places, sort_columns
from .steps import (
    Falls,
    Goal,
    Steps,
    forced_steps,
    idle,
    least_round_time,
    masked,
)

_SAMPLE = 8192  # about so many clients' optimum is the guess ...
_SPARSEST = 8  # ... but no more than one in 8
_FAR = 8.0  # the longest sensible round time is at most so many times the scale of the bins
_NEAREST = 2.0**-12  # share of the scale from which distances are told apart ...
_OCTAVES = 16  # ... over so many doublings ...
_FINENESS = 8  # ... each cut into 2**8 bins
_SHIFT = 20 - _FINENESS  # bits of a float's upper half that say nothing about the bin
_SIDE = _OCTAVES << _FINENESS  # bins on either side of the guess
_UPPER_HALF = slice(int(sys.byteorder == "little"), None, 2)

MAX_STRATEGIES = 1 << _SHIFT
"""Those bits carry the strategy."""

_SLACK = 1e-9  # relative; far above the rounding errors of the sums, far below what matters


@dataclass(frozen=True, eq=False)
class Window:
    """A span of round times that holds every optimum.

    Args:
        guess: Round time from which offsets are measured, in seconds.
        low: Least offset in the window.
        high: Least offset above it.
        total: Total cost of all clients just below `high`.
        floor: Least round time of all.
    """

    guess: float
    low: float
    high: float
    total: float
    floor: float

    @classmethod
    def around_optimum(
        cls, seconds: FloatArray, cost: FloatArray, goal: Goal, floor: float
    ) -> Window | None:
        """Finds a window in one pass over the clients.

        Args:
            seconds: `(clients, strategies)` as of `masked`.
            cost: `(clients, strategies)` as of `masked`, >= 0.
            goal: What is minimised.
            floor: Least round time in which every client can do something, in seconds.

        Returns:
            None if no round time keeps the goal's limits.
        """
        bins = _Bins(*_guess(seconds, cost, goal, floor))
        falls, last = bins.falls(seconds, cost)
        totals = np.append(falls[1:], last)[::-1].cumsum()[::-1]  # just before the end of each bin
        starts, ends = bins.guess + bins.edges[:-1], bins.guess + bins.edges[1:]
        first = int(np.searchsorted(bins.edges, floor - bins.guess, side="right")) - 1
        place = np.arange(len(falls))
        sure = (place >= first) & np.isfinite(ends) & (ends * (1 + _SLACK) <= goal.latest)
        sure &= totals * (1 + _SLACK) <= goal.most
        upper = float(np.min(goal.value(ends[sure], totals[sure]), initial=np.inf))
        lower = goal.value(np.maximum(starts, floor), totals)
        left = (place == first) | ((place > first) & (falls > 0))
        left &= (lower <= upper * (1 + _SLACK)) & (starts <= goal.latest)
        left &= totals <= goal.most * (1 + _SLACK)
        if not left.any():
            return None
        low, high = np.flatnonzero(left)[[0, -1]]
        offsets = float(bins.edges[low]), float(bins.edges[high + 1])
        return cls(bins.guess, *offsets, float(totals[high]), floor)

    def steps(self, seconds: FloatArray, cost: FloatArray) -> tuple[FloatArray, FloatArray]:
        """All thresholds in the window, rising, and the least total cost by each."""
        early = self.guess + self.low - _SLACK * (self.guess + abs(self.low))
        late = self.guess + self.high + _SLACK * (self.guess + abs(self.high))
        clients = _present(seconds, early, late)
        if 2 * len(clients) < len(seconds):
            seconds, cost = seconds[clients], cost[clients]
        falls = Falls.of(seconds, cost)
        thresholds, costs = falls.steps(max(early, self.floor), late)
        start, end = np.searchsorted(thresholds - self.guess, [self.low, self.high])
        # What the others cost is constant in the window.
        return thresholds[start:end], costs[start:end] + (self.total - costs[end - 1])


def _present(seconds: FloatArray, low: float, high: float) -> IntArray:
    """The clients with a time from low to high."""

    def find(part: slice) -> IntArray:
        inside = seconds[part] >= low
        inside &= seconds[part] <= high
        clients: IntArray = np.flatnonzero(inside) // seconds.shape[1] + part.start
        return clients[np.diff(clients, prepend=-1) > 0]

    found: IntArray = np.concatenate(each_block(seconds.shape, find))
    return found


def steps_near_optimum(problem: AllocationProblem, cost: FloatArray, goal: Goal) -> Steps:
    """The steps of a large problem in a window that holds the best; none if it is infeasible.

    Args:
        problem: The problem.
        cost: `(clients, strategies)` its separable costs, >= 0.
        goal: What is minimised.
    """
    seconds, cost = masked(problem.seconds, cost, problem.allowed)
    skip = idle(problem.allowed, problem.participates)
    floor = least_round_time(seconds) if skip is None else 0.0
    thresholds, costs = _near(seconds, cost, goal, floor)
    best = goal.best(thresholds, costs)
    # At T = 0 perhaps nobody takes part; later somebody does, for the cost falls there.
    if skip is not None and best is not None and thresholds[best] == 0:
        first = _first_participation(seconds, cost, skip)
        forced, forced_costs = forced_steps(seconds, cost, skip, first)
        thresholds, costs = _near(seconds, cost, goal, first)
        thresholds, costs = np.append(forced, thresholds), np.append(forced_costs, costs)
    return Steps(thresholds, costs, seconds, cost, problem.participates)


def _near(
    seconds: FloatArray, cost: FloatArray, goal: Goal, floor: float
) -> tuple[FloatArray, FloatArray]:
    window = Window.around_optimum(seconds, cost, goal, floor) if np.isfinite(floor) else None
    return (np.empty(0), np.empty(0)) if window is None else window.steps(seconds, cost)


def _first_participation(seconds: FloatArray, cost: FloatArray, skip: int) -> float:
    """The least time at which taking part pays for some client; infinite if it never does."""

    def find(part: slice) -> float:
        own = cost[part] < cost[part, [skip]]
        return float(np.min(seconds[part][own], initial=np.inf))

    return min(each_block(seconds.shape, find))


def _guess(seconds: FloatArray, cost: FloatArray, goal: Goal, floor: float) -> tuple[float, float]:
    """The optimal round time of every k-th client, as if the others were like them; and a scale.

    The scale is the guess, but not far below the longest round time that can be an optimum.
    """
    step = max(_SPARSEST, len(seconds) // _SAMPLE)
    times, losses = np.ascontiguousarray(seconds[::step]), cost[::step] * 1.0
    thresholds, costs = Falls.of(times, losses).steps(floor)
    costs *= len(cost) / len(losses)
    best = goal.best(thresholds, costs)
    place = -1 if best is None else best
    guess = min(float(thresholds[place]), goal.latest)
    longest = guess + goal.cost_weight * float(costs[place] - costs[-1])
    return guess, max(guess, longest / _FAR) if goal.time_weight > 0 else guess


class _Bins:
    """Bins of round times whose width is a fixed share of their distance from a guess.

    The bits of a float, read as an integer, are its logarithm in straight pieces; those of the
    distance from the guess are cut off to give the bin.

    Args:
        guess: Round time in seconds.
        scale: Of the distances, in seconds.
    """

    def __init__(self, guess: float, scale: float) -> None:
        self.guess = guess
        nearest, infinite = np.array([scale * _NEAREST, np.inf]).view(np.int64) >> 32
        self._nearest = np.int32(min(nearest, infinite - (_SIDE << _SHIFT)))
        bits = (int(self._nearest) + (np.arange(1, _SIDE) << _SHIFT)) << 32
        left = -(bits - 1).view(np.float64)[::-1]
        self.edges = np.concatenate([[-np.inf], left, [0.0], bits.view(np.float64), [np.inf]])
        """`(bins + 1,)` the least offset from the guess in each bin, and infinity."""

    def falls(self, seconds: FloatArray, cost: FloatArray) -> tuple[FloatArray, float]:
        """`(bins,)` by how much the total cost falls in each, and what it is in the end."""

        def add(part: slice) -> tuple[FloatArray, float]:
            keys = self._keys(seconds[part])
            sort_columns(keys)
            place = places(keys, _SHIFT)
            least = least_costs(cost[part], place)
            bins, fall = place[1:], least[:-1] - least[1:]
            np.right_shift(keys[1:], _SHIFT, out=bins)
            sizes = np.bincount(bins.ravel(), fall.ravel(), 2 * _SIDE).astype(np.float64)
            return sizes, float(least[-1].sum())

        sizes, last = zip(*each_block(seconds.shape, add), strict=True)
        return np.sum(sizes, axis=0), float(sum(last))

    def _keys(self, seconds: FloatArray) -> NDArray[np.int32]:
        """`(strategies, clients)` the bins of a block in the upper bits, the strategy below."""
        offsets = np.empty(seconds.shape[::-1])
        np.subtract(seconds.T, self.guess, out=offsets)
        upper = offsets.view(np.int32)[:, _UPPER_HALF]
        keys = upper & np.int32(np.iinfo(np.int32).max)  # the distance
        keys -= self._nearest
        np.clip(keys, 0, (_SIDE << _SHIFT) - 1, out=keys)
        keys ^= upper >> 31  # on the left the bins run backwards
        keys += np.int32(_SIDE << _SHIFT)
        keys &= np.int32(-1 << _SHIFT)
        keys |= np.arange(len(keys), dtype=np.int32)[:, None]
        return keys
