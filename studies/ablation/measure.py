"""Measures one solver on one problem, in this process: a cell of the grid."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ...allocator import AllocationProblem, Answer, Solution, Solver, SolverError, solve
from ...allocator.instances import FAMILIES
from ...allocator.solvers.phases import recording
from ..search.record import digits
from .contestants import Contestant
from .memory import MemoryMark
from .problems import ProblemSource
from .record import Cell

MOST_CHOICES = 2000
"""Clients up to which a cell says what each does."""

REPEATED_BELOW_SECONDS = 0.2
"""Calls are repeated, two at a time, while all so far took less than this together ..."""
MOST_CALLS = 5
"""... and there were fewer than these."""

_MOST_DIGITS = 36
_WARM_UP_CLIENTS = 3


@dataclass(frozen=True)
class Task:
    """A cell to measure.

    Args:
        problem: Where it comes from.
        contestant: The solver.
        time_limit_seconds: What it is given.
        provenance: Key into the study's `provenance.json`.
        workers: How many processes measure at a time.
    """

    problem: ProblemSource
    contestant: Contestant
    time_limit_seconds: float
    provenance: str
    workers: int = 1


@dataclass(frozen=True)
class Measured:
    """What a call of a solver came to.

    Args:
        outcome: See `Cell`.
        seconds: By phase, and `total` of the call without what is booked as `start`.
        message: What limited it, why it refused or crashed.
        solution: What `solve` made of its answer; None if that was an error.
        broke_a_limit: Whether `solve` dropped its allocation.
    """

    outcome: str
    seconds: Mapping[str, float]
    message: str = ""
    solution: Solution | None = None
    broke_a_limit: bool = False


@dataclass(eq=False)
class _Watched:
    """A solver that remembers what it answered or raised, so that faults can be told apart.

    `solve` raises `SolverError` for a solver that breaks down and for one that lies; only what
    comes out of the solver itself is a breakdown.
    """

    solver: Solver
    answer: Answer | None = None
    error: BaseException | None = field(default=None)

    def __repr__(self) -> str:
        return repr(self.solver)

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        self.answer = self.error = None
        try:
            self.answer = self.solver(problem)
        except Exception as error:
            self.error = error
            raise
        return self.answer


def warm_up(solver: Solver) -> None:
    """Runs a solver on a tiny problem, so that what it imports is not measured."""
    call(FAMILIES["federated"](0, _WARM_UP_CLIENTS), solver)


def measure(task: Task) -> Cell:
    """Measures a cell: the time is that of the median call, all else that of the first.

    There are one, three or five calls: a short one alone says little.
    """
    solver = task.contestant.solver
    if solver is None:
        return unmeasured(task, "missing", task.contestant.missing, {})
    problem = task.problem.build()
    mark = MemoryMark.now()
    first = call(problem, solver)
    peak_bytes = mark.rise_bytes()
    times = [first.seconds]
    while len(times) < MOST_CALLS and sum(map(_total, times)) < REPEATED_BELOW_SECONDS:
        for _ in range(2):  # an odd number of calls has a median among them
            gc.collect()
            times.append(call(problem, solver).seconds)
    median = sorted(times, key=_total)[len(times) // 2]
    return _cell(task, problem, replace(first, seconds=median), peak_bytes)


def _total(seconds: Mapping[str, float]) -> float:
    return seconds["total"]


def call(problem: AllocationProblem, solver: Solver) -> Measured:
    """Calls a solver once, through `solve`, which checks its answer.

    Example:
        >>> from fedhq.allocator import Sweep
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], tradeoff=10.0)
        >>> call(problem, Sweep()).outcome
        'optimal'
    """
    watched = _Watched(solver)
    with recording() as phases:
        start = time.perf_counter()
        try:
            # What is infeasible is not explained: that would take longer than any solver.
            found: Solution | Exception = solve(problem, watched, explain_infeasible=False)
        except Exception as error:
            found = error
        total = time.perf_counter() - start
    seconds: dict[str, float] = {name: spent for name, spent in phases.items()}
    seconds["total"] = total - seconds.get("start", 0.0)
    if isinstance(found, Solution):
        dropped = watched.answer is not None and watched.answer.choice is not None
        broke = dropped and not found.status.has_allocation
        return Measured(str(found.status), seconds, found.message, found, broke)
    return Measured(_fault(found, watched.error), seconds, str(found))


def _fault(error: Exception, raised: BaseException | None) -> str:
    """The outcome of a call that ended in an error, given what the solver itself raised."""
    if raised is None:
        return "wrong" if isinstance(error, SolverError) else "crashed"
    if isinstance(raised, ModuleNotFoundError):
        return "missing"
    refused = isinstance(raised, ValueError) and not isinstance(raised, np.linalg.LinAlgError)
    return "refused" if refused else "crashed"


def unmeasured(task: Task, outcome: str, message: str, seconds: Mapping[str, float]) -> Cell:
    """The cell of a solver that brought nothing: ended, broken down, or not tried.

    Args:
        task: What was to be measured.
        outcome: See `Cell`.
        message: What happened.
        seconds: How long it took, where that is known.
    """
    problem = task.problem.build()
    return _cell(task, problem, Measured(outcome, seconds, message), None)


def _cell(
    task: Task, problem: AllocationProblem, measured: Measured, peak_bytes: int | None
) -> Cell:
    cell = Cell(
        family=task.problem.family,
        problem=task.problem.name,
        clients=problem.num_clients,
        strategies=len(problem.strategies),
        seed=task.problem.seed,
        solver=task.contestant.name,
        kind=task.contestant.kind,
        settings=task.contestant.settings,
        solver_version=task.contestant.version,
        time_limit_seconds=task.time_limit_seconds,
        outcome=measured.outcome,
        objective=None,
        bound=None,
        gap=None,
        round_seconds=None,
        loss=None,
        seconds=dict(measured.seconds),
        peak_bytes=peak_bytes,
        verified=False if measured.broke_a_limit else None,
        choice="",
        message=measured.message,
        workers=task.workers,
        provenance=task.provenance,
    )
    solution = measured.solution
    if solution is None:
        return cell
    cell = replace(cell, bound=_finite(solution.bound))
    if not solution.status.has_allocation:
        return cell
    allocation = solution.allocation
    short = problem.num_clients <= MOST_CHOICES and len(problem.strategies) <= _MOST_DIGITS
    return replace(
        cell,
        objective=_finite(allocation.objective),
        gap=_finite(solution.gap),
        round_seconds=allocation.round_seconds,
        loss=allocation.loss,
        verified=True,
        choice=digits(allocation.choice.tolist()) if short else "",
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
