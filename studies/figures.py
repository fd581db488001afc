"""The figures of a report, as plotly figures that read well on light and dark pages.

Colours are those of `palette`. Each figure says in `layout.meta` in words what it shows. Needs
plotly: `fedhq[report]`.
"""

from __future__ import annotations

import html
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plotly import graph_objects as go

from ..fl_core.records.records import ClientRecord
from .palette import LAST_ARM, Palette
from .results import Comparison, FrontierView, RunResult

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK = "#7d8590"
GRID = "rgba(125, 133, 144, 0.22)"
SYMBOLS = ("square", "diamond", "triangle-up", "cross", "x", "star", "pentagon")
_FAILED = "#d1242f"
_LOST = ("failed", "dropped", "late", "refused")
NAME = "<extra></extra><b>%{fullData.name}</b><br>"


def accuracy_figure(comparison: Comparison, scenario: str, palette: Palette) -> go.Figure:
    """Deployed accuracy against simulated time: an arm's mean over seeds and their range."""
    figure = go.Figure()
    ends = []
    for k, arm in enumerate(comparison.arms):
        points = mean_points([_curve(run) for run in comparison.of(scenario, arm)])
        if points:
            last = arm == comparison.arms[-1]
            symbol = "circle" if last else SYMBOLS[k % len(SYMBOLS)]
            add_arm(figure, arm, points, palette.arms[arm], symbol, 3.4 if last else 1.8)
            ends.append(f"{arm} {points[-1].accuracy:.3f} after {points[-1].seconds:.1f} s")
    add_level(figure, comparison.target_accuracy, f"target {comparison.target_accuracy:g}", "left")
    alt = f"Line chart: deployed accuracy against simulated time in {scenario}. {'; '.join(ends)}."
    lay_out(figure, "simulated time, s", "deployed accuracy", 460, alt)
    figure.update_xaxes(rangemode="tozero")
    return figure


@dataclass(frozen=True)
class Point:
    """Accuracy after a round, over the seeds that were evaluated after it.

    Args:
        round: Number of the round.
        seconds: Mean simulated time of its end.
        accuracy: Mean deployed accuracy.
        low: The worst seed's.
        high: The best seed's.
        seeds: How many.
    """

    round: int
    seconds: float
    accuracy: float
    low: float
    high: float
    seeds: int


def _curve(run: RunResult) -> list[tuple[int, float, float]]:
    """Round, simulated time and accuracy of every round that was evaluated."""
    return [
        (r.round, r.simulated_seconds, r.deployed_accuracy)
        for r in run.rounds
        if r.deployed_accuracy is not None
    ]


def mean_points(curves: Sequence[Sequence[tuple[int, float, float]]]) -> list[Point]:
    """Means over the seeds that were evaluated after the same round.

    Args:
        curves: Of every seed: round, simulated time and accuracy of every round.
    """
    by_round: dict[int, list[tuple[float, float]]] = {}
    for curve in curves:
        for number, seconds, accuracy in curve:
            by_round.setdefault(number, []).append((seconds, accuracy))
    points = []
    for number, found in sorted(by_round.items()):
        times, values = zip(*found, strict=True)
        middle = (statistics.fmean(times), statistics.fmean(values))
        points.append(Point(number, *middle, min(values), max(values), len(found)))
    return points


def add_arm(
    figure: go.Figure, arm: str, points: Sequence[Point], colour: str, symbol: str, width: float
) -> None:
    """A line of mean accuracies, and the range over the seeds behind it."""
    x, y = [p.seconds for p in points], [p.accuracy for p in points]
    band = [p.low for p in points] + [p.high for p in reversed(points)]
    ranges = [f"<br>{p.low:.3f} to {p.high:.3f} over {p.seeds} seeds" for p in points]
    if any(p.seeds > 1 for p in points):
        figure.add_scatter(
            x=x + x[::-1], y=band, mode="lines", line_width=0, fill="toself", fillcolor=colour,
            opacity=0.14, hoverinfo="skip", showlegend=False, legendgroup=arm,
        )  # fmt: skip
    else:
        ranges = [""] * len(points)
    data = [[p.round, text] for p, text in zip(points, ranges, strict=True)]
    hover = "round %{customdata[0]}, %{x:.1f} s<br>deployed accuracy %{y:.3f}%{customdata[1]}"
    figure.add_scatter(
        x=x, y=y, name=plain(arm), legendgroup=arm, mode="lines+markers", customdata=data,
        hovertemplate=NAME + hover, line={"color": colour, "width": width},
        marker={"symbol": symbol, "size": 7, "maxdisplayed": 12},
    )  # fmt: skip


