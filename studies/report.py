"""The report of a comparison: one HTML file that needs no network."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from . import page
from .document import Document, check_plotly, choice_list
from .palette import Palette
from .results import Comparison, Row, RunResult, cells, headings, summarise
from .writing import write_at_once


def write_report(path: Path, comparison: Comparison) -> None:
    """Writes a comparison as one self-contained HTML file; what stood there is replaced at once.

    Args:
        path: The file.
        comparison: What to show.

    Raises:
        ValueError: If no run of the comparison's scenarios and arms is finished.
        FedHQError: If plotly is not installed.
    """
    if not summarise(comparison):
        raise ValueError(
            "`comparison.results` must hold a run of its scenarios and arms, but none of "
            f"{len(comparison.results)} is. Finish at least one run first."
        )
    check_plotly()
    write_at_once(path, _Page(comparison).render())


class _Page:
    """The sections of a comparison's page."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._palette = Palette.of(comparison)
        self._document = Document(comparison.name, "fedhq report")

    def render(self) -> str:
        """The whole page as HTML."""
        sections = "".join(map(self._section, range(len(self._comparison.scenarios))))
        lead = f"{page.INTRODUCTION}{self._navigation()}"
        return self._document.render(lead, sections, self._footer())

    def _navigation(self) -> str:
        scenarios = self._comparison.scenarios
        if len(scenarios) < 2:
            return ""
        names = enumerate(map(html.escape, scenarios))
        links = "".join(f'<a href="#scenario-{k}">{name}</a>' for k, name in names)
        return f'<nav aria-label="Scenarios">{links}</nav>\n'

    def _section(self, index: int) -> str:
        from . import figures  # only now: it needs plotly

        comparison, palette, draw = self._comparison, self._palette, self._document.figure
        scenario = comparison.scenarios[index]
        rows = [row for row in summarise(comparison) if row.scenario == scenario]
        title = f"<h2>{html.escape(scenario)}</h2>"
        if not rows:
            return f'<section id="scenario-{index}">{title}<p>No run is finished yet.</p></section>'
        runs = [comparison.of(scenario, row.arm) for row in rows]
        parts = [title, self._table(rows, runs)]
        accuracy = figures.accuracy_figure(comparison, scenario, palette)
        parts.append(draw("Accuracy over time", page.READ_ACCURACY, [accuracy]))
        views = [view for view in comparison.frontiers if view.scenario == scenario]
        if views:
            frontier = figures.frontier_figure(views)
            parts.append(draw("What was on offer", page.READ_FRONTIER, [frontier]))
        first = [own[0] for own in runs if own[0].clients]
        if first:
            order = figures.client_order(comparison, scenario)
            maps = [figures.allocation_figure(run, order, palette) for run in first]
            bars = [figures.waterfall_figure(run, palette) for run in first]
            names = [run.arm for run in first]
            choice = choice_list("arm", names, len(first) - 1, f"{index}")
            same = len({run.seed for run in first}) == 1
            seed = f" Seed {first[0].seed}." if same else " Each arm's lowest seed."
            parts.append(draw("Who did what", page.READ_ALLOCATION + seed, maps, choice))
            parts.append(draw("The last round", page.READ_WATERFALL + seed, bars, choice))
        return f'<section id="scenario-{index}">{"".join(parts)}</section>\n'

    def _table(self, rows: Sequence[Row], runs: Sequence[Sequence[RunResult]]) -> str:
        names = headings(self._comparison.target_accuracy)
        head = "".join(f"<th scope=col>{html.escape(name)}</th>" for name in names)
        marks = _marks(rows)
        body = ""
        for row in rows:
            arm, *values = cells(row)
            dot = f'<span class=dot style="background:{self._palette.arms[arm]}"></span>'
            body += f"<tr><th scope=row>{dot}{html.escape(arm)}</th>"
            for column, value in enumerate(values, start=1):
                mark = marks.get((arm, column))
                badge = f"<span class=mark>{mark}</span> " if mark else ""
                body += f"<td{' class=best' if mark else ''}>{badge}{html.escape(value)}</td>"
            body += "</tr>"
        return (
            '<div class=table role=region tabindex=0 aria-label="Results">'
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
            f"<p class=note>{_seeds(runs)} {page.READ_TABLE}</p>\n"
        )

    def _footer(self) -> str:
        version, command = html.escape(metadata.version("fedhq")), self._comparison.command
        how = "with the same configuration."
        if command:
            how = f"in the same place:</p><pre><code>{html.escape(command)}</code></pre><p>"
        return (
            f"<footer><p>Written by fedhq {version}. To reproduce it, run the same version {how} "
            "The simulated clock does not depend on the machine; on one machine and number of "
            "threads the same command gives the same records, byte for byte. They stand in the "
            "folder of this page, beside the whole configuration (<code>config.json</code>).</p>"
            "</footer>"
        )


def _marks(rows: Sequence[Row]) -> dict[tuple[str, int], str]:
    """Which cells are the best of their column; only arms whose seeds all got there compete."""
    if len(rows) < 2:
        return {}
    accuracy = max(row.accuracy for row in rows)
    round_time = min(row.seconds_per_round for row in rows)
    there = [r for r in rows if r.seconds_to_target is not None and r.reached == r.seeds]
    target = min((r.seconds_to_target or 0.0 for r in there), default=None)
    marks = {(r.arm, 1): "best" for r in rows if r.accuracy == accuracy}
    marks |= {(r.arm, 2): "fastest" for r in rows if r.seconds_per_round == round_time}
    marks |= {(r.arm, 3): "fastest" for r in there if r.seconds_to_target == target}
    return marks


def _seeds(runs: Sequence[Sequence[RunResult]]) -> str:
    """Says over which seeds the means go."""
    own = [", ".join(str(run.seed) for run in arm) for arm in runs]
    if len(set(own)) > 1:
        names = [html.escape(arm[0].arm) for arm in runs]
        each = "; ".join(f"{name}: {s}" for name, s in zip(names, own, strict=True))
        return f"Means over seeds that differ by arm ({each}), so the arms are not paired."
    if len(runs[0]) == 1:
        return f"One seed ({own[0]}): differences of a few hundredths may be chance."
    return (
        f"Means over {len(runs[0])} seeds ({own[0]}); ± is the standard deviation over them. "
        "Do not tell apart arms that lie within each other's ±."
    )
