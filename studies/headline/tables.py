"""The tables of the report, each a section."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from .arms import ARMS, COARSE, IN_PTQ_TIME
from .course import Ratio
from .failures import LEARNED, Evidence, saved_share, say_saved
from .grid import MISTOLD, NOISY, SLOWING
from .oracle import PRICES, PROGRAM
from .results import FEDHQ, Setting

EFFECTS = {arm.name: arm.beside for arm in ARMS if arm.kind in ("effect", "followed")}
"""Arms that differ from another one in one thing, and from which."""


@dataclass(frozen=True)
class Table:
    """A table whose first column heads its rows.

    Args:
        headings: Of the columns.
        rows: Cells as text.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Args:
        title: Its heading.
        text: Paragraphs, apart by empty lines; items of a list begin with `- `.
        table: Below the text, if there is one.
    """

    title: str
    text: str
    table: Table | None = None


def _place(setting: Setting) -> str:
    cell = setting.cell
    tie = f"{cell.correlation:+g}" if cell.correlation else "0"
    return f"{cell.ground.task}, alpha {cell.ground.alpha:g}, {cell.fleet}, tie {tie}"


def _ratio_name(ratio: float | None) -> str:
    return "measured" if ratio is None else f"{ratio:g}"


def _by_ratio(settings: Sequence[Setting], say: Callable[[Setting], str]) -> Table:
    """A row a task, alpha and tie, a column a ratio."""
    columns = list(dict.fromkeys(s.cell.ratio for s in settings))
    rows = []
    for place, members in groupby(settings, _place):
        told = {s.cell.ratio: say(s) for s in members}
        rows.append((place, *(told.get(r, "") for r in columns)))
    headings = ("setting", *(f"r {_ratio_name(r)}" for r in columns))
    return Table(headings, tuple(rows))


def _spread(ratio: Ratio) -> str:
    return "" if ratio.kind == "?" else f" ({ratio.low:.2f}-{ratio.high:.2f})"


def times_section(settings: Sequence[Setting]) -> Section:
    """When fedhq gets to the target, in every setting."""

    def say(setting: Setting) -> str:
        ratio = setting.ratios[FEDHQ]
        return f"{ratio}{_spread(ratio)} of {setting.ceiling:.2f}"

    text = (
        "All-QAT's time to the target over fedhq's, with its range, of the ceiling: all-QAT's "
        "round time over all-PTQ's, which is all that hybrid allocation alone could gain if not a "
        "round more were needed."
    )
    return Section("Time to the target, against all-QAT", text, _by_ratio(settings, say))


def gains_section(settings: Sequence[Setting]) -> Section:
    """How accurate fedhq is in all-PTQ's time, in every setting."""

    def say(setting: Setting) -> str:
        gain = setting.gains[IN_PTQ_TIME]
        return f"{100 * gain.mean:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"

    text = (
        f"Points of deployed accuracy by which fedhq ({IN_PTQ_TIME}) is above all-PTQ at the end "
        "of the time that all-PTQ takes. Means of the last three rounds."
    )
    return Section("Accuracy in equal time, against all-PTQ", text, _by_ratio(settings, say))


def arms_section(settings: Sequence[Setting]) -> Section:
    """All arms over all settings."""
    rows = []
    for arm in (a.name for a in ARMS if a.kind == "main"):
        ratios = [s.ratios[arm] for s in settings]
        gains = [100 * s.gains[arm].mean for s in settings]
        rows.append(
            (
                arm,
                f"{statistics.fmean(s.courses[arm].end for s in settings):.3f}",
                f"{statistics.median(r.least for r in ratios):.2f}",
                f"{min(r.least for r in ratios):.2f} to {max(r.least for r in ratios):.2f}",
                f"{sum(r.kind in '<?' for r in ratios)} of {len(ratios)}",
                _curves_that_miss(settings, arm),
                f"{statistics.median(gains):+.1f}",
            )
        )
    headings = (
        "arm",
        "accuracy at the end",
        "times faster than all-QAT, median",
        "range",
        "misses of the target",
        "curves that miss",
        "points above all-PTQ in equal time, median",
    )
    text = (
        "Over all settings of the told clock. Where an arm trains alike in several settings, they "
        "share its curve, and a curve that misses the target does so in all of them."
    )
    return Section("All arms", text, Table(headings, tuple(rows)))


def _curves_that_miss(settings: Sequence[Setting], arm: str) -> str:
    """How many of an arm's averaged curves never get to their target, of how many."""
    misses = {
        (s.cell.ground.task, s.cell.ground.alpha, s.courses[arm].deployed.tobytes()): (
            s.ratios[arm].kind in "<?"
        )
        for s in settings
    }
    return f"{sum(misses.values())} of {len(misses)}"


