"""What a solver returns, and what `solve` makes of it: status, allocation, certificate."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .arrays import FloatArray, IntArray
from .errors import InfeasibleError, SolverError
from .problem import AllocationProblem
from .strategy import Strategy

if TYPE_CHECKING:
    from .explain.explanation import Explanation

_GAP_FLOOR = 1e-9


class Status(StrEnum):
    """What is known about a problem after a solver has run."""

    OPTIMAL = "optimal"
    """The allocation is proven best, within the solver's tolerance."""
    FEASIBLE = "feasible"
    """The allocation keeps every limit; whether it is best is not proven."""
    INFEASIBLE = "infeasible"
    """It is proven that no allocation keeps every limit."""
    UNKNOWN = "unknown"
    """Neither an allocation nor a proof was found."""

    @property
    def has_allocation(self) -> bool:
        """Whether a solution of this status holds an allocation."""
        return self in (Status.OPTIMAL, Status.FEASIBLE)


@dataclass(frozen=True, eq=False)
class Prices:
    """Shadow prices: by how much the objective falls per unit that a limit is relaxed, all >= 0.

    Those of coverage may be below 0 where unevenness has a price.

    Args:
        budgets: `(budgets,)` objective units per unit of the resource.
        coverage: `(classes,)` objective units per unit of a class's coverage.
        max_loss: Objective units per unit of loss.
        min_participation: Objective units per unit of the share.
        counts: `(counts,)` objective units per client more or fewer.
    """

    budgets: FloatArray
    coverage: FloatArray
    max_loss: float = 0.0
    min_participation: float = 0.0
    counts: FloatArray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, eq=False)
class Answer:
    """A solver's claim about a problem; `solve` checks it before anyone may use it.

    Args:
        status: What the solver claims.
        choice: `(clients,)` index of each client's strategy, or None.
        bound: A proven lower bound of the objective, or -inf.
        prices: Shadow prices where the solver has them.
        message: What limited the search. Of an infeasible problem: why, where the solver knows more
            than the problem says; where empty, `solve` explains.
    """

    status: Status
    choice: IntArray | None = None
    bound: float = -np.inf
    prices: Prices | None = None
    message: str = ""


class Solver(Protocol):
    """A frozen dataclass whose fields are its settings; called with a problem, it answers.

    A solver that cannot express a term of the problem raises `ValueError` and names the term.
    """

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem."""
        ...


@dataclass(frozen=True, eq=False)
class Allocation:
    """A strategy for every client, and what follows from it.

    Args:
        choice: `(clients,)` index into `strategies`, read-only.
        strategies: The menu.
        round_seconds: Makespan of the round.
        loss: Predicted loss L, as a fraction of accuracy.
        objective: What the problem minimises, at this choice; NaN if it has no goal.
        usage: `(budgets,)` what the choice takes of every budget.
        bottleneck: Index of the slowest client (the first of equals); None if all skip.
    """

    choice: IntArray
    strategies: tuple[Strategy, ...]
    round_seconds: float
    loss: float
    objective: float
    usage: FloatArray
    bottleneck: int | None

    @classmethod
    def of(cls, problem: AllocationProblem, choice: IntArray) -> Allocation:
        """Works out what a choice means for a problem.

        Args:
            problem: The problem.
            choice: `(clients,)` indices into the menu.

        Raises:
            ValueError: If the choice has a wrong shape or an index outside the menu.

        Example:
            >>> problem = AllocationProblem(("skip", "qat-w2a2"), [[0, 2], [0, 3]],
            ...                             [[.1, 0], [.2, 0]], tradeoff=5.0)
            >>> a = Allocation.of(problem, np.array([1, 0]))
            >>> a.round_seconds, a.loss, a.objective, a.bottleneck
            (2.0, 0.2, 3.0, 0)
        """
        picked = np.array(choice, dtype=np.int64)
        menu = problem.strategies
        if (
            picked.shape != (problem.num_clients,)
            or not ((0 <= picked) & (picked < len(menu))).all()
        ):
            raise ValueError(
                f"`choice` must be {problem.num_clients} indices in 0 ... {len(menu) - 1}, "
                f"but got {picked}."
            )
        picked.flags.writeable = False
        seconds = problem.seconds[np.arange(len(picked)), picked]
        working = problem.participates[picked]
        slowest = int(np.argmax(np.where(working, seconds, -1.0))) if working.any() else None
        return cls(
            choice=picked,
            strategies=menu,
            round_seconds=problem.round_seconds(picked),
            loss=problem.total_loss(picked),
            objective=problem.objective(picked),
            usage=problem.usage(picked),
            bottleneck=slowest,
        )

    def strategy(self, client: int) -> Strategy:
        """The strategy of a client, by its place in the cohort."""
        return self.strategies[int(self.choice[client])]

    def counts(self) -> IntArray:
        """`(strategies,)` how many clients do each of the menu."""
        return np.bincount(self.choice, minlength=len(self.strategies)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Solution:
    """The checked outcome of `solve`.

    Args:
        status: What is known.
        bound: Proven lower bound of the objective, or -inf.
        prices: Shadow prices, or None where the solver has none.
        solver: Name and settings of the solver.
        solve_seconds: Wall time that the solver took.
        message: Why there is no allocation, or what limited the search.
        problem: What was solved.
    """

    status: Status
    bound: float
    prices: Prices | None
    solver: str
    solve_seconds: float
    message: str
    problem: AllocationProblem
    _allocation: Allocation | None

    def __post_init__(self) -> None:
        if self.status.has_allocation != (self._allocation is not None):
            raise ValueError(
                f"a solution that is {self.status} must"
                f"{'' if self.status.has_allocation else ' not'} hold an allocation."
            )

    @property
    def allocation(self) -> Allocation:
        """The allocation.

        Raises:
            InfeasibleError: If the problem is proven infeasible; the message names what to relax.
            SolverError: If the solver found neither an allocation nor a proof.
        """
        if self._allocation is not None:
            return self._allocation
        if self.status is Status.INFEASIBLE:
            raise InfeasibleError(self.message)
        raise SolverError(f"{self.solver} found no allocation: {self.message}")

    @property
    def gap(self) -> float:
        """`(objective - bound) / max(|objective|, 1e-9)`; infinite without allocation or bound."""
        if self._allocation is None or self.bound == -np.inf:
            return float("inf")
        objective = self._allocation.objective
        return max(0.0, objective - self.bound) / max(abs(objective), _GAP_FLOOR)

    def explain(self) -> Explanation:
        """The reasons: bottleneck, limits, prices, and for any client what else it could do.

        Example:
            >>> from fedhq.allocator import Sweep, solve
            >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
            ...     [[.1, 0], [.1, 0]], tradeoff=10.0, clients=["phone", "watch"])
            >>> explanation = solve(problem, Sweep()).explain()
            >>> print(explanation.client("watch").next_better.strategy)
            qat-w2a2
        """
        from .explain.explanation import explain  # it stands above this module

        return explain(self.problem, self)
