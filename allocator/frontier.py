"""`pareto_frontier`: the best trades of round time against loss; `picks` picks one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from .arrays import FloatArray, IntArray, freeze
from .check import exceeds, violations, with_tolerance, within_deadline
from .errors import InfeasibleError, SolverError
from .groups import Merged
from .infeasible import explain_infeasibility
from .problem import AllocationProblem
from .solution import Allocation, Solver, Status
from .solvers.dominant import Dominant
from .solvers.dual import Dual
from .solvers.exact import Exact
from .solvers.steps import Steps
from .solvers.sweep import is_separable

_EQUAL = 1e-9  # relative: losses as near as this are taken for equal
_MOST_EXACT = 30  # clients
_NODES = 2_000  # of a point that its solver did not find


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
        loss: `(points,)` strictly falling.
        gap: In no time has any allocation a loss lower than the frontier's there by more than this.

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
    gap: float
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


def pareto_frontier(
    problem: AllocationProblem,
    gap: float = 0.0,
    solver: Solver | None = None,
    most_solved: int | None = None,
) -> Frontier:
    """All allocations that are best in round time for their loss and in loss for their time.

    Keeps masks, deadline, maximum loss, budgets, counts, coverage, participation and groups; the
    trade-off and `switching_seconds` do not count, and the problem needs no goal. One exact sweep
    where the problem is separable, and one where no client has to choose between own loss and
    coverage (`solvers.dominant`); otherwise the epsilon-constraint method: least loss within a time
    by `Exact`, bisecting the times until neighbours are settled.

    Args:
        problem: The program of design section 3.
        gap: Loss, as a fraction of accuracy, that one need not tell apart: fewer points are solved.
        solver: Who finds the points of a program that no sort can solve; where None, `Exact()` up
            to 30 clients (a second or two in all) and `Dual()` beyond (milliseconds a point). What
            is not proven then is in the frontier's own `gap`.
        most_solved: How many times are solved at most, where no sort does, those between the most
            unequal neighbours first; what is left between them is in the frontier's `gap`, too.

    Raises:
        ValueError: If `gap` is negative or not finite, or not even two points may be solved.
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
    freeze("gap", gap, ())
    if most_solved is not None and most_solved < 2:
        raise ValueError(f"`most_solved >= 2` must hold, but got {most_solved}.")
    frontier = find_frontier(problem, gap, solver, most_solved)
    if frontier is None:
        raise InfeasibleError(explain_infeasibility(problem))
    return frontier


def find_frontier(
    problem: AllocationProblem,
    gap: float = 0.0,
    solver: Solver | None = None,
    most_solved: int | None = None,
    within: float = np.inf,
) -> Frontier | None:
    """`pareto_frontier`, but None instead of reasons where no allocation keeps every limit.

    Where no sort finds it, only the points that are needed to know the fastest whose loss is at
    most that of the most accurate one plus `within`, and that one.
    """
    merged = Merged.of(problem)
    if is_separable(merged.problem):
        frontier = _swept(merged.problem)
    elif solver is None and (steps := Dominant.of(merged.problem)) is not None:
        frontier = _stepped(merged.problem, steps)
    else:
        usual = solver or _usual(merged.problem)
        frontier = _Bisection(merged.problem, gap, usual, most_solved, within).frontier()
    if frontier is None or problem.groups is None:
        return frontier
    choose = frontier._choose
    return replace(frontier, _problem=problem, _choose=lambda k: merged.spread(choose(k)))


def _usual(problem: AllocationProblem) -> Solver:
    return Exact() if problem.num_clients <= _MOST_EXACT else Dual()


def _frozen(values: FloatArray) -> FloatArray:
    return freeze("frontier", values, values.shape)


def _swept(problem: AllocationProblem) -> Frontier | None:
    steps = Steps.of(problem.seconds, problem.loss, problem.allowed, problem.participates)
    keep = steps.within(problem)
    if not keep.any():
        return None
    times = _frozen(steps.thresholds[keep])
    losses = _frozen(steps.costs[keep])
    return Frontier(times, losses, 0.0, problem, lambda k: steps.choose(times[k]))


def _stepped(problem: AllocationProblem, steps: Dominant) -> Frontier | None:
    kept: list[int] = []
    least = np.inf
    for k, loss in enumerate(steps.losses.tolist()):
        if not kept or loss < least - _EQUAL * abs(least):
            kept.append(k)
            least = loss
    if not kept:
        return None
    times, losses = _frozen(steps.thresholds[kept]), _frozen(np.maximum(steps.losses[kept], 0.0))
    return Frontier(times, losses, 0.0, problem, lambda k: steps.choose(float(times[k])))


