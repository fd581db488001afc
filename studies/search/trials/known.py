"""A frontier that is computed once and answers every policy that picks from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ....allocator import AllocationProblem, Answer, Frontier, PickRule, Status
from ....allocator.arrays import FloatArray, IntArray
from ....allocator.check import with_tolerance
from ....allocator.frontier import find_frontier
from ....allocator.groups import Merged
from ....allocator.solvers.dominant import Dominant
from ....allocator.solvers.pick import use_slack
from ....allocator.solvers.sweep import is_separable
from .shelf import Shelf


@dataclass(frozen=True, eq=False)
class KnownFrontier:
    """The frontier of a problem whose deadline and maximum loss are left to the policies.

    Args:
        free: The problem without goal, deadline and maximum loss.
        shelf: Where it is kept for other processes, where no sort finds it.
    """

    free: AllocationProblem
    shelf: Shelf
    _choices: dict[int, IntArray] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, problem: AllocationProblem, shelf: Shelf) -> KnownFrontier:
        """That of a problem; nothing is computed yet."""
        free = replace(
            problem, tradeoff=None, deadline_seconds=None, max_loss=None, switching_seconds=None
        )
        return cls(free, shelf)

    @cached_property
    def merged(self) -> Merged:
        """The problem, its groups merged."""
        return Merged.of(self.free)

    @property
    def problem(self) -> AllocationProblem:
        """What the points solve: the merged one."""
        return self.merged.problem

    @cached_property
    def is_sorted(self) -> bool:
        """Whether one sort finds it, proven: no client has to choose."""
        return is_separable(self.problem) or Dominant.of(self.problem) is not None

    @cached_property
    def points(self) -> Frontier | None:
        """The frontier; None where no allocation keeps the other limits."""
        if self.is_sorted:
            return find_frontier(self.problem)
        found = self.shelf.take(self.free, self.problem)
        if found is None:
            found = find_frontier(self.problem)
            self.shelf.put(self.free, found)
        return found

    def within(self, problem: AllocationProblem) -> Frontier | None:
        """The points that keep a problem's deadline and maximum loss, for all of its clients.

        Args:
            problem: That a policy made of this one.

        Returns:
            Its frontier; None where no point keeps them.
        """
        points = self.points
        if points is None or not len(kept := _kept(points, problem)):
            return None
        return Frontier(
            points.round_seconds[kept],
            points.loss[kept],
            points.gap,
            problem,
            lambda k: self.merged.spread(points.allocation(int(kept[k])).choice),
        )

    def choice(self, k: int) -> IntArray:
        """`(clients,)` the choice of a point, with what is free taken, as `FrontierPick` does."""
        if k not in self._choices:
            assert self.points is not None
            self._choices[k] = use_slack(self.problem, self.points.allocation(k).choice)
        return self._choices[k]

    def excess(self, problem: AllocationProblem) -> float:
        """By how much the nearest point exceeds deadline and maximum loss, relative to them.

        Args:
            problem: That a policy made of this one.

        Returns:
            The sum of both; 1 where there is no point at all.
        """
        if self.points is None:
            return 1.0
        over = np.zeros(len(self.points))
        for values, limit in (
            (self.points.round_seconds, problem.deadline_seconds),
            (self.points.loss, problem.max_loss),
        ):
            if limit is not None:
                over += np.maximum(values - limit, 0.0) / max(limit, 1e-9)
        return float(over.min())


@dataclass(frozen=True)
class LeastObjective:
    """A rule that picks what a goal asks for; the fastest of equals.

    Args:
        time_weight: Of the round time.
        loss_weight: Of the loss.

    Example:
        >>> LeastObjective(1.0, 10.0)(np.array([1., 2., 3.]), np.array([.2, .01, 0.]))
        1
    """

    time_weight: float
    loss_weight: float

    def __call__(self, round_seconds: FloatArray, loss: FloatArray, /) -> int:
        """The index of the point."""
        return int(np.argmin(self.time_weight * round_seconds + self.loss_weight * loss))


@dataclass(frozen=True)
class PickKnown:
    """A solver that picks from a known frontier, in no time.

    Args:
        rule: Which point; of those that keep the problem's deadline and maximum loss.
        known: The frontier of the very problem.
        proves: Whether the rule picks what the problem's goal asks for, so that a bound follows.
    """

    rule: PickRule
    known: KnownFrontier = field(repr=False, compare=False)
    proves: bool = False

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem."""
        frontier = self.known.points
        if frontier is None:
            return Answer(Status.INFEASIBLE, message="no allocation keeps the budgets and counts.")
        points = _kept(frontier, problem)
        if not len(points):
            return Answer(Status.INFEASIBLE, message=_told(frontier, problem))
        k = int(points[self.rule(frontier.round_seconds[points], frontier.loss[points])])
        choice = self.known.choice(k)
        if not self.proves:
            return Answer(Status.FEASIBLE, choice)
        status = Status.OPTIMAL if frontier.gap == 0 else Status.FEASIBLE
        return Answer(status, choice, _bound(frontier, problem))


def _kept(frontier: Frontier, problem: AllocationProblem) -> IntArray:
    """Indices of the points that keep a problem's deadline and maximum loss."""
    kept = frontier.round_seconds <= _limit(problem.deadline_seconds)
    return np.flatnonzero(kept & (frontier.loss <= _limit(problem.max_loss)))


def _bound(frontier: Frontier, problem: AllocationProblem) -> float:
    """What no allocation is below: at every time the loss is the frontier's, less its gap."""
    least = np.maximum(frontier.loss - frontier.gap, 0.0)
    open_ = (frontier.round_seconds <= _limit(problem.deadline_seconds)) & (
        least <= _limit(problem.max_loss)
    )
    values = problem.time_weight * frontier.round_seconds + problem.loss_weight * least
    return float(values[open_].min())


def _limit(value: float | None) -> float:
    return np.inf if value is None else with_tolerance(value)


def _told(frontier: Frontier, problem: AllocationProblem) -> str:
    """Why no point keeps the limits."""
    limits = {"deadline_seconds": problem.deadline_seconds, "max_loss": problem.max_loss}
    given = " and ".join(f"{k} = {v:.6g}" for k, v in limits.items() if v is not None)
    return (
        f"no allocation keeps {given}: rounds take {frontier.round_seconds[0]:.6g} s or more (with "
        f"a loss of {frontier.loss[0]:.6g}), losses are {frontier.loss[-1]:.6g} or more (in "
        f"{frontier.round_seconds[-1]:.6g} s)."
    )
