"""What a round does whose limits cannot be kept: the nearest limits, or everybody's fastest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import IntArray
from .check import violations
from .errors import InfeasibleError, SolverError
from .groups import Merged
from .limits import Kind, Limit, with_only
from .problem import AllocationProblem
from .solution import Allocation, Solver
from .solve import solve
from .solvers.dual import Dual
from .solvers.highs import HighsSettings
from .solvers.program import Program

RELAXED_FIRST_TO_LAST = (
    Kind.DEADLINE,
    Kind.MAX_LOSS,
    Kind.MIN_PARTICIPATION,
    Kind.AT_LEAST,
    Kind.AT_MOST,
    Kind.BUDGET,
)
"""What a round can best do without: being late costs time, a budget may be somebody's money."""

_NODE_LIMIT = 2_000  # not seconds: the same limits on every machine
_MOST_BINARIES = 6_000  # as in `infeasible`: HiGHS needs minutes beyond


@dataclass(frozen=True, eq=False)
class Relaxed:
    """A problem whose limits can be kept together.

    Args:
        problem: The problem with the nearest values of its limits.
        gave_up: What was relaxed, in words; empty if nothing had to be.
        choice: `(clients,)` one that keeps the limits as they are now, where one is known.
    """

    problem: AllocationProblem
    gave_up: tuple[str, ...]
    choice: IntArray | None = None


def settle(problem: AllocationProblem, solver: Solver) -> tuple[Allocation, str]:
    """An allocation in any case, and what was given up for it, in words.

    The solver's answer, or that of `Dual` where it fails; if there is none, the same with relaxed
    limits (`relax`); then any allocation that keeps these; at last everybody's fastest strategy.

    Raises:
        ValueError: If the solver cannot express a term of the problem.

    Example:
        >>> from fedhq.allocator import Milp
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], deadline_seconds=2.0)
        >>> allocation, note = settle(problem, Milp())
        >>> allocation.choice, note
        (array([1, 0]), 'Not all limits can be kept; relaxed: deadline_seconds = 2 (now 3).')
    """
    try:
        return _answered(problem, solver)
    except (InfeasibleError, SolverError) as error:
        reason = str(error)
    relaxed = relax(problem)
    given = f"Not all limits can be kept; relaxed: {'; '.join(relaxed.gave_up)}."
    if relaxed.gave_up:
        try:
            return _answered(relaxed.problem, solver)[0], given
        except (InfeasibleError, SolverError) as error:
            reason = str(error)
    if relaxed.choice is not None:
        note = f"{given if relaxed.gave_up else ''} Any allocation that keeps the limits: {reason}"
        return Allocation.of(relaxed.problem, relaxed.choice), note.strip()
    choice = fastest(problem)
    note = f"Everybody does its fastest allowed strategy, since there was no answer: {reason}"
    if broken := violations(problem, choice):
        note = f"{note} It breaks limits: {'; '.join(broken)}."
    return Allocation.of(problem, choice), note


def _answered(problem: AllocationProblem, solver: Solver) -> tuple[Allocation, str]:
    """The solver's allocation, or another's where it fails, which the note says."""
    fallbacks = (Dual(),) if problem.has_goal else ()
    solution = solve(problem, solver, fallbacks, explain_infeasible=False)
    note = "" if solution.solver == repr(solver) else solution.message
    return solution.allocation, note


def relax(problem: AllocationProblem) -> Relaxed:
    """Relaxes as few limits as little as needed, in the order of `RELAXED_FIRST_TO_LAST`.

    The first limit that suffices is set to the nearest feasible value; if none of the first does
    alone, they are given up together and afterwards set to the nearest values one by one, the last
    first. Beyond 6000 choices only what no limit can reach by itself is relaxed.

    Args:
        problem: A problem that a solver found infeasible; its goal does not matter.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], deadline_seconds=2.0)
        >>> relax(problem).gave_up
        ('deadline_seconds = 2 (now 3)',)
    """
    merged = Merged.of(problem).problem
    limits = sorted(Limit.given(merged), key=lambda m: RELAXED_FIRST_TO_LAST.index(m.kind))
    if not merged.allowed[:, merged.participates].any():
        return Relaxed(problem, ())
    known: IntArray | None = None
    if merged.seconds.size > _MOST_BINARIES:
        nearest = {limit: limit.alone(merged)[0] for limit in limits}
    else:
        nearest, known = _nearest_values(merged, limits)
    gave_up = []
    for limit, value in nearest.items():
        if not limit.is_kept_by(problem, value):
            rounded = limit.rounded(value)
            gave_up.append(f"{limit} = {limit.value(problem):.6g} (now {rounded:.6g})")
            problem = limit.set_to(problem, rounded)
    choice = None if known is None else Merged.of(problem).spread(known)
    if choice is not None and violations(problem, choice):
        choice = None
    return Relaxed(problem, tuple(gave_up), choice)


def fastest(problem: AllocationProblem) -> IntArray:
    """`(clients,)` the fastest allowed strategy of everybody; who can take part does.

    Example:
        >>> problem = AllocationProblem(("skip", "ptq-w2a2", "qat-w2a2"), [[0, 1, 2], [0, 5, 3]],
        ...                             np.zeros((2, 3)), groups=["a", "a"])
        >>> fastest(problem)
        array([2, 2])
    """
    merged = Merged.of(problem)
    able = merged.problem.allowed & merged.problem.participates
    seconds = np.where(able, merged.problem.seconds, np.inf)
    only = merged.problem.allowed.argmax(axis=1)
    return merged.spread(np.where(able.any(axis=1), seconds.argmin(axis=1), only))


def _nearest_values(
    problem: AllocationProblem, limits: list[Limit]
) -> tuple[dict[Limit, float], IntArray | None]:
    """Values of some limits that are feasible with all others as they are, and a choice so."""
    others, without = list(limits), []
    nearest: dict[Limit, float] = {}
    choice: IntArray | None = None
    for limit in limits:
        others.remove(limit)
        found = _nearest(problem, limit, others)
        without.append(limit)
        if found is not None:
            break
    for limit in reversed(without):
        found = _nearest(problem, limit, others)
        if found is not None:
            choice, value = found, limit.taken(problem, found)
            nearest[limit] = value
            if not limit.is_kept_by(problem, value):
                problem = limit.set_to(problem, limit.rounded(value))
            others.append(limit)
    return nearest, choice


def _nearest(problem: AllocationProblem, limit: Limit, others: list[Limit]) -> IntArray | None:
    """A choice with the nearest value of a limit if the others are kept; None if none was found."""
    program = Program.feasible_set(with_only(problem, others))
    if program is None:
        return None
    program = program.minimising(limit.cost(program, problem))
    try:
        found = program.minimise(HighsSettings(node_limit=_NODE_LIMIT))
    except SolverError:
        return None
    if found.values is None:
        return None
    choice = program.decode(found.values)
    return None if violations(with_only(problem, others), choice) else choice
