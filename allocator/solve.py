"""`solve`: runs a solver, times it, and checks its answer against the problem."""

from __future__ import annotations

import time

from .check import violations
from .errors import SolverError
from .infeasible import explain_infeasibility
from .problem import AllocationProblem
from .solution import Allocation, Answer, Solution, Solver, Status


def solve(problem: AllocationProblem, solver: Solver) -> Solution:
    """Solves an allocation problem and re-checks the answer, whoever found it.

    Args:
        problem: The program of design section 3.
        solver: A solver object, for instance `Sweep()` or `Milp(time_limit_seconds=10)`.

    Returns:
        The solution; reading `.allocation` raises if there is none.

    Raises:
        ValueError: If the solver cannot express a term of the problem (it names the term).
        SolverError: If a solver claims an optimum that breaks a limit: a fault of the solver.

    Example:
        >>> from fedhq.allocator import AllocationProblem, Sweep, solve
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], tradeoff=10.0)
        >>> solution = solve(problem, Sweep())
        >>> solution.status, solution.allocation.choice, solution.allocation.objective
        (<Status.OPTIMAL: 'optimal'>, array([1, 0]), 4.0)
    """
    start = time.perf_counter()
    answer = solver(problem)
    seconds = time.perf_counter() - start
    status, message, allocation = _checked(problem, answer, solver)
    bound = answer.bound
    if allocation is not None and status is Status.OPTIMAL:
        bound = min(bound, allocation.objective)
    return Solution(status, bound, answer.prices, repr(solver), seconds, message, allocation)


def _checked(
    problem: AllocationProblem, answer: Answer, solver: Solver
) -> tuple[Status, str, Allocation | None]:
    if answer.status is Status.INFEASIBLE:
        return Status.INFEASIBLE, answer.message or explain_infeasibility(problem), None
    if answer.choice is None:
        return Status.UNKNOWN, answer.message, None
    allocation = Allocation.of(problem, answer.choice)
    broken = violations(problem, allocation.choice)
    if not broken:
        return answer.status, answer.message, allocation
    if answer.status is Status.OPTIMAL:
        raise SolverError(f"{solver!r} claims an optimum that breaks a limit: {'; '.join(broken)}.")
    return Status.UNKNOWN, f"its choice breaks a limit: {'; '.join(broken)}.", None