def frontier_figure(views: Sequence[FrontierView]) -> go.Figure:
    """Round time against predicted loss, with the chosen point marked."""
    figure = go.Figure()
    hover = NAME + "round time %{x:.3g} s<br>predicted loss %{y:.3g}"
    chosen = []
    for k, view in enumerate(views):
        x, y = [float(t) for t in view.round_seconds], [float(v) for v in view.loss]
        here, number = view.chosen, f" {k + 1}" if len(views) > 1 else ""
        line = {"color": INK, "width": 1.5, "shape": "hv", "dash": "dot" if k else "solid"}
        figure.add_scatter(
            x=x, y=y, name="frontier" + number, mode="lines+markers", line=line, marker_size=7,
            hovertemplate=hover,
        )  # fmt: skip
        marker = {"size": 15, "color": LAST_ARM, "symbol": "diamond"}
        figure.add_scatter(
            x=[x[here]], y=[y[here]], name="chosen" + number, mode="markers", marker=marker,
            hovertemplate=hover,
        )  # fmt: skip
        chosen.append(f"chosen{number}: {x[here]:.3g} s, loss {y[here]:.3g}")
        add_pointer(figure, x[here], y[here], chosen[-1], x[here] < (x[0] + x[-1]) / 2)
    alt = f"Frontier of round time and predicted loss. {'; '.join(chosen)}."
    lay_out(figure, "round time, s", "predicted accuracy loss", 400, alt)
    return figure


def client_order(comparison: Comparison, scenario: str) -> tuple[int, ...]:
    """The clients of each arm's lowest seed, fastest device first.

    A device's speed is the least simulated time that a round took it, in any arm; one that never
    trained comes last.
    """
    runs = [comparison.of(scenario, arm)[:1] for arm in comparison.arms]
    seconds: dict[int, float] = {}
    for record in (c for run in runs for r in run for c in r.clients):
        took = record.seconds if record.seconds > 0 else float("inf")
        seconds[record.client] = min(took, seconds.get(record.client, took))
    return tuple(sorted(seconds, key=lambda client: (seconds[client], client)))


def allocation_figure(run: RunResult, order: Sequence[int], palette: Palette) -> go.Figure:
    """What every client did in every round of a run; blank where it was not in the cohort.

    Args:
        run: The run.
        order: Clients from the top row down.
        palette: The comparison's.
    """
    names, rounds = list(palette.strategies), [r.round for r in run.rounds]
    done = {(c.client, c.round): c for c in run.clients if c.status != "stale"}
    rows = [[done.get((client, number)) for number in rounds] for client in order]
    z = [[None if c is None else names.index(c.strategy) for c in row] for row in rows]
    text = [["" if c is None else _did(c) for c in row] for row in rows]
    gap = 1 if len(order) <= 60 and len(rounds) <= 100 else 0
    figure = go.Figure()
    figure.add_heatmap(
        x=rounds, y=[str(client) for client in order], z=z, text=text, xgap=gap, ygap=gap,
        colorscale=steps_of(list(palette.strategies.values())), zmin=-0.5, zmax=len(names) - 0.5,
        showscale=False, hoverongaps=False,
        hovertemplate="client %{y}, round %{x}<br>%{text}<extra></extra>",
    )  # fmt: skip
    alt = (
        f"Heat map: strategy of {len(order)} clients in {len(rounds)} rounds, arm {run.arm}, "
        f"scenario {run.scenario}, seed {run.seed}."
    )
    lay_out(figure, "round", "client", 150 + min(max(20 * len(order), 110), 560), alt)
    add_strategies(figure, palette.strategies)
    _add_lost(figure, [c for row in rows for c in row if c and c.status in _LOST])
    figure.update_xaxes(showgrid=False, tickformat="d", dtick=1 if len(rounds) <= 10 else None)
    figure.update_xaxes(range=[rounds[0] - 0.5, rounds[-1] + 0.5])
    figure.update_yaxes(type="category", range=[len(order) - 0.5, -0.5], showgrid=False)
    figure.update_yaxes(tickfont_size=11, dtick=1 if len(order) <= 30 else None)
    return figure


