"""Other figures of an ablation: what answers are worth, where time goes, and who agrees.

Each figure says in `layout.meta` in words what it shows. Needs plotly: `fedhq[report]`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from plotly import graph_objects as go

from ..figures import NAME, add_arm, lay_out, mean_points, plain
from .columns import relative_text, seconds_text
from .drawing import ALL, Choice, choices_of_families, lay_out_lines, powers_of_ten, short
from .end_to_end import EndToEnd, grouped
from .judged import SAME, Criterion, Judged
from .marks import OTHER, Mark, marks_of
from .summary import PHASES, Row, Summary

_FLOOR = SAME / 10  # where "none" lies on a logarithmic axis
_PHASE_COLOURS = ("#3f9fdc", "#d48f00", "#1f77bf", "#aab2bc")
_GOOD, _MIDDLE, _BAD = "#1f77bf", "#b9b2a6", "#d55e00"


def quality_figures(summary: Summary, limit: float) -> list[Choice]:
    """What an answer is worth against what it took: medians over the seeds of a size."""

    def excess(judged: Judged) -> float | None:
        return judged.excess

    def gap(judged: Judged) -> float | None:
        if not judged.has_allocation:
            return None
        return math.inf if judged.cell.gap is None else judged.cell.gap

    measures = (("excess over the best known", excess), ("gap that it proves", gap))
    return [
        Choice(title, family or ALL, _quality_figure(summary, limit, family, title, measure))
        for title, measure in measures
        for family in choices_of_families(summary)
    ]


def _quality_figure(
    summary: Summary,
    limit: float,
    family: str,
    title: str,
    measure: Callable[[Judged], float | None],
) -> go.Figure:
    marks, figure = marks_of(summary), go.Figure()
    for solver in summary.solvers:
        places: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for j in summary.cells(limit, family):
            value = measure(j)
            if j.cell.solver == solver and value is not None:
                place = (j.cell.family, j.cell.clients)
                places.setdefault(place, []).append((j.cell.seconds["total"], value))
        if places:
            _add_answers(figure, solver, places, marks[solver])
    alt = f"Points: {title} against time, {family or ALL}, {len(figure.data)} solvers."
    lay_out_lines(figure, "time", title, alt)
    figure.update_xaxes(**powers_of_ten((x for line in figure.data for x in line.x), seconds_text))
    values = [_FLOOR, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0]
    names = ["none", *(relative_text(value) for value in values[1:])]
    figure.update_yaxes(type="log", tickvals=values, ticktext=names)
    return figure


def _add_answers(
    figure: go.Figure,
    solver: str,
    places: Mapping[tuple[str, int], Sequence[tuple[float, float]]],
    mark: Mark,
) -> None:
    x, y, text = [], [], []
    for (family, clients), found in places.items():
        seconds, values = (statistics.median(column) for column in zip(*found, strict=True))
        if math.isinf(values):  # most have no bound
            continue
        x.append(seconds)
        y.append(max(values, _FLOOR))
        text.append(
            f"{plain(family)}, {clients:,} clients<br>{relative_text(values)} after "
            f"{seconds_text(seconds)}, {len(found)} problems"
        )
    if not x:
        return
    figure.add_scatter(
        x=short(x), y=short(y), text=text, name=plain(solver), mode="markers",
        hovertemplate=NAME + "%{text}",
        marker={"symbol": mark.symbol, "size": 9, "color": mark.colour, "opacity": 0.75},
    )  # fmt: skip


def phases_figure(summary: Summary, limit: float) -> go.Figure:
    """Where the time goes: mean shares of the phases of each solver's calls."""
    rows = [row for row in reversed(summary.of(limit)) if row.phases is not None]
    figure = go.Figure()
    for k, name in enumerate((*PHASES, "other")):
        shares = [row.phases[k] for row in rows if row.phases is not None]
        figure.add_bar(
            y=[plain(row.solver) for row in rows], x=short(shares), name=name, orientation="h",
            marker={"color": _PHASE_COLOURS[k], "line_width": 0},
            hovertemplate="<b>%{y}</b><br>%{fullData.name} %{x:.0%}<extra></extra>",
        )  # fmt: skip
    for row in rows:
        took = "" if row.seconds is None else seconds_text(row.seconds.median)
        figure.add_annotation(
            x=1,
            xref="paper",
            xshift=6,
            y=plain(row.solver),
            text=took,
            xanchor="left",
            showarrow=False,
        )
    alt = f"Bars: shares of {', '.join(PHASES)} and the rest in the calls of {len(rows)} solvers."
    lay_out(figure, "share of the call", "", 120 + 26 * len(rows), alt)
    figure.update_layout(barmode="stack", bargap=0.3, legend_traceorder="normal", margin_r=70)
    figure.update_xaxes(range=[0, 1], tickformat=".0%")
    figure.update_yaxes(showgrid=False)
    return figure