def ratios_section(settings: Sequence[Setting]) -> Section:
    """What r does, apart from all else."""
    rows = []
    for fleet, ratio in dict.fromkeys((s.cell.fleet, s.cell.ratio) for s in settings):
        mine = [s for s in settings if (s.cell.fleet, s.cell.ratio) == (fleet, ratio)]
        faster = statistics.median(s.ratios[FEDHQ].least for s in mine)
        ceiling = statistics.median(s.ceiling for s in mine)
        share = statistics.median(s.ratios[FEDHQ].least / s.ceiling for s in mine)
        row = (fleet, _ratio_name(ratio), f"{ceiling:.2f}", f"{faster:.2f}", f"{share:.0%}")
        rows.append((*row, str(len(mine))))
    text = (
        "Nothing but r differs between the rows of a fleet. The ceiling is below r, since "
        "transfers take time, too. Cheaper operators are a smaller r: all-QAT is faster, and less "
        "is to be gained."
    )
    headings = (
        "fleet",
        "r",
        "ceiling, median",
        "fedhq, median",
        "share of the ceiling",
        "settings",
    )
    return Section("What the operators leave to gain", text, Table(headings, tuple(rows)))


def effects_section(settings: Sequence[Setting]) -> Section:
    """What each arm adds to the one beside it."""
    rows = []
    for arm, beside in EFFECTS.items():
        mine = [s for s in settings if arm in s.courses]
        if not mine:
            continue
        over = [s.over(arm, beside) for s in mine]
        drop = [100 * (s.courses[arm].end - s.courses[beside].end) for s in mine]
        same = statistics.fmean(s.same[arm] for s in mine)
        rows.append(
            (
                arm,
                beside,
                f"{statistics.median(r.least for r in over):.2f}",
                f"{min(r.least for r in over):.2f} to {max(r.least for r in over):.2f}",
                f"{statistics.median(s.ratios[arm].least for s in mine):.2f}",
                f"{statistics.median(drop):+.1f}",
                f"{same:.0%}",
                str(len(mine)),
            )
        )
    text = (
        f"Each against the arm that it changes in one thing, over {len(settings)} settings; what "
        "they add is not part of that arm."
    )
    headings = (
        "arm",
        "against",
        "times faster, median",
        "range",
        "than all-QAT, median",
        "points of accuracy at the end",
        "decides alike",
        "settings",
    )
    return Section("Effects apart", text, Table(headings, tuple(rows)))


def learning_sections(evidence: Evidence) -> list[Section]:
    """Learned against coarse where the clock is not as it was told; nothing if not trained."""
    rows = []
    for clock in (MISTOLD, SLOWING, NOISY):
        for s in evidence.with_clock(clock):
            ratio = s.over(LEARNED, COARSE)
            row = (
                s.cell.setting,
                f"{ratio}{_spread(ratio)}",
                "" if ratio.kind == "?" else say_saved(saved_share(ratio)),
            )
            rows.append((*row, f"{s.ratios[COARSE]}", f"{s.ratios[LEARNED]}"))
    if not rows:
        return []
    text = (
        "Mistold: the server believes the slowest third of the fleet to be the fastest. Slowing: "
        "the middle third takes twice as long from a quarter of the rounds on. Noisy: told right, "
        "but as in the other two every time scatters by a tenth. Learned re-solves the program "
        "each round with what it observed of times; it is told nothing of accuracy here."
    )
    headings = ("setting", "coarse over learned", "time saved", "coarse over all-QAT", "learned")
    return [Section("Learned against coarse", text, Table(headings, tuple(rows)))]


def regrets_section(evidence: Evidence) -> Section:
    """What is lost against the best of all allocations."""
    rows = []
    for arm in dict.fromkeys(r.arm for r in evidence.regrets):
        cells = [arm]
        for price in PRICES:
            mine = [r for r in evidence.regrets if (r.arm, r.price) == (arm, price)]
            judged = statistics.median(r.judged for r in mine)
            cells.append(f"{judged:.1%} / {statistics.median(r.optimistic for r in mine):.1%}")
        rows.append(tuple(cells))
    mine = [r for r in evidence.regrets if r.arm == PROGRAM]
    longer = ", ".join(
        f"in {sum(r.has_price for r in mine if r.price == price)} of "
        f"{sum(r.price == price for r in mine)} programs at price {price:g}"
        for price in PRICES
    )
    text = (
        "Eight clients, all 256 allocations trained, for fewer rounds than the rest. The objective "
        "is the round time plus the price times the accuracy lost against all-QAT, as measured; "
        "the price is what all of the accuracy is worth, in rounds of all-PTQ. Regrets are in "
        "rounds of the oracle. First that to "
        "the allocation that is best by one training, both judged by another (may be negative); "
        "then to the best of 256 noisy accuracies in hindsight, which nobody could have known. "
        f"Medians over programs. The oracle takes longer than all-PTQ {longer}; elsewhere its "
        "accuracy costs no time."
    )
    headings = ("arm", *(f"price {price:g}" for price in PRICES))
    return Section("Regret to the oracle", text, Table(headings, tuple(rows)))


def overheads_section(evidence: Evidence) -> Section:
    """What deciding takes of a round."""
    rows = tuple(
        (o.task, f"{1000 * o.own_seconds:.2f}", f"{o.round_seconds:.3f}", f"{o.share:.2%}")
        for o in evidence.overheads
    )
    text = "Time of this processor to plan and learn a round, and the shortest simulated round."
    headings = ("task", "ms a round", "s of a round of all-PTQ", "share")
    return Section("Overhead", text, Table(headings, rows))
