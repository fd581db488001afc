"""The report of an ablation: one HTML file that needs no network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..document import Document, check_plotly, choice_list, table
from ..provenance import Provenance
from ..writing import write_at_once
from . import words
from .columns import COLUMNS, relative_text, seconds_text
from .end_to_end import EndToEnd
from .federations import federation_table, federation_verdict
from .judged import Criterion, Judged
from .kinds import Kind
from .marks import marks_of
from .origin import origin_text
from .profiles import Race
from .record import CELLS_FILE, Cell
from .summary import Row, Summary, summarise
from .verdict import verdict

if TYPE_CHECKING:
    from .drawing import Choice

_MOST_LISTED = 20  # claims that were wrong


def write_report(
    path: Path,
    cells: Sequence[Cell],
    end_to_end: Sequence[EndToEnd],
    provenance: Mapping[str, Provenance],
    command: str,
) -> None:
    """Writes an ablation as one self-contained HTML file; what stood there is replaced at once.

    Args:
        path: The file.
        cells: What was measured.
        end_to_end: What federations trained with some of the solvers came to; may be empty.
        provenance: What the cells ran on, by the key that they name.
        command: What reproduces it.

    Raises:
        ValueError: If nothing was measured.
        FedHQError: If plotly is not installed.
    """
    check_plotly()
    write_at_once(path, _Page(summarise(cells), end_to_end, provenance, command).render())


class _Page:
    """The sections of an ablation's page."""

    def __init__(
        self,
        summary: Summary,
        end_to_end: Sequence[EndToEnd],
        provenance: Mapping[str, Provenance],
        command: str,
    ) -> None:
        self._summary, self._end_to_end = summary, end_to_end
        self._provenance, self._command = provenance, command
        self._marks = marks_of(summary)
        self._document = Document("Ablation of solvers", "fedhq study ablation")

    def render(self) -> str:
        """The whole page as HTML."""
        limits = "".join(map(self._limit, self._summary.limits))
        told = origin_text(self._summary, self._end_to_end, self._provenance, self._command)
        origin = _section("origin", "Where these figures come from", told)
        main = f"{limits}{self._wrong()}{self._federations()}{origin}"
        return self._document.render(self._lead(), main, "", words.STYLE)

    def _lead(self) -> str:
        summary = self._summary
        cells = [j.cell for j in summary.judged]
        problems, sizes = {c.problem for c in cells}, sorted({c.clients for c in cells})
        limits = " and ".join(map(seconds_text, summary.limits))
        what = (
            f"{len(summary.solvers)} solvers on {len(problems)} problems of "
            f"{len(summary.families)} families, of {sizes[0]:,} to {sizes[-1]:,} clients, with a "
            f"time limit of {limits}."
        )
        links = [(f"limit-{k}", f"within {seconds_text(t)}") for k, t in enumerate(summary.limits)]
        links += [("federations", "end to end")] * bool(self._end_to_end)
        links += [("origin", "where it comes from")]
        anchors = "".join(f'<a href="#{place}">{name}</a>' for place, name in links)
        return (
            f"<p class=lead>{words.INTRODUCTION} <b>{what}</b></p>\n"
            f'<nav aria-label="Sections">{anchors}</nav>\n'
        )

    def _limit(self, limit: float) -> str:
        summary = self._summary
        place = f"limit-{summary.limits.index(limit)}"
        verdicts, results = _list(verdict(summary, limit)), self._table(summary.of(limit))
        drawn = f"{self._times(limit, place)}{self._worth(limit, place)}{self._costs(limit, place)}"
        return _section(place, f"Within {seconds_text(limit)}", f"{verdicts}{results}{drawn}")

    def _times(self, limit: float, place: str) -> str:
        """The figures of who is fast, and how that grows."""
        from . import curves  # only now: it needs plotly

        summary = self._summary
        parts = [
            self._choices(
                "Performance profile",
                f"{words.READ_PROFILE}{self._left_out(limit)}",
                curves.performance_figures(summary, limit),
                f"{place}-solved",
            ),
            self._choices(
                "What a time budget buys",
                words.READ_BUDGET,
                curves.budget_figures(summary, limit),
                f"{place}-solved",
            ),
            self._choices(
                "Time against clients",
                words.READ_SCALING,
                curves.scaling_figures(summary, limit),
                f"{place}-family",
            ),
        ]
        return "".join(parts)

    def _worth(self, limit: float, place: str) -> str:
        """The figures of what answers are worth."""
        from . import figures

        summary = self._summary
        parts = [
            self._choices(
                "What an answer is worth",
                words.READ_QUALITY,
                figures.quality_figures(summary, limit),
                f"{place}-quality",
            ),
            self._choices(
                "Who solves what, and who agrees",
                words.READ_AGREEMENT,
                figures.agreement_figures(summary, limit),
                f"{place}-agreement",
            ),
        ]
        return "".join(parts)

    def _costs(self, limit: float, place: str) -> str:
        """The figures of where time and memory go."""
        from . import curves, figures

        phases = [figures.phases_figure(self._summary, limit)]
        drawn = self._document.figure("Where the time goes", words.READ_PHASES, phases)
        memory = curves.memory_figures(self._summary, limit)
        if not memory:
            return drawn
        title, linked = "Memory against clients", f"{place}-family"
        return drawn + self._choices(title, words.READ_MEMORY, memory, linked)

    def _left_out(self, limit: float) -> str:
        count = Race.of(self._summary.cells(limit), Criterion.NEAR).left_out
        what = "problem that was" if count == 1 else "problems that were"
        return f" Left out: {count} {what} not given to all solvers yet." if count else ""

    def _choices(self, title: str, read: str, choices: Sequence[Choice], linked: str) -> str:
        """A figure with a list to choose from; lists of one link move together."""
        names, groups = [c.name for c in choices], [c.group for c in choices]
        select = choice_list("show", names, 0, linked, groups) if len(choices) > 1 else ""
        return self._document.figure(title, read, [c.figure for c in choices], select, 0)

    def _table(self, rows: Sequence[Row]) -> str:
        best = [
            min((w for w in map(column.worth, rows) if w is not None), default=None)
            for column in COLUMNS
        ]
        lines = []
        for row in rows:
            colour = self._marks[row.solver].colour
            name = f'<span class=dot style="background:{colour}"></span>{html.escape(row.solver)}'
            ours = " <span class=mark>fedhq</span>" if row.kind is Kind.OURS else ""
            cells = []
            for column, least in zip(COLUMNS, best, strict=True):
                text = html.escape(column.text(row))
                is_best = least is not None and column.worth(row) == least
                cells.append(f"<b>{text}</b>" if is_best else text)
            lines.append((name + ours, *cells))
        note = "Best first; the best of a column is bold."
        if self._summary.missing:
            names = ", ".join(map(html.escape, self._summary.missing))
            note += f" Not installed, so not measured: {names}."
        says = "".join(f"<dt>{c.heading}</dt><dd>{c.says}</dd>" for c in COLUMNS)
        meaning = f"<details><summary>What the columns mean</summary><dl>{says}</dl></details>\n"
        heads = ("solver", *(column.heading for column in COLUMNS))
        return table("Results", heads, lines, note, "wide") + meaning

    def _wrong(self) -> str:
        """Claims that were caught to be wrong, by `solve` or by another solver."""
        wrong = [j for j in self._summary.judged if j.is_wrong]
        if not wrong:
            return ""
        rows = [
            (html.escape(j.cell.solver), html.escape(j.cell.problem), html.escape(_claim(j)))
            for j in wrong[:_MOST_LISTED]
        ]
        more = len(wrong) - len(rows)
        note = f"{more} more are in {CELLS_FILE}." if more else ""
        listed = table("Wrong claims", ("solver", "problem", "what it claimed"), rows, note, "text")
        return _section("wrong", "Who was wrong", listed)

    def _federations(self) -> str:
        """What federations came to whose allocations a solver made."""
        if not self._end_to_end:
            return ""
        from . import figures  # only now: it needs plotly

        heads, rows = federation_table(self._end_to_end)
        lines = [[html.escape(text) for text in row] for row in rows]
        seeds = sorted({record.seed for record in self._end_to_end})
        note = (
            f"Means over the seeds {', '.join(map(str, seeds))}, with their range; behind the best "
            f"in deployed accuracy, seed by seed. {words.ALIKE}"
        )
        failed = {f"{r.solver}: {r.message}": None for r in self._end_to_end if r.message}
        note += "".join(f"<br>Failed: {html.escape(says)}" for says in failed)
        parts = [table("Federations", heads, lines, note, "wide")]
        if any(not record.message for record in self._end_to_end):
            drawn = figures.federations_figure(self._end_to_end, self._marks)
            parts.append(
                self._document.figure("Accuracy over time", words.READ_FEDERATIONS, [drawn])
            )
        told = (
            f"<p class=plain>{words.FEDERATIONS}</p>{_list(federation_verdict(self._end_to_end))}"
        )
        return _section("federations", "End to end", told + "".join(parts))


def _section(place: str, title: str, body: str) -> str:
    return f'<section id="{place}"><h2>{title}</h2>{body}</section>\n'


def _list(sentences: Sequence[str]) -> str:
    return f"<ul class=verdict>{''.join(f'<li>{html.escape(s)}</li>' for s in sentences)}</ul>"


def _claim(judged: Judged) -> str:
    """What a wrong cell claimed, and who refutes it."""
    cell, best = judged.cell, judged.reference.objective
    if not judged.is_refuted:
        return cell.message
    if cell.outcome == "infeasible":
        return f"no allocation exists; another solver's keeps every limit, objective {best:.9g}"
    bound = cell.objective if cell.bound is None else cell.bound
    assert bound is not None, "what is refuted by its bound has one"
    return (
        f"no objective is below {bound:.9g}; another solver's is {best:.9g} "
        f"({relative_text(judged.reference.excess(bound))} less)"
    )
