"""`pareto_frontier`: every best trade of round time against loss, exact; `picks` picks one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from .arrays import FloatArray, IntArray, freeze
from .check import within_deadline
from .errors import InfeasibleError, SolverError
from .groups import Merged
from .infeasible import explain_infeasibility
from .problem import AllocationProblem
from .solution import Allocation
from .solvers.highs import HighsSettings, Outcome
from .solvers.program import Program
from .solvers.steps import Steps
from .solvers.sweep import is_separable

_HIGHS_GAP = 1e-6  # absolute, in a program whose largest cost is `program.COST_RANGE`


class PickRule(Protocol):
    """Picks a point of a frontier; those of `picks`, or any callable like them."""

    def __call__(self, round_seconds: FloatArray, loss: FloatArray, /) -> int:
        """The index of the point, from the `(points,)` rising times and falling losses."""
        ...


@dataclass(frozen=True, eq=False)
class Frontier:
    """The points that are not dominated in round time and loss.

    Args:
        round_seconds: `(points,)` rising.
        loss: `(points,)` strictly falling; the least loss of any allocation in that time.

    Example:
        >>> from fedhq.allocator import MostAccurateWithin
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.25, 0], [.25, 0]])
        >>> frontier = pareto_frontier(problem)
        >>> frontier.round_seconds, frontier.loss, frontier.pick(MostAccurateWithin(4.0))
        (array([3., 5.]), array([0.25, 0.  ]), 0)
        >>> frontier.allocation(0).choice
        array([1, 0])
    """

    round_seconds: FloatArray
    loss: FloatArray
    _problem: AllocationProblem
    _choose: Callable[[int], IntArray]

    def __len__(self) -> int:
        return len(self.round_seconds)

    def allocation(self, k: int) -> Allocation:
        """The allocation of a point.

        Raises:
            ValueError: If there is no such point.
        """
        if not 0 <= k < len(self):
            raise ValueError(f"`0 <= k < {len(self)}` must hold (the points), but got {k}.")
        return Allocation.of(self._problem, self._choose(k))

    def pick(self, rule: PickRule) -> int:
        """The index of the point that a rule picks.

        Raises:
            ValueError: If no point satisfies the rule.
        """
        return rule(self.round_seconds, self.loss)


def pareto_frontier(problem: AllocationProblem) -> Frontier:
    """All allocations that are best in round time for their loss and in loss for their time.

    Keeps masks, deadline, maximum loss, budgets, coverage and participation; the trade-off and
    `switching_seconds` do not count, and the problem needs no goal. One sweep where the problem is
    separable (100 000 clients in a second); otherwise the epsilon-constraint method: least loss
    within a time, one mixed-integer program a time, bisecting the times until neighbours are
    settled. Losses that differ by less than HiGHS' gap, 1e-9 of the largest, are taken for equal.

    Args:
        problem: The program of design section 3.

    Raises:
        InfeasibleError: If no allocation keeps every limit.
        SolverError: If HiGHS fails.

    References:
        Y. Haimes, L. Lasdon, D. Wismer, "On a bicriterion formulation of the problems of integrated
        system identification and system optimization", IEEE Trans. SMC, 1971.

    Example:
        >>> problem = AllocationProblem(("skip", "qat-w2a2"), [[0, 2], [0, 9]], [[.5, 0], [.5, 0]])
        >>> pareto_frontier(problem).loss
        array([0.5, 0. ])
    """
    merged = Merged.of(problem)
    found = _swept if is_separable(merged.problem) else _enumerated
    frontier = found(merged.problem)
    if problem.groups is None:
        return frontier
    return replace(frontier, _problem=problem, _choose=lambda k: merged.spread(frontier._choose(k)))


def _frozen(values: FloatArray) -> FloatArray:
    return freeze("frontier", values, values.shape)


def _swept(problem: AllocationProblem) -> Frontier:
    steps = Steps.of(problem.seconds, problem.loss, problem.allowed, problem.participates)
    keep = steps.within(problem)
    if not keep.any():
        raise InfeasibleError(explain_infeasibility(problem))
    times = _frozen(steps.thresholds[keep])
    return Frontier(times, _frozen(steps.costs[keep]), problem, lambda k: steps.choose(times[k]))


@dataclass(frozen=True, eq=False)
class _Point:
    """The least loss within a time, and an allocation that has it."""

    seconds: float
    loss: float
    choice: IntArray


def _enumerated(problem: AllocationProblem) -> Frontier:
    program = Program.feasible_set(problem)
    fastest = None if program is None else _best(program.minimising(program.round_seconds()))
    if program is None or fastest is None:
        raise InfeasibleError(explain_infeasibility(problem))
    times = np.unique(problem.seconds[within_deadline(problem)])
    times = times[times >= problem.round_seconds(fastest)]
    program = program.minimising(program.loss(problem))
    tolerance = _HIGHS_GAP * program.unit

    def least_loss(k: int) -> _Point:
        choice = _best(program.restricted_to(problem.seconds <= times[k]))
        if choice is None:
            raise SolverError(
                f"HiGHS found an allocation within {times[0]:.6g} s, but none within "
                f"{times[k]:.6g} s: scale the problem's tables to similar magnitudes."
            )
        return _Point(problem.round_seconds(choice), problem.total_loss(choice), choice)

    found = {0: least_loss(0)}
    if len(times) > 1:
        found[len(times) - 1] = least_loss(len(times) - 1)
        _settle(found, times, least_loss, tolerance)
    points = _not_dominated(list(found.values()), tolerance)
    return Frontier(
        _frozen(np.array([p.seconds for p in points])),
        _frozen(np.array([p.loss for p in points])),
        problem,
        lambda k: points[k].choice,
    )


def _best(program: Program) -> IntArray | None:
    """An optimal choice; None if there is none at all."""
    found = program.minimise(HighsSettings())
    if found.outcome is Outcome.INFEASIBLE:
        return None
    if found.outcome is not Outcome.OPTIMAL or found.values is None:
        raise SolverError(f"HiGHS settled nothing: {found.message}")
    return program.decode(found.values)


def _settle(
    found: dict[int, _Point],
    times: FloatArray,
    least_loss: Callable[[int], _Point],
    tolerance: float,
) -> None:
    """Bisects until between any two solved times lies none, or none that could be better."""
    spans = [(0, len(times) - 1)]
    while spans:
        low, high = spans.pop()
        if found[low].loss <= found[high].loss + tolerance:
            continue
        # The least loss does not change from the round time of the upper end's choice up to it.
        reached = int(np.searchsorted(times, found[high].seconds))
        found[reached] = found[high]
        if reached - low > 1:
            middle = (low + reached) // 2
            found[middle] = least_loss(middle)
            spans += [(low, middle), (middle, reached)]


def _not_dominated(points: list[_Point], tolerance: float) -> list[_Point]:
    """The points whose loss falls as the time rises."""
    kept: list[_Point] = []
    for point in sorted(points, key=lambda p: (p.seconds, p.loss)):
        if not kept or point.loss < kept[-1].loss - tolerance:
            kept.append(point)
    return kept
