"""Benchmarks of the sweep: the separable program and its frontier, against sums, sorts, HiGHS."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from ..allocator import (
    AllocationProblem,
    Answer,
    Milp,
    Status,
    Sweep,
    pareto_frontier,
    violations,
)
from ..allocator.arrays import FloatArray
from .goals import Goal
from .races import Entrant, race, race_rows, times_faster
from .timing import Bench, Candidate, Role, Row

MENU = (
    *("skip", "fp32", "ptq-w2a2", "qat-w2a2", "ptq-w4a4", "qat-w4a4", "ptq-w8a8"),
    "qat-w8a8",
)
_STEP_RATIOS = np.array([0.0, 1.0, 1.0, 1.6, 1.0, 1.5, 1.0, 1.4])
_UPLINK_SHARES = np.array([0.0, 8.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
_LOSSES = np.array([0.4, 0.2, 0.15, 0.04, 0.1, 0.02, 0.05, 0.0])
_SECONDS_PER_LOSS = 30.0
_HIGHS_STRATEGIES = 7

_SUM_GOAL = Goal("time over summing both tables", 10.0, "x")
_MEMORY_GOAL = Goal("peak memory over the tables", 3.0, "x")
_GROWTH_GOAL = Goal("most over least time per client, all sizes", 2.0, "x")
_SORT_GOAL = Goal("time over np.sort of all breakpoints", 2.0, "x")
_ARGSORT_GOAL = Goal("time over np.argsort of them", 2.0, "x")
_HIGHS_GOAL = Goal("faster than HiGHS, same optimum", 100.0, "x", at_least=True)


def separable_problem(
    num_clients: int, seed: int = 0, num_strategies: int = len(MENU)
) -> AllocationProblem:
    """A program without budgets and coverage: lognormal devices, links and losses.

    Args:
        num_clients: Clients.
        seed: Of the tables.
        num_strategies: The first of the menu of eight, skip among them.

    Example:
        >>> separable_problem(3).seconds.shape
        (3, 8)
    """
    rng = np.random.default_rng(seed)
    shape = num_clients, num_strategies
    share = rng.dirichlet(np.full(num_clients, 2.0))[:, None]
    step = rng.lognormal(0.0, 0.6, (num_clients, 1)) * rng.lognormal(0.0, 0.1, shape)
    send = rng.lognormal(-2.0, 0.8, (num_clients, 1))
    seconds = step * _STEP_RATIOS[:num_strategies] + send * _UPLINK_SHARES[:num_strategies]
    loss = share * _LOSSES[:num_strategies] * rng.lognormal(0.0, 0.3, shape)
    return AllocationProblem(MENU[:num_strategies], seconds, loss, tradeoff=_SECONDS_PER_LOSS)


def sweep_rows(bench: Bench) -> Iterator[Row]:
    """All benchmarks of the separable program."""
    yield from _optima(bench)
    for num_clients in bench.scale.clients:
        yield from _frontier(bench, num_clients)
    for num_clients in bench.scale.highs_clients:
        yield from _against_highs(bench, num_clients)


def _optima(bench: Bench) -> Iterator[Row]:
    """The optimum at all sizes; the goals are judged at the largest."""
    per_client = []
    for num_clients in bench.scale.clients:
        ours, *others = _optimum(bench, separable_problem(num_clients))
        assert ours.best_seconds is not None
        assert ours.over_limit is not None
        per_client.append(ours.best_seconds / num_clients)
        if num_clients == bench.scale.clients[-1]:
            verdicts = (
                _SUM_GOAL.judge(ours.over_limit),
                _MEMORY_GOAL.judge(peak_over_tables(num_clients)),
                _GROWTH_GOAL.judge(max(per_client) / min(per_client)),
            )
            ours = replace(ours, verdicts=verdicts)
        yield from (ours, *others)


def _optimum(bench: Bench, problem: AllocationProblem) -> list[Row]:
    candidates = [
        Candidate("Sweep", Role.OURS, partial(Sweep(), problem), partial(_describe, problem)),
        Candidate("sum of both tables", Role.LIMIT, partial(_sum, problem)),
    ]
    return bench.compare("separable program x 8", candidates, problem.num_clients, "clients")


def _describe(problem: AllocationProblem, answer: Answer) -> str:
    if answer.status is not Status.OPTIMAL or answer.choice is None:
        return str(answer.status)
    value, broken = problem.objective(answer.choice), violations(problem, answer.choice)
    note = f"optimal, objective {value:.6g}, gap {max(value - answer.bound, 0.0) / value:.1e}"
    return f"{note}, BREAKS {broken}" if broken else note


def _sum(problem: AllocationProblem) -> float:
    """Reads every number of the program once."""
    return float(problem.seconds.sum() + problem.loss.sum())


def peak_over_tables(num_clients: int) -> float:
    """Peak memory of the problem and its sweep, over that of its tables of seconds and losses.

    Counts what is allocated through Python's hooks, to which NumPy reports all its arrays.

    Args:
        num_clients: Of a separable problem with eight strategies.
    """
    tracemalloc.start()
    try:
        problem = separable_problem(num_clients)
        tracemalloc.reset_peak()
        Sweep()(problem)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return peak / (problem.seconds.nbytes + problem.loss.nbytes)


def _frontier(bench: Bench, num_clients: int) -> list[Row]:
    problem = separable_problem(num_clients)
    breakpoints = problem.seconds[:, problem.participates].ravel()
    find: Callable[[], object] = partial(pareto_frontier, problem)
    candidates = [
        Candidate("pareto_frontier", Role.OURS, find, lambda found: f"{len(found):,} points"),
        Candidate("np.sort of all breakpoints", Role.LIMIT, partial(np.sort, breakpoints)),
        Candidate("np.argsort of all breakpoints", Role.LIMIT, partial(np.argsort, breakpoints)),
        _one_point(problem, bench.scale.limit_seconds),
    ]
    case = "whole frontier x 8"
    ours, sort, argsort, one = bench.compare(case, candidates, num_clients, "clients")
    if num_clients == bench.scale.clients[-1]:
        assert argsort.over_ours is not None
        assert ours.over_limit is not None
        verdicts = _SORT_GOAL.judge(ours.over_limit), _ARGSORT_GOAL.judge(1 / argsort.over_ours)
        ours = replace(ours, verdicts=verdicts)
    return [ours, one, sort, argsort]


def _one_point(problem: AllocationProblem, time_limit_seconds: float) -> Candidate:
    """The least loss within the middle of the frontier's times, by HiGHS."""
    times: FloatArray = pareto_frontier(problem).round_seconds
    middle = float(times[len(times) // 2])
    one = AllocationProblem(MENU, problem.seconds, problem.loss, deadline_seconds=middle)
    run: Callable[[], Answer] = partial(Milp(time_limit_seconds=time_limit_seconds), one)
    return Candidate("HiGHS (Milp), one point", Role.ALTERNATIVE, run, partial(_describe, one))


def _against_highs(bench: Bench, num_clients: int) -> list[Row]:
    case = f"separable program x {_HIGHS_STRATEGIES}, {num_clients:,} clients"
    limit = bench.scale.highs_seconds
    entrants = [
        Entrant("Sweep", Role.OURS, Sweep()),
        Entrant(f"HiGHS (Milp), {limit:g} s", Role.ALTERNATIVE, Milp(time_limit_seconds=limit)),
    ]
    build = partial(_with_seven, num_clients)
    lanes = race(bench, case, build, entrants, min(bench.scale.seeds, 3))
    ours, highs = race_rows(case, lanes)
    return [replace(ours, verdicts=(_HIGHS_GOAL.judge(*times_faster(*lanes)),)), highs]


def _with_seven(num_clients: int, seed: int) -> AllocationProblem:
    return separable_problem(num_clients, seed, _HIGHS_STRATEGIES)
