"""`solve`: runs a solver, times it, and checks its answer against the problem."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .check import violations
from .errors import FedHQError, SolverError
from .groups import Merged
from .infeasible import FeasibleError, explain_infeasibility
from .problem import AllocationProblem
from .solution import Allocation, Answer, Solution, Solver, Status
from .solvers.phases import phase

_PROOF_TOLERANCE = 1e-6
"""How far an optimum may be from its bound, relative to the objective ..."""

_SMALL = 1e-2
"""... or to this part of the largest terms, where these nearly cancel out of the objective."""


def solve(
    problem: AllocationProblem,
    solver: Solver,
    fallbacks: Sequence[Solver] = (),
    *,
    explain_infeasible: bool = True,
) -> Solution:
    """Solves an allocation problem and re-checks the answer, whoever found it.

    Clients of a group are merged before the solver sees them, so that every solver takes groups.

    Args:
        problem: The program of design section 3.
        solver: A solver object, for instance `Exact()` or `Milp(time_limit_seconds=10)`.
        fallbacks: Solvers that are asked, one after the other, where those before crashed, found
            nothing or were caught at a wrong answer; the solution says who answered, and why.
        explain_infeasible: Whether to say why no allocation exists, which checks the claim, and may
            take up to 20 s in a large problem.

    Returns:
        The solution; reading `.allocation` raises if there is none.

    Raises:
        ValueError: If the solver cannot express a term of the problem (it names the term).
        SolverError: If the solver crashes, or its answer contradicts itself or the problem: an
            optimum that breaks a limit or whose bound does not prove it, a bound above the
            objective, a choice too many or missing, or infeasibility of a feasible problem.

    Example:
        >>> from fedhq.allocator import AllocationProblem, Sweep, solve
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], tradeoff=10.0)
        >>> solution = solve(problem, Sweep())
        >>> solution.status, solution.allocation.choice, solution.allocation.objective
        (<Status.OPTIMAL: 'optimal'>, array([1, 0]), 4.0)
    """
    if not fallbacks:
        return _solve(problem, solver, explain_infeasible)
    next_one, *others = fallbacks
    try:
        solution = _solve(problem, solver, explain_infeasible)
        if solution.status is not Status.UNKNOWN:
            return solution
        reason = solution.message
    except SolverError as error:
        reason = str(error)
    found = solve(problem, next_one, others, explain_infeasible=explain_infeasible)
    told = f"{solver!r} failed: {reason.rstrip('.')}. Answered by {found.solver}. {found.message}"
    return replace(found, message=told.strip())


def _solve(problem: AllocationProblem, solver: Solver, explain_infeasible: bool) -> Solution:
    merged = Merged.of(problem)
    start = time.perf_counter()
    with phase("solve"):
        answer = _ask(merged.problem, solver)
    seconds = time.perf_counter() - start
    _check_claim(answer, solver)
    if answer.status is Status.INFEASIBLE and not answer.message and explain_infeasible:
        answer = replace(answer, message=_explained(merged.problem, solver))
    status, message, allocation = _checked(problem, merged, answer, solver)
    bound = answer.bound
    if allocation is not None and problem.has_goal:
        _check_bound(merged.problem, allocation, status, bound, solver)
        bound = min(bound, allocation.objective)
        missing = allocation.objective - bound
        if status is Status.OPTIMAL and missing > _PROOF_TOLERANCE * abs(allocation.objective):
            # Within what a solver can tell apart, but no proof: the terms differ too much in size.
            status = Status.FEASIBLE
    return Solution(
        status, bound, answer.prices, repr(solver), seconds, message, problem, allocation
    )


def _ask(problem: AllocationProblem, solver: Solver) -> Answer:
    """The answer; whatever a solver of somebody else's raises becomes an error of this package."""
    try:
        return solver(problem)
    except (ValueError, FedHQError) as error:
        if not isinstance(error, np.linalg.LinAlgError):  # a ValueError that refuses no term
            raise
        raise SolverError(f"{solver!r} crashed: {error}.") from error
    except Exception as error:
        raise SolverError(
            f"{solver!r} crashed: {type(error).__name__}: {error}. Use another solver, or give "
            "`fallbacks`."
        ) from error


def _checked(
    problem: AllocationProblem, merged: Merged, answer: Answer, solver: Solver
) -> tuple[Status, str, Allocation | None]:
    if answer.choice is None:
        return answer.status, answer.message, None
    try:
        Allocation.of(merged.problem, answer.choice)
    except ValueError as error:
        raise SolverError(f"{solver!r} answers with what is no choice: {error}") from None
    allocation = Allocation.of(problem, merged.spread(answer.choice))
    broken = violations(problem, allocation.choice)
    if not broken:
        return answer.status, answer.message, allocation
    if answer.status is Status.OPTIMAL:
        raise SolverError(f"{solver!r} claims an optimum that breaks a limit: {'; '.join(broken)}.")
    return Status.UNKNOWN, f"its choice breaks a limit: {'; '.join(broken)}.", None


def _check_claim(answer: Answer, solver: Solver) -> None:
    if answer.status.has_allocation != (answer.choice is not None):
        brings = "no choice" if answer.choice is None else "a choice"
        raise SolverError(f"{solver!r} claims `{answer.status}`, but brings {brings}.")
    if np.isnan(answer.bound):
        raise SolverError(f"{solver!r} gives NaN as its bound: -inf is a bound that says nothing.")


def _check_bound(
    problem: AllocationProblem,
    allocation: Allocation,
    status: Status,
    bound: float,
    solver: Solver,
) -> None:
    objective = allocation.objective
    tolerance = _PROOF_TOLERANCE * max(abs(objective), _SMALL * _largest_terms(problem))
    if bound > objective + tolerance:
        raise SolverError(
            f"{solver!r} claims that no allocation is below {bound:.9g}, but its own has an "
            f"objective of {objective:.9g}."
        )
    if status is Status.OPTIMAL and bound < objective - tolerance:
        raise SolverError(
            f"{solver!r} claims an optimum of {objective:.9g}, but proves no more than a bound of "
            f"{bound:.9g}. Its status is `feasible` then."
        )


def _largest_terms(problem: AllocationProblem) -> float:
    """The largest single values of the objective's terms: a MIP solver's gap is relative to it."""
    loss = float(problem.loss[problem.allowed].max())
    if problem.coverage is not None:
        loss += problem.coverage.most
    value = problem.time_weight * float(problem.seconds[problem.allowed].max())
    value += problem.loss_weight * loss
    if problem.switching_seconds is not None:
        value += float(problem.switching_seconds[problem.allowed].max())
    return value


def _explained(problem: AllocationProblem, solver: Solver) -> str:
    try:
        return explain_infeasibility(problem)
    except FeasibleError as error:
        raise SolverError(f"{solver!r} claims that no allocation exists, but {error}") from None
    except SolverError as error:
        return f"No allocation keeps every limit; which are at fault was not settled: {error}"
