"""Benchmarks of the allocator: its sweep against HiGHS, directly and through cvxpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

import numpy as np

from ..allocator import (
    AllocationProblem,
    Answer,
    Budget,
    Coverage,
    Cvx,
    Milp,
    Solver,
    Status,
    Sweep,
    pareto_frontier,
    violations,
)
from ..allocator.arrays import FloatArray
from .timing import Bench, Candidate, Role, Row

MENU = ("skip", "fp32", "ptq-w2a2", "qat-w2a2")
_STEP_RATIOS = np.array([0.0, 1.0, 1.0, 1.6])
_UPLINK_SHARES = np.array([0.0, 8.0, 1.0, 1.0])
_LOSSES = np.array([0.4, 0.2, 0.15, 0.0])
_TEACHES = np.array([0.0, 0.0, 0.0, 1.0])
_LOSS_CURVE = ((0.0, 0.45), (0.1, 0.2), (0.3, 0.04), (0.6, 0.0))
_CLASSES = 10
_SECONDS_PER_LOSS = 30.0


def separable_problem(num_clients: int, seed: int = 0) -> AllocationProblem:
    """A program without budgets and coverage: lognormal devices, links and losses.

    Args:
        num_clients: Clients; the menu has four strategies.
        seed: Of the tables.

    Example:
        >>> separable_problem(3).seconds.shape
        (3, 4)
    """
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(num_clients, 2.0))[:, None]
    loss = share * _LOSSES * rng.lognormal(0.0, 0.3, (num_clients, len(MENU)))
    return AllocationProblem(MENU, _seconds(rng, num_clients), loss, tradeoff=_SECONDS_PER_LOSS)


def whole_problem(num_clients: int, seed: int = 0) -> AllocationProblem:
    """A program with an uplink budget, the coverage of ten classes and a price for absent data.

    Args:
        num_clients: Clients; the menu has four strategies.
        seed: Of the tables.

    Example:
        >>> whole_problem(5).coverage.label_counts.shape
        (5, 10)
    """
    rng = np.random.default_rng(seed)
    counts = np.ceil(rng.dirichlet(np.full(_CLASSES, 0.3), num_clients) * 200)
    counts[0] += 1  # every class occurs
    share = counts.sum(axis=1, keepdims=True) / counts.sum()
    usage = np.tile(_UPLINK_SHARES * 1e5, (num_clients, 1))
    return AllocationProblem(
        MENU,
        _seconds(rng, num_clients),
        share * np.array([0.4, 0.0, 0.02, 0.02]),
        tradeoff=_SECONDS_PER_LOSS,
        budgets=[Budget("uplink_bytes", usage, 0.8e5 * num_clients)],
        coverage=Coverage(counts, _TEACHES, _LOSS_CURVE),
        num_examples=counts.sum(axis=1),
        min_participation=0.5,
    )


def _seconds(rng: np.random.Generator, num_clients: int) -> FloatArray:
    step = rng.lognormal(0.0, 0.6, (num_clients, 1)) * _STEP_RATIOS
    send = rng.lognormal(-2.0, 0.8, (num_clients, 1)) * _UPLINK_SHARES
    return np.asarray(step + send)


def allocator_rows(bench: Bench) -> Iterator[Row]:
    """All benchmarks of the allocator, one case after the other."""
    for num_clients in bench.scale.clients:
        yield from _separable(bench, num_clients)
    for num_clients in bench.scale.clients:
        yield from _frontier(bench, num_clients)
    for num_clients in bench.scale.whole_clients:
        yield from _whole(bench, num_clients)


def _separable(bench: Bench, num_clients: int) -> list[Row]:
    problem, limit = separable_problem(num_clients), bench.scale.limit_seconds
    candidates = [
        _solver("Sweep", Role.OURS, Sweep(), problem),
        _solver("HiGHS (Milp)", Role.ALTERNATIVE, Milp(time_limit_seconds=limit), problem),
        _cvx(problem, limit),
        _sort(problem),
        Candidate("a copy of the tables", Role.LIMIT, partial(_copy, problem)),
    ]
    return bench.compare("separable program", candidates, num_clients, "clients")


def _frontier(bench: Bench, num_clients: int) -> list[Row]:
    problem = separable_problem(num_clients)
    frontier = pareto_frontier(problem)
    middle = float(frontier.round_seconds[len(frontier) // 2])
    one = AllocationProblem(MENU, problem.seconds, problem.loss, deadline_seconds=middle)
    candidates = [
        Candidate(
            "pareto_frontier",
            Role.OURS,
            partial(pareto_frontier, problem),
            describe=lambda found: f"{len(found)} points",
        ),
        _solver("HiGHS (Milp), one point of it", Role.ALTERNATIVE, Milp(), one),
        _sort(problem),
    ]
    return bench.compare("whole frontier", candidates, num_clients, "clients")


def _whole(bench: Bench, num_clients: int) -> list[Row]:
    problem, limit = whole_problem(num_clients), bench.scale.limit_seconds
    candidates = [
        _solver("HiGHS (Milp)", Role.OURS, Milp(time_limit_seconds=limit), problem),
        _cvx(problem, limit),
        Candidate("a copy of the tables", Role.LIMIT, partial(_copy, problem)),
    ]
    return bench.compare("budget and coverage", candidates, num_clients, "clients")


def _solver(
    name: str, role: Role, solver: Solver, problem: AllocationProblem, missing: str = ""
) -> Candidate:
    """A solver alone, without the re-check of `solve`; its answer is checked in the note."""
    run: Callable[[], Answer] = partial(solver, problem)
    return Candidate(name, role, run, describe=partial(_describe, problem), missing=missing)


def _cvx(problem: AllocationProblem, time_limit_seconds: float) -> Candidate:
    missing = "" if find_spec("cvxpy") else "not available: cvxpy is not installed"
    solver = Cvx(time_limit_seconds=time_limit_seconds)
    return _solver("HiGHS through cvxpy (Cvx)", Role.ALTERNATIVE, solver, problem, missing)


def _describe(problem: AllocationProblem, answer: Answer) -> str:
    """Status and objective, so that only equal work is compared."""
    if answer.choice is None:
        return str(answer.status)
    broken = violations(problem, answer.choice)
    value = problem.objective(answer.choice)
    note = f"{answer.status}, objective {value:.6g}"
    if answer.status is Status.FEASIBLE:
        note += f", not proven: gap {(value - answer.bound) / abs(value):.1%}"
    return f"{note}, BREAKS {broken}" if broken else note


def _sort(problem: AllocationProblem) -> Candidate:
    """The least that a sweep over time must do: to bring the times into order."""
    return Candidate(
        "np.sort of the seconds", Role.LIMIT, partial(np.sort, problem.seconds.ravel())
    )


def _copy(problem: AllocationProblem) -> list[FloatArray]:
    """Reads and writes every number of the problem once."""
    tables = [problem.seconds, problem.loss, *(b.usage for b in problem.budgets)]
    if problem.coverage is not None:
        tables.append(problem.coverage.label_counts)
    return [table.copy() for table in tables]