@dataclass(frozen=True, eq=False)
class _Point:
    """The least loss within a time, what is proven of it, and an allocation that has it."""

    seconds: float
    loss: float
    bound: float
    choice: IntArray


class _Bisection:
    """The least loss within some of the times, until no other time can be better by the gap."""

    def __init__(
        self,
        problem: AllocationProblem,
        gap: float,
        solver: Solver,
        most_solved: int | None,
        within: float,
    ) -> None:
        self._problem, self._within = problem, within
        self._gap, self._solver = gap, solver
        self._left = np.inf if most_solved is None else most_solved
        self._times = np.unique(problem.seconds[within_deadline(problem)])
        self._found: dict[int, _Point | None] = {-1: None}

    def frontier(self) -> Frontier | None:
        """The frontier; None where no allocation keeps every limit."""
        last, open_loss = len(self._times) - 1, 0.0
        if last < 0 or self._solve(last) is None:
            return None
        spans = [(-1, last)]
        while spans:
            low, high = spans.pop(int(np.argmax([self._step(*span) for span in spans])))
            reached = self._reached(high)
            if reached - low <= 1 or not self._is_open(low, high):
                continue
            if self._left <= 0 and self._found[low] is not None:
                open_loss = max(open_loss, self._step(low, high))
            else:
                middle = (low + reached) // 2
                self._solve(middle)
                spans += [(low, middle), (middle, reached)]
        points = self._not_dominated()
        proven = max(p.loss - p.bound for p in self._found.values() if p is not None)
        return Frontier(
            _frozen(np.array([p.seconds for p in points])),
            _frozen(np.array([p.loss for p in points])),
            max(proven, 0.0) + max(self._gap, open_loss),
            self._problem,
            lambda k: points[k].choice,
        )

    def _solve(self, k: int) -> _Point | None:
        """The least loss within a time; None if there is no allocation."""
        if k not in self._found:
            self._left -= 1
            self._found[k] = _least_loss(self._problem, float(self._times[k]), self._solver)
        return self._found[k]

    def _step(self, low: int, high: int) -> float:
        """How much less is lost at the upper end; infinite without a lower."""
        slow, fast = self._found[high], self._found[low]
        return np.inf if slow is None or fast is None else fast.loss - slow.loss

    def _reached(self, high: int) -> int:
        """The first time with the allocation found within a time: nothing changes in between."""
        point = self._found[high]
        if point is None:
            return high
        reached = min(int(np.searchsorted(self._times, point.seconds)), high)
        self._found[reached] = point
        return reached

    def _is_open(self, low: int, high: int) -> bool:
        """Whether a time in between may be better than the lower end by more than the tolerance."""
        fast, slow, best = self._found[low], self._found[high], self._found[len(self._times) - 1]
        if best is not None and np.isfinite(self._within):
            most = with_tolerance(best.loss + self._within)
            if (slow and slow.loss > most) or (fast and fast.loss <= most):
                return False
        if fast is None:
            return slow is not None
        return self._step(low, high) > max(self._gap, _EQUAL * abs(fast.loss))

    def _not_dominated(self) -> list[_Point]:
        """The points whose loss falls as the time rises."""
        kept: list[_Point] = []
        solved = [p for p in self._found.values() if p is not None]
        for point in sorted(solved, key=lambda p: (p.seconds, p.loss)):
            if not kept or point.loss < kept[-1].loss - _EQUAL * abs(kept[-1].loss):
                kept.append(point)
        return kept


def _least_loss(problem: AllocationProblem, time: float, solver: Solver) -> _Point | None:
    allowed = problem.allowed & (problem.seconds <= time)
    if not allowed.any(axis=1).all():
        return None
    within = replace(
        problem,
        tradeoff=None,
        max_loss=None,
        switching_seconds=None,
        deadline_seconds=time,
        allowed=allowed,
    )
    answer = solver(within)
    if answer.status is not Status.INFEASIBLE and not _is_kept(within, answer.choice):
        answer = Exact(node_limit=_NODES)(within)  # it searches where others only look
    if answer.status is Status.INFEASIBLE:
        return None
    if answer.choice is None or not _is_kept(within, answer.choice):
        raise SolverError(
            f"no allocation was found within {time:.6g} s, nor proof that there is none: "
            f"{answer.message}."
        )
    loss = problem.total_loss(answer.choice)
    if problem.max_loss is not None and exceeds(loss, problem.max_loss):
        return None
    return _Point(problem.round_seconds(answer.choice), loss, answer.bound, answer.choice)


def _is_kept(problem: AllocationProblem, choice: IntArray | None) -> bool:
    """Whether there is a choice that keeps the limits."""
    return choice is not None and not violations(problem, choice)
