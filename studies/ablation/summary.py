"""What an ablation shows, in numbers: one row a solver, over all problems or those of a family."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .judged import Criterion, Judged, judge
from .kinds import Kind
from .record import Cell
from .spread import Spread, shifted_geometric_mean

PHASES = ("build", "compile", "solve")
"""The parts of a call that are told apart; what is left of its total is `other`."""


@dataclass(frozen=True)
class Faults:
    """How often a solver gave no answer, or a wrong one.

    Args:
        wrong: Caught by `solve` or by another solver's allocation.
        broken: Its allocation breaks a limit; it claimed no optimum.
        late: It answered after the time limit.
        refused: It cannot express a term of the problem.
        timeout: It did not end, and was ended.
        untried: It was in vain with fewer clients, so that nobody asked it.
        crashed: It broke down.
        empty: It ended without an allocation and without a proof.
    """

    wrong: int
    broken: int
    late: int
    refused: int
    timeout: int
    untried: int
    crashed: int
    empty: int

    @classmethod
    def of(cls, own: Sequence[Judged]) -> Faults:
        """Those of some cells."""
        outcomes = [j.cell.outcome for j in own]
        broken = sum(j.cell.outcome == "unknown" and j.cell.verified is False for j in own)
        return cls(
            wrong=sum(j.is_wrong for j in own),
            broken=broken,
            late=sum(j.is_late for j in own),
            refused=outcomes.count("refused"),
            timeout=outcomes.count("timeout"),
            untried=outcomes.count("not tried"),
            crashed=outcomes.count("crashed"),
            empty=outcomes.count("unknown") - broken,
        )

    def __str__(self) -> str:
        counts = {
            "wrong": self.wrong,
            "breaking a limit": self.broken,
            "late": self.late,
            "refused": self.refused,
            "timeout": self.timeout,
            "not tried": self.untried,
            "crashed": self.crashed,
            "no answer": self.empty,
        }
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


@dataclass(frozen=True)
class Row:
    """What a solver did on some problems within one time limit.

    Args:
        solver: Its name in the study.
        kind: What kind of solver it is.
        version: Of the library that solves.
        time_limit_seconds: What it was given.
        family: Of the problems; empty for all families.
        problems: How many it was given.
        proven: Problems solved, by `Criterion.PROVEN`.
        near: The same by `Criterion.NEAR`.
        answered: The same by `Criterion.ANSWERED`.
        seconds: Of whole calls that came near; None without.
        ratio: The same as multiples of the fastest solver that came near; None without.
        mean_seconds: Shifted geometric mean over all problems that it took; what is not near counts
            as the time limit, or what it took if that is more. None where it took none.
        phases: Mean share of each of `PHASES` in the calls that gave an allocation in time, and of
            what is left; None without.
        gap: What it left unproven, over its allocations: infinite where it gave no bound; None
            where it never gave one.
        excess: Of its objective over the best known, over its allocations in time; None without.
        peak_bytes: Memory; None where unknown.
        same_objective: Share of its allocations in time whose objective is the best known.
        same_clients: See `Judged`; None where unknown.
        faults: What it did not answer, or wrongly.
    """

    solver: str
    kind: Kind
    version: str
    time_limit_seconds: float
    family: str
    problems: int
    proven: int
    near: int
    answered: int
    seconds: Spread | None
    ratio: Spread | None
    mean_seconds: float | None
    phases: tuple[float, ...] | None
    gap: Spread | None
    excess: Spread | None
    peak_bytes: Spread | None
    same_objective: float | None
    same_clients: float | None
    faults: Faults


@dataclass(frozen=True)
class Summary:
    """An ablation's rows.

    Args:
        judged: The cells, judged against each other.
        limits: The time limits, rising.
        families: Of the problems, in order.
        solvers: All that were measured, kind by kind and by name; not those not installed.
        missing: Solvers that are not installed.
        rows: All rows: those over all families, then those of each.
    """

    judged: tuple[Judged, ...]
    limits: tuple[float, ...]
    families: tuple[str, ...]
    solvers: tuple[str, ...]
    missing: tuple[str, ...]
    rows: tuple[Row, ...]

    def of(self, limit: float, family: str = "") -> tuple[Row, ...]:
        """The rows of a limit and a family, the best solver first; of all families if empty."""
        mine = [r for r in self.rows if (r.time_limit_seconds, r.family) == (limit, family)]
        return tuple(sorted(mine, key=_rank))

    def cells(self, limit: float, family: str = "") -> tuple[Judged, ...]:
        """The judged cells of a limit and a family, without those of missing solvers."""
        return tuple(
            j
            for j in self.judged
            if j.cell.time_limit_seconds == limit
            and family in ("", j.cell.family)
            and j.cell.outcome != "missing"
        )

    def workers(self, provenance: str) -> str:
        """How many processes measured at a time, of the cells of a provenance, in words."""
        numbers = sorted({j.cell.workers for j in self.judged if j.cell.provenance == provenance})
        return f"{' or '.join(map(str, numbers))} measuring at a time"


def summarise(cells: Sequence[Cell]) -> Summary:
    """Judges the cells of a study and sums them up.

    Args:
        cells: Of any problems, solvers and limits, in any order.

    Raises:
        ValueError: If there are none, or only of solvers that are not installed.
    """
    if not cells:
        raise ValueError("`cells` must hold a measurement, but is empty. Measure at least one.")
    tried = [cell for cell in cells if cell.outcome != "missing"]
    if not tried:
        told = sorted({cell.message for cell in cells})
        raise ValueError(f"no solver that was measured is installed. {' '.join(told)}")
    kinds = {cell.solver: cell.kind for cell in tried}
    judged, order = judge(cells), list(Kind)
    solvers = tuple(sorted(kinds, key=lambda solver: (order.index(kinds[solver]), solver)))
    limits = tuple(sorted({cell.time_limit_seconds for cell in tried}))
    families = tuple(dict.fromkeys(cell.family for cell in cells))
    whole = Summary(
        judged,
        limits,
        families,
        solvers,
        tuple(sorted({c.solver for c in cells} - set(solvers))),
        (),
    )
    places = [(limit, family) for family in ("", *families) for limit in limits]
    rows = [row for place in places for row in _rows(whole.cells(*place), *place)]
    return Summary(judged, limits, families, solvers, whole.missing, tuple(rows))


def _rank(row: Row) -> tuple[float, float, float, str]:
    seconds = math.inf if row.mean_seconds is None else row.mean_seconds
    return -row.near, -row.proven, seconds, row.solver


def _rows(judged: Sequence[Judged], limit: float, family: str) -> list[Row]:
    by_solver: dict[str, list[Judged]] = {}
    fastest: dict[str, float] = {}
    for j in judged:
        by_solver.setdefault(j.cell.solver, []).append(j)
        if j.meets(Criterion.NEAR):
            took, problem = j.cell.seconds["total"], j.cell.problem
            fastest[problem] = min(took, fastest.get(problem, took))
    return [_row(own, limit, family, fastest) for own in by_solver.values()]


def _row(own: Sequence[Judged], limit: float, family: str, fastest: Mapping[str, float]) -> Row:
    first = own[0].cell
    found = [j for j in own if j.has_allocation and not j.is_late]
    near = [j for j in own if j.meets(Criterion.NEAR)]
    alike = [j.same_clients for j in own if j.same_clients is not None]
    return Row(
        solver=first.solver,
        kind=first.kind,
        version=first.solver_version,
        time_limit_seconds=limit,
        family=family,
        problems=len(own),
        proven=sum(j.meets(Criterion.PROVEN) for j in own),
        near=len(near),
        answered=sum(j.meets(Criterion.ANSWERED) for j in own),
        seconds=Spread.of(j.cell.seconds["total"] for j in near),
        ratio=Spread.of(j.cell.seconds["total"] / fastest[j.cell.problem] for j in near),
        mean_seconds=_mean_seconds(own),
        phases=_phases(found),
        gap=_gap(found),
        excess=Spread.of(j.excess for j in found),
        peak_bytes=Spread.of(j.cell.peak_bytes for j in own),
        same_objective=statistics.fmean(j.is_best for j in found) if found else None,
        same_clients=statistics.fmean(alike) if alike else None,
        faults=Faults.of(own),
    )


def _gap(found: Sequence[Judged]) -> Spread | None:
    """What is left unproven: a solver that proves only what is easy must not look better for it."""
    gaps = [math.inf if j.cell.gap is None else j.cell.gap for j in found]
    return Spread.of(gaps) if any(map(math.isfinite, gaps)) else None


def _mean_seconds(own: Sequence[Judged]) -> float | None:
    took = [
        j.cell.seconds["total"]
        if j.meets(Criterion.NEAR)
        else max(j.cell.time_limit_seconds, j.cell.seconds.get("total", 0.0))
        for j in own
        if j.cell.outcome != "refused"
    ]
    return shifted_geometric_mean(took) if took else None


def _phases(found: Sequence[Judged]) -> tuple[float, ...] | None:
    """Mean shares of `PHASES` and of the rest."""
    shares = []
    for j in found:
        total = j.cell.seconds["total"]
        if total > 0:
            known = [min(j.cell.seconds.get(phase, 0.0) / total, 1.0) for phase in PHASES]
            shares.append((*known, max(1.0 - sum(known), 0.0)))
    if not shares:
        return None
    return tuple(float(share) for share in np.mean(shares, axis=0))