def agreement_figures(summary: Summary, limit: float) -> list[Choice]:
    """Heat maps of solvers and families: what was solved, and who agrees with whom."""
    measures: tuple[tuple[str, Callable[[Row], float | None]], ...] = (
        (str(Criterion.NEAR), lambda row: _of_problems(row, row.near)),
        (str(Criterion.PROVEN), lambda row: _of_problems(row, row.proven)),
        ("the best known objective, of its allocations", lambda row: row.same_objective),
        ("the same clients as others that are as good", lambda row: row.same_clients),
    )
    return [Choice("", name, _heat_map(summary, limit, name, share)) for name, share in measures]


def _of_problems(row: Row, solved: int) -> float | None:
    """The share of a row's problems; None where all were refused."""
    return None if row.faults.refused == row.problems else solved / row.problems


def federations_figure(records: Sequence[EndToEnd], marks: Mapping[str, Mark]) -> go.Figure:
    """Deployed accuracy against simulated time, a line for all solvers that decided alike."""
    figure, ends = go.Figure(), []
    for solvers, own in grouped(records):
        names = ", ".join(solvers)
        mark = marks.get(own[0].solver, OTHER)
        points = mean_points([record.curve for record in own])
        add_arm(figure, names, points, mark.colour, mark.symbol, mark.width)
        ends.append(f"{names} {points[-1].accuracy:.3f} after {points[-1].seconds:.3g} s")
    alt = f"Lines: deployed accuracy against simulated time. {'; '.join(ends)}."
    lay_out(figure, "simulated time, s", "deployed accuracy", 460, alt)
    figure.update_xaxes(rangemode="tozero")
    return figure


def _heat_map(
    summary: Summary, limit: float, name: str, share: Callable[[Row], float | None]
) -> go.Figure:
    solvers = [row.solver for row in summary.of(limit)]
    rows = {(r.family, r.solver): r for f in summary.families for r in summary.of(limit, f)}
    found = [[rows.get((family, solver)) for family in summary.families] for solver in solvers]
    z = [[None if row is None else share(row) for row in line] for line in found]
    text = [["" if v is None else f"{100 * v:.0f}" for v in line] for line in z]
    figure = go.Figure()
    figure.add_heatmap(
        x=[plain(f) for f in summary.families], y=[plain(s) for s in solvers], z=z, text=text,
        texttemplate="%{text}", zmin=0, zmax=1, xgap=2, ygap=2, showscale=False, hoverongaps=False,
        colorscale=[(0.0, _BAD), (0.5, _MIDDLE), (1.0, _GOOD)],
        hovertemplate="<b>%{y}</b>, %{x}<br>%{z:.0%}<extra></extra>",
    )  # fmt: skip
    of = f"{len(solvers)} solvers and {len(summary.families)} families"
    alt = f"Heat map, in percent: {name}, for {of}."
    lay_out(figure, "", "", 150 + 26 * len(solvers), alt)
    figure.update_layout(margin_t=30)  # room for the page's button
    figure.update_xaxes(showgrid=False, tickangle=-40, side="bottom")
    figure.update_yaxes(showgrid=False, autorange="reversed")
    return figure
