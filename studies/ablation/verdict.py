"""What an ablation shows, in words: every sentence is made from its figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from .columns import seconds_text
from .judged import Criterion, Judged
from .kinds import Kind
from .profiles import Race
from .summary import Row, Summary

_LISTED = 4  # names in a sentence


def verdict(summary: Summary, limit: float) -> list[str]:
    """The sentences of a time limit, the most important first."""
    rows = summary.of(limit)
    says = [
        _who_solves(rows),
        _who_proves(rows),
        _who_is_fast(summary, limit),
        _who_is_best_where(summary, limit),
        *_how_it_grows(summary, limit),
        _against_others(summary, limit),
        _who_was_wrong(summary, limit),
    ]
    return [sentence for sentence in says if sentence]


def _who_solves(rows: Sequence[Row]) -> str:
    best = max(row.near for row in rows)
    if not best:
        return "No solver came near the best known on any problem."
    winners = [row for row in rows if row.near == best]
    given = winners[0].problems
    who = "All solvers" if len(winners) == len(rows) else _names(winners)
    most = "" if len(winners) == len(rows) else ", more than anybody else"
    return f"{who} came within 1e-4 of the best known on {best} of {given} problems{most}."


def _who_proves(rows: Sequence[Row]) -> str:
    best = max(row.proven for row in rows)
    if not best:
        return "Nobody proved an optimum."
    winners = [row for row in rows if row.proven == best]
    none = sum(not row.proven for row in rows)
    rest = f" {none} of {len(rows)} solvers proved nothing." if none else ""
    return f"{_names(winners)} proved most optima: {best} of {winners[0].problems}.{rest}"


def _who_is_fast(summary: Summary, limit: float) -> str:
    """Who was the fastest that came near, and how often."""
    race = Race.of(summary.cells(limit), Criterion.NEAR)
    wins = dict.fromkeys(race.solvers, 0)
    for line in race.seconds:
        if line.min(initial=float("inf")) < float("inf"):
            wins[race.solvers[int(line.argmin())]] += 1
    solved = sum(wins.values())
    if not solved:
        return ""
    ranked = sorted(wins.items(), key=lambda item: -item[1])
    told = [f"{solver} on {count}" for solver, count in ranked if count]
    return f"The fastest to come near, of {solved} problems: {_some(told)}."


def _who_is_best_where(summary: Summary, limit: float) -> str:
    """The best solver of each family: that came near most often, then proved most, then fastest."""
    if len(summary.families) < 2:
        return ""
    best: dict[str, list[str]] = {}
    for family in summary.families:
        rows = summary.of(limit, family)
        if rows and rows[0].near:
            best.setdefault(rows[0].solver, []).append(f"'{family}'")
    told = [f"{solver} on {_list(families)}" for solver, families in best.items()]
    return (
        f"The best of a family (near, then proven, then time): {'; '.join(told)}." if told else ""
    )


def _how_it_grows(summary: Summary, limit: float) -> list[str]:
    """Who still solves everything at the largest size, and how long that takes."""
    cells = summary.cells(limit)
    sizes = sorted({j.cell.clients for j in cells})
    if len(sizes) < 2:
        return []
    largest = [j for j in cells if j.cell.clients == sizes[-1]]
    by_solver: dict[str, list[Judged]] = {}
    for j in largest:
        by_solver.setdefault(j.cell.solver, []).append(j)
    whole = {
        solver: statistics.median(j.cell.seconds["total"] for j in own)
        for solver, own in by_solver.items()
        if all(j.meets(Criterion.NEAR) for j in own)
    }
    if not whole:
        return [f"At {sizes[-1]:,} clients no solver comes near on every problem."]
    told = [
        f"{solver} (median {seconds_text(seconds)})"
        for solver, seconds in sorted(whole.items(), key=lambda item: item[1])
    ]
    return [
        f"At {sizes[-1]:,} clients, {_list(told)} {'come' if len(told) > 1 else 'comes'} near on "
        f"every problem, of {len(by_solver)} solvers."
    ]


def _against_others(summary: Summary, limit: float) -> str:
    """The best of fedhq's own against the fastest of all others, problem by problem."""
    race = Race.of(summary.cells(limit), Criterion.PROVEN)
    kinds = {row.solver: row.kind for row in summary.rows}
    ours = [k for k, solver in enumerate(race.solvers) if kinds[solver] is Kind.OURS]
    others = [k for k, solver in enumerate(race.solvers) if kinds[solver] is not Kind.OURS]
    if not ours or not others or not len(race.seconds):
        return ""
    mine, theirs = race.seconds[:, ours].min(axis=1), race.seconds[:, others].min(axis=1)
    both = (mine < float("inf")) & (theirs < float("inf"))
    only = int(((mine < float("inf")) & ~both).sum())
    never = int(((theirs < float("inf")) & ~both).sum())
    if not both.any():
        return ""
    factor = statistics.median((theirs[both] / mine[both]).tolist())
    slower = f"{factor:.1f} times as long as" if factor >= 1 else f"{factor:.2f} of the time of"
    return (
        f"To a proven optimum the fastest other solver took {slower} the fastest of fedhq's own "
        f"(median of {int(both.sum())} problems that both prove); {only} only fedhq's prove, "
        f"{never} only others."
    )


def _who_was_wrong(summary: Summary, limit: float) -> str:
    wrong = [row for row in summary.of(limit) if row.faults.wrong]
    if not wrong:
        return "No solver was caught at a wrong answer, and no two proofs contradict each other."
    told = [f"{row.solver} ({row.faults.wrong} of {row.problems})" for row in wrong]
    return f"Caught at wrong claims: {_list(told)}."


def _names(rows: Sequence[Row]) -> str:
    return _some([row.solver for row in rows])


def _some(names: Sequence[str]) -> str:
    """The first names, and how many others there are."""
    left = len(names) - _LISTED
    if left <= 0:
        return _list(names)
    return f"{', '.join(names[:_LISTED])} and {left} {'other' if left == 1 else 'others'}"


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1])] * bool(names[:-1]) + [names[-1]])
