"""`Milp`: the whole program as a mixed-integer program for HiGHS, through SciPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from ..arrays import FloatArray
from ..problem import AllocationProblem
from ..solution import Answer, Prices, Status
from .program import INFEASIBLE, OPTIMAL, ROW_RANGE, Program


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
        program = Program.of(problem)
        if program is None:
            return Answer(Status.INFEASIBLE)
        found = program.minimise(self.gap, self.time_limit_seconds, self.node_limit)
        if found.status == INFEASIBLE:
            return Answer(Status.INFEASIBLE)
        bound = program.bound(found.mip_dual_bound)
        # SciPy reports a limit as failure with and without an answer: x alone tells.
        if found.x is None:
            return Answer(Status.UNKNOWN, bound=bound, message=str(found.message))
        prices = _prices(program) if self.with_prices else None
        status = Status.OPTIMAL if found.status == OPTIMAL and self.gap == 0 else Status.FEASIBLE
        return Answer(status, program.decode(found.x), bound, prices, str(found.message))


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
    found = optimize.linprog(  # type: ignore[call-overload]  # scipy-stubs: no sparse A_ub
        program.cost,
        A_ub=program.a_ub,
        b_ub=program.b_ub,
        A_eq=program.a_eq,
        b_eq=program.b_eq,
        bounds=np.stack([np.zeros(len(program.upper)), program.upper], axis=1),
        method="highs",
    )
    if found.status != 0:
        return None
    below = -np.asarray(found.ineqlin.marginals) * program.unit

    def price(block: str) -> FloatArray:
        where, scale = program.blocks[block]
        return np.maximum(below[where] / scale, 0.0)

    coverage = -np.asarray(found.eqlin.marginals)[program.shape[0] :] * program.unit * ROW_RANGE
    return Prices(
        budgets=price("budgets"),
        coverage=np.maximum(coverage, 0.0),
        max_loss=float(price("max_loss").sum()),
        min_participation=float(price("min_participation").sum()),
    )
