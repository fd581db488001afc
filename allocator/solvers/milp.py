"""`Milp`: the whole program as a mixed-integer program for HiGHS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..problem import AllocationProblem
from ..solution import Answer, Prices, Status
from .highs import Found, HighsSettings, Outcome
from .phases import phase
from .program import Program
from .prune import without_dear


@dataclass(frozen=True)
class Milp:
    """Exact for the whole program, by HiGHS.

    Its shadow prices are those of the linear relaxation. The deadline has none: a choice that ends
    after it is forbidden outright, and `pareto_frontier` tells what a later one buys.

    Args:
        gap: Relative gap at which the search stops; 0 proves the optimum.
        time_limit_seconds: Stop after this time with the best allocation so far; unlimited if None.
        node_limit: Stop after this many nodes (does not depend on the clock); unlimited if None.
        with_prices: Also solve the linear relaxation for shadow prices.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], tradeoff=10.0)
        >>> answer = Milp()(problem)
        >>> answer.status, answer.choice
        (<Status.OPTIMAL: 'optimal'>, array([1, 0]))
    """

    gap: float = 0.0
    time_limit_seconds: float | None = None
    node_limit: int | None = None
    with_prices: bool = False

    def __post_init__(self) -> None:
        check_settings(self.gap, self.time_limit_seconds, self.node_limit)

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            ValueError: If the problem does not say what to minimise.
        """
        with phase("build"):
            program = Program.of(problem)
        if program is None:
            return Answer(Status.INFEASIBLE)
        settings = HighsSettings(
            self.gap, time_limit_seconds=self.time_limit_seconds, node_limit=self.node_limit
        )
        found = program.minimise(settings)
        if found.outcome is Outcome.INFEASIBLE:
            return Answer(Status.INFEASIBLE)
        if found.values is None:
            return Answer(Status.UNKNOWN, bound=found.bound, message=found.message)
        answer = self._answer(program, found)
        narrower = without_dear(problem, answer)
        return answer if narrower is None else self(narrower)

    def _answer(self, program: Program, found: Found) -> Answer:
        assert found.values is not None
        proven = found.outcome is Outcome.OPTIMAL and self.gap == 0
        return Answer(
            Status.OPTIMAL if proven else Status.FEASIBLE,
            program.decode(found.values),
            found.bound,
            _prices(program) if self.with_prices else None,
            found.message,
        )


def check_settings(
    gap: float, time_limit_seconds: float | None, node_limit: int | None = None
) -> None:
    """Raises a `ValueError` that names a setting out of range."""
    if not 0 <= gap < np.inf:
        raise ValueError(f"`0 <= gap < inf` must hold, but got {gap}. 0 proves the optimum.")
    for name, limit in (("time_limit_seconds", time_limit_seconds), ("node_limit", node_limit)):
        if limit is not None and not limit > 0:
            raise ValueError(f"`{name} > 0` must hold, but got {limit}. None is no limit.")


def _prices(program: Program) -> Prices | None:
    """Shadow prices of the linear relaxation; None if HiGHS does not solve it."""
    found = program.relaxed().minimise(HighsSettings())
    return program.prices(found) if found.outcome is Outcome.OPTIMAL else None