def waterfall_figure(run: RunResult, palette: Palette) -> go.Figure:
    """The seconds of every client in a run's last round, slowest first, and the round time."""
    last = run.rounds[-1]
    clients = [c for c in run.clients if c.round == last.round and c.status != "stale"]
    clients.sort(key=lambda c: (-c.seconds, c.client))
    figure = go.Figure()
    x, y = [str(c.client) for c in clients], [c.seconds for c in clients]
    colours = [palette.strategies[c.strategy] for c in clients]
    figure.add_bar(
        x=x, y=y, marker={"color": colours, "line_width": 0}, showlegend=False,
        text=[_did(c) for c in clients], textposition="none",
        hovertemplate="client %{x}<br>%{text}<extra></extra>",
    )  # fmt: skip
    says = f"round time {last.round_seconds:.3g} s"
    add_level(figure, last.round_seconds, says, "right")
    place = next((k for k, c in enumerate(clients) if c.client == last.bottleneck), None)
    if place is not None:
        waits = f"everybody waits for client {last.bottleneck}"
        left = place < len(clients) / 2
        add_pointer(figure, place, clients[place].seconds, waits, left)
        says += f"; {waits}"
    alt = (
        f"Bar chart: seconds of {len(clients)} clients in round {last.round}, arm {run.arm}, "
        f"scenario {run.scenario}, seed {run.seed}; {says}."
    )
    lay_out(figure, "client, slowest first", "simulated time, s", 400, alt)
    add_strategies(figure, palette.strategies)
    figure.update_layout(bargap=0.18)
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(range=[0, 1.2 * max([last.round_seconds, *y])])
    return figure


def _did(record: ClientRecord) -> str:
    if record.status == "skipped":
        return record.strategy
    lost = f", {record.status}" if record.status in _LOST else ""
    return f"{record.strategy}, {record.seconds:.3g} s{lost}"


def add_level(figure: go.Figure, y: float, text: str, side: str) -> None:
    """A dashed horizontal line with its text at one end."""
    line = {"dash": "dash", "width": 1.5, "color": INK}
    note = {"text": text, "font_size": 12, "xanchor": side}
    figure.add_hline(y=y, line=line, annotation=note, annotation_position=f"top {side}")


def add_pointer(figure: go.Figure, x: float, y: float, text: str, left: bool) -> None:
    """A text above a point with a line to it; to its right for a point on the left."""
    figure.add_annotation(
        x=x, y=y, text=text, ax=16 if left else -16, ay=-36, xanchor="left" if left else "right",
        arrowcolor=INK, arrowwidth=1.2, arrowhead=0,
    )  # fmt: skip


def steps_of(colours: Sequence[str]) -> list[tuple[float, str]]:
    """A colour scale without transitions: 0, 1, ... of a heat map from -0.5 on."""
    edges = [(k, k + side) for k in range(len(colours)) for side in (0, 1)]
    return [(edge / len(colours), colours[k]) for k, edge in edges]


def add_strategies(figure: go.Figure, colours: Mapping[str, str]) -> None:
    """A legend of strategies and their colours, for a figure whose marks have none."""
    for name, colour in colours.items():
        marker = {"color": colour, "symbol": "square", "size": 12}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=plain(name))
    figure.update_layout(legend={"itemclick": False, "itemdoubleclick": False})


def _add_lost(figure: go.Figure, lost: Sequence[ClientRecord]) -> None:
    """Crosses where an update was lost or late."""
    if lost:
        x, y = [c.round for c in lost], [str(c.client) for c in lost]
        marker = {"symbol": "x", "size": 7, "color": _FAILED}
        figure.add_scatter(
            x=x, y=y, name="lost or late", mode="markers", marker=marker, hoverinfo="skip"
        )


def lay_out(figure: go.Figure, x_title: str, y_title: str, height: int, alt: str) -> None:
    """What all figures share: no background, mid-tone ink, the legend on top, room on phones."""
    axis = {"gridcolor": GRID, "zeroline": False, "automargin": True, "linecolor": GRID}
    font = {"family": FONT, "size": 13}
    figure.update_layout(
        template=go.layout.Template(), meta=alt, height=height, hovermode="closest",
        margin={"l": 8, "r": 8, "t": 8, "b": 8}, font={**font, "color": INK}, showlegend=True,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"font": font, "align": "left", "namelength": -1},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        xaxis={**axis, "title": {"text": x_title, "standoff": 8}},
        yaxis={**axis, "title": {"text": y_title, "standoff": 8}},
    )  # fmt: skip


def plain(name: str) -> str:
    """A name for plotly, which reads tags and entities in every text."""
    return html.escape(name, quote=False)
