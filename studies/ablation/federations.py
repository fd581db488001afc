"""The table and the verdict of an ablation's federations: solvers are compared seed by seed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .columns import NONE, seconds_text
from .end_to_end import EndToEnd, grouped

_HEADINGS = (
    "solver",
    "decisions",
    "deployed accuracy",
    "behind the best",
    "simulated time of a round",
    "predicted loss",
    "planning of a round",
)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class _Aim:
    """What federations compete for.

    Args:
        words: What the best has.
        of: From a record to what is better the more it is.
        text: A size of it, in words.
    """

    words: str
    of: Callable[[EndToEnd], float]
    text: Callable[[float], str]


def _accuracy(record: EndToEnd) -> float:
    assert record.deployed_accuracy is not None, "only those that did not fail are compared"
    return record.deployed_accuracy


def _saved(record: EndToEnd) -> float:
    assert record.round_seconds is not None, "only those that did not fail are compared"
    return -record.round_seconds


_ACCURACY = _Aim("the highest deployed accuracy", _accuracy, lambda v: f"{v:.3f}")
_TIME = _Aim("the shortest rounds", _saved, lambda v: "-" * (v < 0) + seconds_text(abs(v)))


@dataclass(frozen=True)
class _Group:
    """Solvers that decided alike in every seed, with the records of one of them."""

    solvers: tuple[str, ...]
    records: tuple[EndToEnd, ...]

    def __str__(self) -> str:
        return ", ".join(self.solvers)

    def mean(self, aim: _Aim) -> float:
        return statistics.fmean(map(aim.of, self.records))

    def ahead(self, other: _Group, aim: _Aim) -> list[float]:
        """How far it is ahead of another, seed by seed."""
        theirs = {record.seed: aim.of(record) for record in other.records}
        return [aim.of(record) - theirs[record.seed] for record in self.records]


def federation_table(records: Sequence[EndToEnd]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Headings and a row a solver, as text: means over the seeds, with their range.

    A solver that lacks a seed is not compared: its mean would be over other federations.

    Args:
        records: Of any solvers and seeds.

    Example:
        >>> done = EndToEnd("a", "A()", "1", 0, "", "", "", 1, 1.0, 0.5, 0.1, 0.01, "d")
        >>> federation_table([done, EndToEnd("b", "B()", "1", 0, "", "", "it broke down")])[1][0]
        ['a', 'A', '0.500', 'best', '1 s', '0.1000', '10 ms']
    """
    groups = _whole_groups(records)
    best = max(groups, key=lambda group: group.mean(_ACCURACY), default=None)
    rows: dict[str, list[str]] = {}
    for letter, group in enumerate(groups):
        own = group.records
        behind = [] if best is None else best.ahead(group, _ACCURACY)
        told = [
            _LETTERS[letter % len(_LETTERS)],
            _mean([r.deployed_accuracy for r in own], _ACCURACY.text),
            "best" if group is best else _mean(behind, _ACCURACY.text),
            _mean([r.round_seconds for r in own], seconds_text),
            _mean([r.predicted_loss for r in own], lambda v: f"{v:.4f}"),
        ]
        rows |= dict.fromkeys(group.solvers, told)
    table = []
    for solver in dict.fromkeys(record.solver for record in records):
        planned = [r.plan_seconds for r in records if r.solver == solver]
        told = rows.get(solver, ["failed", *[NONE] * 4])
        text = _mean(planned, seconds_text, with_range=False) if solver in rows else NONE
        table.append([solver, *told, text])
    return _HEADINGS, table


def federation_verdict(records: Sequence[EndToEnd]) -> list[str]:
    """In words: who was ahead in every seed, who decided alike, and who is not compared.

    Args:
        records: Of any solvers and seeds.
    """
    groups = _whole_groups(records)
    if not groups:
        return ["No solver trained a federation in every seed."]
    if len(groups) > 1:
        says = [_who_is_ahead(groups, aim) for aim in (_ACCURACY, _TIME)]
    else:
        accuracy, saved = groups[0].mean(_ACCURACY), groups[0].mean(_TIME)
        says = [
            f"{groups[0]} came to a deployed accuracy of {_ACCURACY.text(accuracy)} with "
            f"{_TIME.text(-saved)} a round; nobody else decided otherwise."
        ]
    alike = [str(group) for group in groups if len(group.solvers) > 1]
    if alike:
        says.append(f"Told every client the same in every round and seed: {'; '.join(alike)}.")
    compared = {solver for group in groups for solver in group.solvers}
    others = dict.fromkeys(r.solver for r in records if r.solver not in compared)
    if others:
        says.append(f"Not compared, because a federation failed: {', '.join(others)}.")
    return says


def _who_is_ahead(groups: Sequence[_Group], aim: _Aim) -> str:
    """The best in every seed; nobody if it is behind another in any, or only one seed is known."""
    best = max(groups, key=lambda group: group.mean(aim))
    mean, seeds = aim.text(abs(best.mean(aim))), len(best.records)
    others = [(group, best.ahead(group, aim)) for group in groups if group is not best]
    if seeds == 1:
        return f"One seed names no winner: there {best} had {aim.words}, {mean}."
    nearest, ahead = min(others, key=lambda other: min(other[1]))
    low, high = aim.text(min(ahead)), aim.text(max(ahead))
    if min(ahead) > 0:
        return (
            f"{best} had {aim.words} in each of {seeds} seeds: {mean} on average, "
            f"ahead of {nearest} by {low} to {high}."
        )
    equal = [str(group) for group, own in others if min(own) <= 0]
    reach = "differences" if len(equal) == 1 else f"differences from {nearest}"
    return (
        f"Nobody had {aim.words} in each of {seeds} seeds: {best} on average, {mean}, but not "
        f"always ahead of {'; '.join(equal)} ({reach} of {low} to {high})."
    )


def _whole_groups(records: Sequence[EndToEnd]) -> list[_Group]:
    """Who decided alike, of those that trained in every seed."""
    seeds = {record.seed for record in records}
    groups = [_Group(*group) for group in grouped(records)]
    return [group for group in groups if {record.seed for record in group.records} == seeds]


def _mean(
    values: Sequence[float | None], text: Callable[[float], str], with_range: bool = True
) -> str:
    """A mean, and the range where there is one."""
    known = [value for value in values if value is not None]
    if not known:
        return NONE
    mean, low, high = (text(v) for v in (statistics.fmean(known), min(known), max(known)))
    return mean if low == high or not with_range else f"{mean} ({low} to {high})"
