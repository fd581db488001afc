"""`Exact`: the proven optimum of the whole program, or the best allocation so far with its gap."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..errors import SolverError
from ..problem import AllocationProblem
from ..solution import Answer, Status
from .fastest import fastest, is_fastest
from .highs import Outcome
from .milp import check_settings
from .prune import without_dear
from .residual import Residual
from .search import Search

_CORE, _LEAST_CORE = 60, 10  # clients whose choice is tried anew around a recovered allocation
_CORE_NODES = 200
_KICKS = 40  # around a recovered allocation
_MIDDLE, _LARGE = 60, 300  # open choices from which on heuristics go first
_GIVEN_UP = "what is left was given up at HiGHS' node limit, or lies within its tolerances"
_SAFE = 1e-9  # of the objective: what is this near the best is not given up


@dataclass(frozen=True)
class Exact:
    """Proves the optimum of the whole program; stops early with the best allocation and its gap.

    `Dual` first: its bounds leave few round times open. At each of these, reduced costs fix what
    most clients do, and HiGHS settles the rest against the best allocation so far, so that most
    programs end at once. Deterministic unless a time limit ends it.

    Args:
        gap: Relative gap at which it stops; 0 proves the optimum.
        time_limit_seconds: Stop after about this time; unlimited if None.
        node_limit: Nodes that HiGHS may search at one round time; unlimited if None.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> from fedhq.allocator import Budget
        >>> problem = AllocationProblem(("skip", "qat-w2a2"), [[0, 2], [0, 3], [0, 9]],
        ...     [[.1, 0], [.2, 0], [.3, 0]], tradeoff=20.0,
        ...     budgets=[Budget("uplink_bytes", [[0, 10]] * 3, 25)])
        >>> answer = Exact()(problem)
        >>> answer.status, answer.choice, answer.bound
        (<Status.OPTIMAL: 'optimal'>, array([1, 1, 0]), 9.0)
    """

    gap: float = 0.0
    time_limit_seconds: float | None = None
    node_limit: int | None = None

    def __post_init__(self) -> None:
        check_settings(self.gap, self.time_limit_seconds, self.node_limit)

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            ValueError: If the problem does not say what to minimise.
        """
        start = time.perf_counter()
        if problem.has_goal and is_fastest(problem):
            return fastest(problem, lambda least, enough: self._left(start)._answer(least, enough))
        return self._answer(problem, -np.inf)

    def _answer(self, problem: AllocationProblem, enough: float) -> Answer:
        start = time.perf_counter()
        search = Search.of(problem, self.gap, enough)
        if search is None:
            return Answer(Status.INFEASIBLE)
        answer = _Finish(search, self, start).answer()
        narrower = without_dear(problem, answer)
        return answer if narrower is None else self._left(start)._answer(narrower, enough)

    def _left(self, start: float) -> Exact:
        """The same with the time that is left."""
        if self.time_limit_seconds is None:
            return self
        left = self.time_limit_seconds - (time.perf_counter() - start)
        return replace(self, time_limit_seconds=max(left, 1e-3))


class _Finish:
    """Settles the thresholds that the dual leaves open, the most promising first."""

    def __init__(self, search: Search, settings: Exact, start: float) -> None:
        self._search, self._settings, self._start = search, settings, start
        self._given_up: set[int] = set()
        self._failure = ""

    @property
    def _seconds_left(self) -> float | None:
        limit = self._settings.time_limit_seconds
        return None if limit is None else limit - (time.perf_counter() - self._start)

    @property
    def _is_late(self) -> bool:
        left = self._seconds_left
        return left is not None and left <= 0

    def answer(self) -> Answer:
        search = self._search
        search.run(lambda: self._is_late)
        while not search.is_infeasible and (k := self._next()) is not None:
            if self._is_late:
                return search.answer("time limit")
            self._settle(k)
        return search.answer(self._failure or (_GIVEN_UP if self._given_up else ""))

    def _next(self) -> int | None:
        """The threshold of least bound that is neither closed nor given up."""
        bounds = self._search.bounds
        lower = bounds.lower.copy()
        lower[list(self._given_up)] = np.inf
        k = int(lower.argmin())
        return k if lower[k] < bounds.goal else None

    def _settle(self, k: int) -> None:
        search, bounds = self._search, self._search.bounds
        if k not in bounds.peaks:
            search.recover(k, bounds.climb(k))
            if bounds.lower[k] >= bounds.goal:
                return
        relaxation, peak = bounds.relaxation, bounds.peaks[k]
        threshold = float(bounds.thresholds.times[k])
        spend = relaxation.time_cost(threshold)
        mask = relaxation.within(threshold)
        cost = np.where(mask, relaxation.priced(peak.prices), np.inf)
        regret = cost - cost.min(axis=1, keepdims=True)
        best = np.asarray(cost.argmin(axis=1), dtype=np.int64)
        bound = float(cost.min(axis=1).sum()) + relaxation.constant(peak.prices) + spend
        if self._count_open(regret, bound) > _LARGE:
            search.recover(k, peak, kicks=_KICKS)
        if self._count_open(regret, bound) > _MIDDLE:
            self._try_core(best, regret, spend)
        if bounds.lower[k] >= bounds.goal:
            return
        cutoff = min(bounds.upper, bounds.above) + _SAFE * abs(min(bounds.upper, bounds.above))
        open_choices = mask & (regret <= max(cutoff - bound, 0.0) + _SAFE)
        found_bound = self._finish(best, open_choices, spend, cutoff)
        if found_bound > bounds.lower[k]:
            bounds.lower[k] = found_bound
        if bounds.lower[k] < bounds.goal:
            self._given_up.add(k)

    def _count_open(self, regret: FloatArray, bound: float) -> int:
        """Choices that reduced costs leave open, beside everybody's best one."""
        return int((regret <= self._search.bounds.upper - bound).sum()) - len(regret)

    def _try_core(self, best: IntArray, regret: FloatArray, spend: float) -> None:
        """A heuristic: only the clients that are nearest to another choice choose anew."""
        size = min(_CORE, len(best) // 3)
        if size < _LEAST_CORE:
            return
        second = np.partition(regret, 1, axis=1)[:, 1]
        core = np.argpartition(second, size)[:size]
        open_choices: BoolArray = np.zeros(regret.shape, dtype=bool)
        open_choices[core] = np.isfinite(regret[core])
        self._finish(best, open_choices, spend, self._search.bounds.upper, _CORE_NODES)

    def _finish(
        self,
        best: IntArray,
        open_choices: BoolArray,
        spend: float,
        cutoff: float,
        node_limit: int | None = None,
    ) -> float:
        """Solves a residual program, offers what it finds, and returns its bound with time."""
        search, settings = self._search, self._settings
        residual = Residual.of(search.bounds.relaxation, best, open_choices)
        if not residual.num_open:
            search.offer(residual.choice)
            return cutoff
        try:
            found, choice = residual.solve(
                cutoff - spend,
                search.bounds.slack / 2,
                self._seconds_left,
                node_limit or settings.node_limit,
            )
        except SolverError as error:
            self._failure = f"{error} What the prices give stands."
            return -np.inf
        if choice is not None:
            search.offer(choice)
        if found.outcome is Outcome.INFEASIBLE:
            return cutoff
        return residual.bound(found) + spend
