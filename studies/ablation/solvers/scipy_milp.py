"""`ScipyMilp`: the whole program for `scipy.optimize.milp`, which brings a HiGHS of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp

from ....allocator import AllocationProblem, Answer, Status
from ....allocator.solvers.milp import check_settings
from ....allocator.solvers.phases import phase
from ....allocator.solvers.program import Program
from .narrowing import narrowing

_OPTIMAL, _INFEASIBLE = 0, 2  # of SciPy's status


@dataclass(frozen=True)
class ScipyMilp:
    """Exact for the whole program, by SciPy: the encoding of `Milp`, SciPy's interface.

    SciPy passes on neither tolerances nor an absolute gap, so that HiGHS' own count.

    Args:
        gap: Relative gap at which the search stops; 0 proves the optimum.
        time_limit_seconds: Stop after this time with the best allocation so far; unlimited if None.
        node_limit: Stop after this many nodes (does not depend on the clock); unlimited if None.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], tradeoff=10.0)
        >>> answer = ScipyMilp()(problem)
        >>> answer.status, answer.choice
        (<Status.OPTIMAL: 'optimal'>, array([1, 0]))
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
        return narrowing(problem, self._once, self.time_limit_seconds)

    def _once(self, problem: AllocationProblem, seconds: float | None) -> Answer:
        with phase("build"):
            program = Program.of(problem)
        if program is None:
            return Answer(Status.INFEASIBLE)
        found = self._run(program, seconds)
        if found.status == _INFEASIBLE:
            return Answer(Status.INFEASIBLE)
        bound = -np.inf if found.mip_dual_bound is None else found.mip_dual_bound * program.unit
        bound = float(bound) if np.isfinite(bound) else -np.inf
        if found.x is None:
            return Answer(Status.UNKNOWN, bound=bound, message=found.message)
        proven = found.status == _OPTIMAL and self.gap == 0
        status = Status.OPTIMAL if proven else Status.FEASIBLE
        return Answer(status, program.decode(found.x), bound, message=found.message)

    def _run(self, program: Program, seconds: float | None) -> OptimizeResult:
        linear = program.linear
        options: Any = {"mip_rel_gap": self.gap}  # its stubs know a private type
        if seconds is not None:
            options["time_limit"] = seconds
        if self.node_limit is not None:
            options["node_limit"] = self.node_limit
        equal = LinearConstraint(linear.equalities, linear.right, linear.right)
        below = LinearConstraint(linear.rows, ub=linear.limits)
        return milp(
            linear.cost,
            integrality=linear.whole.astype(np.int64),
            bounds=Bounds(linear.lower, linear.upper),
            constraints=[below, equal],
            options=options,
        )
