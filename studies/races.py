"""Solvers against each other over several problems: times, statuses, objectives and gaps.

How long a solver takes varies from one problem to the next by more than the machine's noise, so
that one problem says little: the median and the worst of several do. Building a problem never
counts.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isfinite

from ..allocator import AllocationProblem, Solver, Status, violations
from .timing import Bench, Role, Row

_SAME = 1e-6  # relative difference of objectives that counts for none
_SHORT_SECONDS, _REPEATS = 0.15, 5  # what is this short is run again, and the best run counts
_LEAST = 1e-9


@dataclass(frozen=True)
class Entrant:
    """A solver in a race.

    Args:
        name: What it is called in the table.
        role: What it is compared for.
        solver: The solver with its settings.
        missing: Why it cannot be run; empty if it can.
    """

    name: str
    role: Role
    solver: Solver
    missing: str = ""


@dataclass(frozen=True)
class Run:
    """What a solver made of a problem.

    Args:
        seconds: Time of the call.
        status: What it claims; `UNKNOWN` if its choice breaks a limit.
        objective: Of its choice; infinite without one.
        gap: Proven relative gap of the objective; infinite without a choice.
    """

    seconds: float
    status: Status
    objective: float
    gap: float

    def seconds_to(self, gap: float) -> float:
        """The time, if the gap was reached; else infinite."""
        return self.seconds if self.gap <= gap else inf

    @property
    def seconds_to_proof(self) -> float:
        """The time, if the optimum (or that there is none) was proven; else infinite."""
        return self.seconds if self.status in (Status.OPTIMAL, Status.INFEASIBLE) else inf


@dataclass(frozen=True)
class Lane:
    """An entrant's runs, one for each problem; none where it is missing."""

    entrant: Entrant
    runs: tuple[Run, ...]


def timed(problem: AllocationProblem, solver: Solver) -> Run:
    """Runs a solver and checks its choice; the best of several runs if they are short.

    Example:
        >>> from fedhq.allocator import Sweep
        >>> run = timed(AllocationProblem(("ptq-w2a2",), [[2.0]], [[0.1]], tradeoff=10.0), Sweep())
        >>> run.status, run.objective, run.gap
        (<Status.OPTIMAL: 'optimal'>, 3.0, 0.0)
    """
    seconds = inf
    for _ in range(_REPEATS):
        start = time.perf_counter()
        answer = solver(problem)
        seconds = min(seconds, time.perf_counter() - start)
        if seconds > _SHORT_SECONDS:
            break
    if answer.choice is None:
        return Run(seconds, answer.status, inf, inf)
    if violations(problem, answer.choice):
        return Run(seconds, Status.UNKNOWN, inf, inf)
    value = problem.objective(answer.choice)
    gap = max(value - answer.bound, 0.0) / max(abs(value), _LEAST)
    return Run(seconds, answer.status, value, gap)


def race(
    bench: Bench,
    case: str,
    build: Callable[[int], AllocationProblem],
    entrants: Sequence[Entrant],
    seeds: int,
) -> list[Lane]:
    """Lets solvers answer the same problems, in turn.

    Args:
        bench: Is told what is measured next.
        case: What is compared.
        build: From a seed to a problem.
        entrants: The first is what the others are compared with.
        seeds: How many problems.
    """
    runs: list[list[Run]] = [[] for _ in entrants]
    for seed in range(seeds):
        problem = build(seed)
        for own, entrant in zip(runs, entrants, strict=True):
            if not entrant.missing:
                bench.tell(f"{case}, {seed + 1} of {seeds}: {entrant.name}")
                own.append(timed(problem, entrant.solver))
    return [Lane(entrant, tuple(own)) for entrant, own in zip(entrants, runs, strict=True)]


def times_faster(ours: Lane, other: Lane) -> list[float]:
    """How many times as long the other takes to do the same, for each problem.

    0 where our optimum is not proven or the other's is a better one. Where the other stops without
    a proof, it would take longer still.
    """
    pairs = zip(ours.runs, other.runs, strict=True)
    return [
        theirs.seconds / own.seconds_to_proof if _no_worse(own, theirs.objective) else 0.0
        for own, theirs in pairs
    ]


def _no_worse(run: Run, objective: float) -> bool:
    return run.objective <= objective + _SAME * max(abs(objective), _LEAST)


def race_rows(case: str, lanes: Sequence[Lane]) -> list[Row]:
    """The table's rows; the ratio to the first is the median of the problems' ratios."""
    return [_row(case, lane, lanes) for lane in lanes]


def _row(case: str, lane: Lane, lanes: Sequence[Lane]) -> Row:
    entrant, runs = lane.entrant, lane.runs
    if not runs:
        return Row(case, entrant.name, entrant.role, None, None, None, None, entrant.missing)
    seconds = [run.seconds for run in runs]
    pairs = zip(runs, lanes[0].runs, strict=True)
    return Row(
        case,
        entrant.name,
        entrant.role,
        min(seconds),
        statistics.median(seconds),
        statistics.median(run.seconds / first.seconds for run, first in pairs),
        None,
        _note(runs, _least_objectives(lanes)),
        max(seconds) if len(seconds) > 1 else None,
    )


def _least_objectives(lanes: Sequence[Lane]) -> list[float]:
    """For each problem what the best of the entrants found."""
    full = [lane.runs for lane in lanes if lane.runs]
    return [min(run.objective for run in runs) for runs in zip(*full, strict=True)]


def _note(runs: Sequence[Run], least: Sequence[float]) -> str:
    """How many of which status, by how much the objective is over the best one, and the gap."""
    counts = Counter(str(run.status) for run in runs)
    parts = [", ".join(f"{count} {status}" for status, count in counts.items())]
    if len(runs) == 1 and isfinite(runs[0].objective):
        parts.append(f"objective {runs[0].objective:.6g}")
    solved = [(r, best) for r, best in zip(runs, least, strict=True) if isfinite(r.objective)]
    if solved:
        over = max((r.objective - best) / max(abs(best), _LEAST) for r, best in solved)
        parts.append("best objective" if over <= _SAME else f"objective {over:.1e} over the best")
        gaps = [run.gap for run, _ in solved]
        parts.append(f"gap {statistics.median(gaps):.1e}")
        if len(gaps) > 1:
            parts[-1] += f", worst {max(gaps):.1e}"
    return "; ".join(parts)
