"""`PuLp`: the whole program in PuLP, for the CBC that PuLP brings."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from ....allocator import AllocationProblem, Answer, SolverError, Status
from ....allocator.arrays import FloatArray
from ....allocator.solvers.milp import check_settings
from ....allocator.solvers.phases import phase
from ....allocator.solvers.program import Program
from .library import load
from .narrowing import narrowing

_TIGHT = ("primalTolerance 1e-9", "integerTolerance 1e-9", "increment 0")
_IN_TIME = 0.5  # of the time limit: whoever ended so early did not end because of it


@dataclass(frozen=True)
class PuLp:
    """The whole program by the CBC that comes with PuLP: the encoding of `Milp`, as an MPS file.

    PuLP calls what CBC has found at a limit "Optimal", too; only its `sol_status` tells. It hands
    over no bound, so that an optimum is CBC's word and the answer `FEASIBLE`, as behind cvxpy.

    Args:
        gap: Relative gap at which the search stops; 0 looks for the optimum.
        time_limit_seconds: Stop after this time with the best allocation so far; unlimited if None.
        node_limit: Stop after this many nodes (does not depend on the clock); unlimited if None.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], tradeoff=10.0)
        >>> PuLp()(problem).choice
        array([1, 0])
    """

    gap: float = 0.0
    time_limit_seconds: float | None = None
    node_limit: int | None = None

    def __post_init__(self) -> None:
        check_settings(self.gap, self.time_limit_seconds, self.node_limit)

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            SolverError: If PuLP is not installed, brings no CBC, or CBC breaks down.
            ValueError: If the problem does not say what to minimise.
        """
        return narrowing(problem, self._once, self.time_limit_seconds)

    def _once(self, problem: AllocationProblem, seconds: float | None) -> Answer:
        pulp = load("pulp", self)
        with phase("build"):
            program = Program.of(problem)
            model = None if program is None else _Model.of(pulp, program)
        if program is None or model is None:
            return Answer(Status.INFEASIBLE)
        spent = self._run(pulp, model.program, seconds)
        status = model.program.sol_status
        if model.program.status == pulp.LpStatusInfeasible:
            in_time = seconds is None or spent < _IN_TIME * seconds
            if in_time and self.node_limit is None:
                return Answer(Status.INFEASIBLE)
            message = "CBC says infeasible, which it also does of feasible ones at a limit"
            return Answer(Status.UNKNOWN, message=message)
        if status not in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
            return Answer(Status.UNKNOWN, message=f"CBC: {pulp.LpSolution[status]}")
        claimed = status == pulp.LpSolutionOptimal and self.gap == 0
        doubt = ", but it gives no bound that proves it" if claimed else ""
        message = f"CBC: {pulp.LpSolution[status]}{doubt}"
        return Answer(Status.FEASIBLE, program.decode(model.values()), message=message)

    def _run(self, pulp: Any, program: Any, seconds: float | None) -> float:
        """Runs CBC; returns the seconds that it took."""
        cbc = pulp.apis.PULP_CBC_CMD.pulp_cbc_path  # `COIN_CMD` stays in PuLP 4
        command = pulp.COIN_CMD(
            path=cbc,
            msg=False,
            gapRel=self.gap,
            timeLimit=seconds,
            maxNodes=self.node_limit,
            options=list(_TIGHT),
        )
        start = time.perf_counter()
        try:
            program.solve(command)
        except pulp.PulpSolverError as error:
            raise SolverError(f"PuLP cannot run the CBC that it brings: {error}.") from error
        return time.perf_counter() - start


@dataclass(frozen=True, eq=False)
class _Model:
    """The program as PuLP's objects; its variables stand in the program's order."""

    program: Any
    variables: list[Any]

    @classmethod
    def of(cls, pulp: Any, program: Program) -> _Model:
        linear, model = program.linear, pulp.LpProblem("fedhq")
        columns = zip(linear.lower, linear.upper, linear.whole, strict=True)
        variables = [
            model.add_variable(
                f"v{place}",
                float(lower),
                float(upper) if np.isfinite(upper) else None,
                pulp.LpInteger if whole else pulp.LpContinuous,
            )
            for place, (lower, upper, whole) in enumerate(columns)
        ]

        def add_up(places: Iterable[int], factors: Iterable[float]) -> Any:
            pairs = zip(places, factors, strict=True)
            return pulp.LpAffineExpression((variables[j], factor) for j, factor in pairs)

        model.setObjective(add_up(range(len(variables)), linear.cost.tolist()))
        for sense, rows, right in (
            (pulp.LpConstraintLE, linear.rows, linear.limits),
            (pulp.LpConstraintEQ, linear.equalities, linear.right),
        ):
            for places, factors, limit in _each(rows, right):
                row = add_up(places, factors)
                model.addConstraint(pulp.LpConstraint(row, sense, rhs=limit))
        return cls(model, variables)

    def values(self) -> FloatArray:
        """`(columns,)` what CBC found."""
        return np.array([variable.varValue or 0.0 for variable in self.variables])


def _each(
    rows: sparse.csr_array, right: FloatArray
) -> Iterable[tuple[list[int], list[float], float]]:
    """Columns, factors and right side of every row."""
    starts = rows.indptr.tolist()
    places, factors = rows.indices.tolist(), rows.data.tolist()
    for start, end, limit in zip(starts, starts[1:], right.tolist(), strict=False):
        yield places[start:end], factors[start:end], limit
