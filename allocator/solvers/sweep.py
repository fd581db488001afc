"""`Sweep`: the exact optimum of the separable program by one pass over time thresholds.

For a fixed round time T every client takes its cheapest strategy that ends by T, so the total cost
is a step function of T that falls at some `seconds[i, s]`, and an optimum is at one of these steps
(design section 3). The same pass gives the whole frontier of time and cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..check import with_tolerance
from ..problem import AllocationProblem
from ..solution import Answer, Status


@dataclass(frozen=True)
class Sweep:
    """Exact for makespan, separable loss, masks, deadline, maximum loss and switching price.

    Refuses what is not separable: budgets, coverage, minimum participation, and a maximum loss
    together with a switching price. Among equal optima it takes the smallest round time, then the
    fastest strategy, then the first of the menu.

    Example:
        >>> problem = AllocationProblem(("skip", "qat-w2a2"), [[0, 2], [0, 9]],
        ...                             [[.3, 0], [.3, 0]], tradeoff=10.0)
        >>> Sweep()(problem).choice
        array([1, 0])
    """

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem."""
        _refuse_inseparable(problem)
        cost, weight = problem.loss, problem.loss_weight
        if problem.switching_seconds is not None:
            cost, weight = weight * cost + problem.switching_seconds, 1.0
        steps = Steps.of(problem.seconds, cost, problem.allowed, problem.participates)
        keep = steps.within(problem)
        if not keep.any():
            return Answer(Status.INFEASIBLE)
        value = problem.time_weight * steps.thresholds + weight * steps.costs
        best = int(np.argmin(np.where(keep, value, np.inf)))
        choice = steps.choose(float(steps.thresholds[best]))
        return Answer(Status.OPTIMAL, choice, problem.objective(choice))


def is_separable(problem: AllocationProblem) -> bool:
    """Whether a sweep finds every best trade of round time against loss."""
    return not _inseparable(problem)


def _inseparable(problem: AllocationProblem) -> list[str]:
    terms = {
        "budgets": bool(problem.budgets),
        "counts": bool(problem.counts),
        "coverage": problem.coverage is not None,
        "min_participation": problem.min_participation > 0 and not problem.participates.all(),
    }
    return [name for name, given in terms.items() if given]


def _refuse_inseparable(problem: AllocationProblem) -> None:
    present = _inseparable(problem)
    if problem.max_loss is not None and problem.switching_seconds is not None:
        present.append("max_loss together with switching_seconds")
    if present:
        raise ValueError(
            f"Sweep cannot handle `{'`, `'.join(present)}`: it is exact for separable problems "
            "only. Use Milp() or Cvx()."
        )


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
        """Sweeps over all thresholds in O(n log n), n = clients x strategies.

        Args:
            seconds: `(clients, strategies)`.
            cost: `(clients, strategies)` separable costs.
            allowed: `(clients, strategies)`.
            participates: `(strategies,)` false for skip.

        Example:
            >>> steps = Steps.of(np.array([[1., 2.], [3., 5.]]), np.array([[.1, 0.], [.1, 0.]]),
            ...                  np.ones((2, 2), bool), np.ones(2, bool))
            >>> steps.thresholds, steps.costs
            (array([3., 5.]), array([0.1, 0. ]))
        """
        masked = np.where(allowed, seconds, np.inf)
        thresholds, costs = _free_steps(masked, cost)
        first = _first_participation(masked, cost, participates)
        if first > thresholds[0]:
            forced, forced_costs = _forced_steps(masked, cost, participates, first)
            late = thresholds >= first
            thresholds = np.append(forced, thresholds[late])
            costs = np.append(forced_costs, costs[late])
        falling = costs < np.minimum.accumulate(np.append(np.inf, costs))[:-1]
        return cls(thresholds[falling], costs[falling], masked, cost, participates)

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
        order = np.argsort(self._seconds, axis=1, kind="stable")
        seconds = np.take_along_axis(self._seconds, order, axis=1)
        cost = np.where(seconds <= threshold, np.take_along_axis(self._cost, order, axis=1), np.inf)
        place = np.argmin(cost, axis=1)
        choice = np.take_along_axis(order, place[:, None], axis=1)[:, 0]
        if not self._participates[choice].any():
            extra = _extra_cost(self._seconds, self._cost, self._participates)
            extra = np.where(self._seconds <= threshold, extra, np.inf)
            client, strategy = np.unravel_index(int(np.argmin(extra)), extra.shape)
            choice[client] = strategy
        return choice.astype(np.int64)


def _free_steps(seconds: FloatArray, cost: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Steps without the rule that somebody takes part; forbidden entries have infinite seconds."""
    order = np.argsort(seconds, axis=1, kind="stable")
    times = np.take_along_axis(seconds, order, axis=1)
    possible = np.where(np.isfinite(times), np.take_along_axis(cost, order, axis=1), np.inf)
    best = np.minimum.accumulate(possible, axis=1)
    floor = float(times[:, 0].max())
    falls, fall_times = -np.diff(best, axis=1), times[:, 1:]
    useful = falls > 0
    fall_times, falls = fall_times[useful], falls[useful]
    by_time = np.argsort(fall_times, kind="stable")
    fall_times, falls = fall_times[by_time], falls[by_time]
    # Summed up from the end: the last total is exact, and rounding never makes one negative.
    totals = best[:, -1].sum() + np.append(np.cumsum(falls[::-1])[::-1], 0.0)
    early = int(np.searchsorted(fall_times, floor, side="right"))
    thresholds = np.append(floor, fall_times[early:])
    totals = totals[early:]
    last = np.append(thresholds[1:] > thresholds[:-1], True)
    return thresholds[last], totals[last]


def _extra_cost(seconds: FloatArray, cost: FloatArray, participates: BoolArray) -> FloatArray:
    """What each client's taking part would cost above its skipping; infinite where impossible."""
    skip = int(np.flatnonzero(~participates)[0])
    extra = np.where(participates & np.isfinite(seconds), cost - cost[:, [skip]], np.inf)
    return np.asarray(extra)


def _first_participation(seconds: FloatArray, cost: FloatArray, participates: BoolArray) -> float:
    """Least threshold at which some client takes part of its own accord."""
    skips = np.flatnonzero(~participates)
    if skips.size == 0 or not np.isfinite(seconds[:, skips[0]]).all():
        return -np.inf
    wins = _extra_cost(seconds, cost, participates) < 0
    return float(np.min(seconds[wins], initial=np.inf))


def _forced_steps(
    seconds: FloatArray, cost: FloatArray, participates: BoolArray, before: float
) -> tuple[FloatArray, FloatArray]:
    """Steps below `before`, where all would skip: the one whose taking part costs least goes."""
    skip = int(np.flatnonzero(~participates)[0])
    extra = _extra_cost(seconds, cost, participates)
    possible = np.isfinite(extra) & (seconds < before)
    times, extras = seconds[possible], extra[possible]
    by_time = np.lexsort((extras, times))
    return times[by_time], cost[:, skip].sum() + np.minimum.accumulate(extras[by_time])
