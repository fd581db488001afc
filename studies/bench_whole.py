"""Benchmarks of the whole program: two budgets, the coverage of ten classes, participation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

from ..allocator import AllocationProblem, Cvx, Dual, Exact, Milp
from ..allocator.instances import FAMILIES
from .apart import run_apart
from .goals import Goal, Verdict
from .races import Entrant, Lane, Run, race, race_rows, timed, times_faster
from .timing import Bench, Role, Row

HARD_FAMILIES = ("subset sum", "strongly correlated", "ties", "one giant", "extreme scales")
_FAMILY = "federated"
_HARD_SEEDS, _FLEET_SEEDS = 2, 3
_MIDDLE_SECONDS = 2.0
_REPLANNED = 100  # clients of a cohort that is planned anew every round
_GIB = 2.0**30

_PROOF_GOAL = Goal("time to the proven optimum", 0.3, "s")
_CVX_GOAL = Goal("faster than cvxpy + HiGHS, same optimum", 20.0, "x", at_least=True)
_REPLAN_GOAL = Goal("time with a gap", 0.02, "s")
_MIDDLE_GOAL = Goal("time to a gap of 1e-4", _MIDDLE_SECONDS, "s")
_FLEET_GOAL = Goal("time to a gap of 1e-4", 10.0, "s")
_GIANT_GOAL = Goal("time to a gap of 1e-3", 90.0, "s")
_PEAK_GOAL = Goal("peak memory of its process", 4.0, "GiB")
_GROWTH_GOAL = Goal("most over least time per client to a gap of 1e-3, all sizes", 2.0, "x")


def whole_problem(num_clients: int, seed: int) -> AllocationProblem:
    """A fleet as one meets it, with skip, PTQ and QAT.

    Args:
        num_clients: Clients.
        seed: Of the tables.

    Example:
        >>> len(whole_problem(5, 0).budgets), whole_problem(5, 0).coverage.label_counts.shape
        (2, (5, 10))
    """
    return FAMILIES[_FAMILY](seed, num_clients)


def whole_rows(bench: Bench) -> Iterator[Row]:
    """All benchmarks of the whole program."""
    scale = bench.scale
    for num_clients in scale.cohorts:
        yield from _cohort(bench, num_clients)
    if scale.cohorts:
        yield from _replan(bench)
    if scale.middle_clients:
        yield from _middle(bench, scale.middle_clients)
    if scale.fleet_clients:
        yield from _fleet(bench, scale.fleet_clients[-1])
    if scale.giant_clients:
        yield _giant(bench)
    if scale.hard_clients:
        for family in HARD_FAMILIES:
            yield from _hard(bench, family)


def gap_rows(bench: Bench) -> Iterator[Row]:
    """The gap that `Dual` leaves, by the number of clients."""
    for num_clients in bench.scale.gap_clients:
        entrants = [Entrant("Dual", Role.OURS, Dual())]
        case = f"gap of Dual, {num_clients:,} clients"
        yield from _rows(case, _race(bench, case, num_clients, entrants, bench.scale.seeds))


def _race(
    bench: Bench, case: str, num_clients: int, entrants: Sequence[Entrant], seeds: int
) -> list[Lane]:
    return race(bench, case, partial(whole_problem, num_clients), entrants, seeds)


def _rows(case: str, lanes: Sequence[Lane], *verdicts: Verdict) -> list[Row]:
    """The rows of a race; what was asked stands with the first."""
    ours, *others = race_rows(case, lanes)
    return [replace(ours, verdicts=verdicts), *others]


def _cohort(bench: Bench, num_clients: int) -> list[Row]:
    limit = bench.scale.limit_seconds
    missing = "" if find_spec("cvxpy") else "not available: cvxpy is not installed"
    through_cvxpy = Cvx(time_limit_seconds=limit)
    entrants = [
        Entrant("Exact", Role.OURS, Exact()),
        Entrant("HiGHS (Milp)", Role.ALTERNATIVE, Milp(time_limit_seconds=limit)),
        Entrant("HiGHS through cvxpy (Cvx)", Role.ALTERNATIVE, through_cvxpy, missing),
    ]
    if not missing:
        through_cvxpy(whole_problem(4, 0))  # imports cvxpy
    case = f"whole program, {num_clients:,} clients"
    exact, highs, cvx = _race(bench, case, num_clients, entrants, bench.scale.seeds)
    verdicts = [_PROOF_GOAL.judge(*(run.seconds_to_proof for run in exact.runs))]
    if cvx.runs:
        verdicts.append(_CVX_GOAL.judge(*times_faster(exact, cvx)))
    return _rows(case, [exact, highs, cvx], *verdicts)


def _replan(bench: Bench) -> list[Row]:
    entrants = [
        Entrant("Dual", Role.OURS, Dual()),
        Entrant("Dual(gap=1e-3)", Role.OURS, Dual(1e-3)),
    ]
    case = f"plan of a round, {_REPLANNED} clients"
    lanes = _race(bench, case, _REPLANNED, entrants, bench.scale.seeds)
    return _rows(case, lanes, _REPLAN_GOAL.judge(*(run.seconds for run in lanes[0].runs)))


def _middle(bench: Bench, num_clients: int) -> list[Row]:
    gap, limit = 1e-4, _MIDDLE_SECONDS
    entrants = [
        Entrant(f"Exact(gap={gap:g}), {limit:g} s", Role.OURS, Exact(gap, limit)),
        Entrant(f"HiGHS (Milp(gap={gap:g})), {limit:g} s", Role.ALTERNATIVE, Milp(gap, limit)),
    ]
    case = f"whole program to a gap, {num_clients:,} clients"
    lanes = _race(bench, case, num_clients, entrants, bench.scale.seeds)
    return _rows(case, lanes, _MIDDLE_GOAL.judge(*(r.seconds_to(gap) for r in lanes[0].runs)))


def _fleet(bench: Bench, num_clients: int) -> list[Row]:
    gap = 1e-4
    entrants = [Entrant(f"Dual(gap={gap:g})", Role.OURS, Dual(gap))]
    case = f"whole program to a gap, {num_clients:,} clients"
    seeds = min(bench.scale.seeds, _FLEET_SEEDS)
    lanes = _race(bench, case, num_clients, entrants, seeds)
    return _rows(case, lanes, _FLEET_GOAL.judge(*(r.seconds_to(gap) for r in lanes[0].runs)))


def _giant(bench: Bench) -> Row:
    """The largest, in a process of its own, and how the time grows up to it."""
    num_clients, gap = bench.scale.giant_clients, 1e-3
    case = f"whole program to a gap, {num_clients:,} clients"
    per_client = []
    for size in bench.scale.fleet_clients:
        bench.tell(f"growth: {size:,} clients")
        per_client.append(timed(whole_problem(size, 0), Dual(gap)).seconds / size)
    bench.tell(case)
    apart = run_apart(_FAMILY, 0, num_clients, gap)
    run: Run = apart.run
    per_client.append(run.seconds / num_clients)
    entrant = Entrant(f"Dual(gap={gap:g})", Role.OURS, Dual(gap))
    growth = ", ".join(f"{1e6 * seconds:.0f}" for seconds in per_client)
    (row,) = _rows(
        case,
        [Lane(entrant, (run,))],
        _GIANT_GOAL.judge(run.seconds_to(gap)),
        _PEAK_GOAL.judge(apart.peak_bytes / _GIB),
        _GROWTH_GOAL.judge(max(per_client) / min(per_client)),
    )
    sizes = ", ".join(f"{size:,}" for size in (*bench.scale.fleet_clients, num_clients))
    return replace(row, note=f"{row.note}; {growth} µs per client at {sizes} clients")


def _hard(bench: Bench, family: str) -> list[Row]:
    num_clients, limit = bench.scale.hard_clients, bench.scale.hard_seconds
    entrants = [
        Entrant("Exact", Role.OURS, Exact(time_limit_seconds=limit)),
        Entrant("HiGHS (Milp)", Role.ALTERNATIVE, Milp(time_limit_seconds=limit)),
    ]
    case = f"hard: {family}, {num_clients:,} clients, {limit:g} s"
    build = FAMILIES[family]
    seeds = min(bench.scale.seeds, _HARD_SEEDS)
    return _rows(case, race(bench, case, lambda seed: build(seed, num_clients), entrants, seeds))
