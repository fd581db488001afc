"""What the policies of trials decide, planned again; and the base problem along the trade-off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ....allocator import AllocationProblem, Dual, FedHQError, Solution, solve
from ....allocator.arrays import FloatArray, IntArray
from .view import TrialView

if TYPE_CHECKING:
    from ..trials.policy import Policies

_TRADEOFFS = 16
_FLAT = 1e-12  # of a slope: no trade


class Planned(Protocol):
    """Who does what, and the problem that it solves."""

    @property
    def problem(self) -> AllocationProblem:
        """What was solved."""
        ...

    @property
    def solution(self) -> Solution:
        """What was decided."""
        ...

    @property
    def clients(self) -> tuple[int, ...]:
        """Ids of the problem's clients in the fleet."""
        ...


class Planner(Protocol):
    """Plans the first round of a trial's policy, as `Policies` does."""

    def plan(self, params: Mapping[str, Any], seed: int | None = None) -> Planned:
        """What a policy decides for a seed."""
        ...


class LatePlanner:
    """Plans policies of a search from its configuration, which is laid out when first asked.

    Several threads may plan.

    Args:
        config: As the search's record holds it.
        folder: The search's, where frontiers may be found; None where it is not known.
    """

    def __init__(self, config: Mapping[str, Any], folder: Path | None = None) -> None:
        self._config, self._folder = config, folder
        self._lock = Lock()

    @cached_property
    def _policies(self) -> Policies:
        from ..config.settings import parse_search
        from ..trials.policy import Policies

        return Policies(parse_search(self._config), self._folder)

    def plan(self, params: Mapping[str, Any], seed: int | None = None) -> Planned:
        """What a policy decides for a seed.

        Raises:
            ValueError: If the configuration does not fit the installed version, or its data.
            FedHQError: If its data cannot be had, or the policy cannot be planned.
        """
        with self._lock:
            return self._policies.plan(params, seed)


@dataclass(frozen=True, eq=False)
class TrialPlan:
    """A trial's policy, planned again for its first seed's first round.

    Args:
        trial: The trial.
        problem: What was solved.
        solution: What was decided now.
        clients: Ids of the problem's clients in the fleet.
    """

    trial: TrialView
    problem: AllocationProblem
    solution: Solution
    clients: tuple[int, ...]

    @property
    def strategies(self) -> dict[int, str]:
        """What each client of the round does now, by its id."""
        allocation = self.solution.allocation
        return {c: str(allocation.strategy(row)) for row, c in enumerate(self.clients)}

    @property
    def agrees(self) -> bool:
        """Whether every client does now what the trial recorded."""
        record = self.trial.record
        return record is not None and record.strategies == self.strategies


def plan_trials(planner: Planner, trials: Sequence[TrialView]) -> tuple[TrialPlan, ...]:
    """The policies of trials, planned again.

    Args:
        planner: Of their study.
        trials: Those with a record; others are left out.

    Raises:
        FedHQError: If a policy cannot be planned.
    """
    plans = []
    for trial in trials:
        if trial.record is not None and trial.params:
            plan = planner.plan(trial.params, trial.record.seeds[0] if trial.record.seeds else None)
            if plan.solution.status.has_allocation:
                plans.append(TrialPlan(trial, plan.problem, plan.solution, plan.clients))
    return tuple(plans)


def along_tradeoff(problem: AllocationProblem, points: FloatArray) -> tuple[Solution, ...]:
    """The problem at trade-offs that lead from one end of its frontier to the other.

    Args:
        problem: Its own goal is left out; its limits hold.
        points: `(points, 2)` of its frontier in round time and loss; they tell which trade-offs
            change anything.

    Returns:
        Solutions of `Dual`, at rising trade-offs; those without an allocation are left out.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.25, 0], [.25, 0]])
        >>> found = along_tradeoff(problem, np.array([[3.0, 0.25], [5.0, 0.0]]))
        >>> [round(float(s.problem.tradeoff), 1) for s in found][::15]
        [4.0, 16.0]
        >>> found[0].allocation.round_seconds, found[-1].allocation.round_seconds
        (3.0, 5.0)
    """
    solutions = []
    for tradeoff in tradeoffs_of(points).tolist():
        at = replace(problem, tradeoff=tradeoff, deadline_seconds=None, max_loss=None)
        try:
            solution = solve(at, Dual())
        except FedHQError:
            continue
        if solution.status.has_allocation:
            solutions.append(solution)
    return tuple(solutions)


def tradeoffs_of(points: FloatArray) -> FloatArray:
    """Trade-offs from below the flattest to above the steepest edge of a frontier's lower hull.

    Args:
        points: `(points, 2)` of round time and loss.

    Returns:
        `(16,)` seconds per unit of loss, evenly spread in their logarithm; none where the frontier
        is a single point.
    """
    hull = points[_lower_hull(points)]
    gained = -np.diff(hull[:, 1])
    slopes = np.diff(hull[:, 0])[gained > _FLAT] / gained[gained > _FLAT]
    if not len(slopes):
        return np.zeros(0)
    return np.geomspace(slopes.min() / 2, slopes.max() * 2, _TRADEOFFS)


def _lower_hull(points: FloatArray) -> IntArray:
    """Indices of the vertices of the lower left hull, by time (Andrew's monotone chain)."""
    kept: list[int] = []
    for k in np.lexsort((points[:, 1], points[:, 0])).tolist():
        if kept and points[k, 1] >= points[kept[-1], 1]:
            continue
        while len(kept) > 1 and _turns_up(points[kept[-2]], points[kept[-1]], points[k]):
            kept.pop()
        kept.append(k)
    return np.array(kept, dtype=np.int64)


def _turns_up(a: FloatArray, b: FloatArray, c: FloatArray) -> bool:
    """Whether the middle point lies on or above the line of the others."""
    return bool((b[0] - a[0]) * (c[1] - a[1]) <= (b[1] - a[1]) * (c[0] - a[0]))
