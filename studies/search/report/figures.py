"""The figures of searches: trials against the exact frontier, and what matters.

They are drawn in pages and in Optuna's dashboard, so each tells in `layout.meta` what it shows, and
none holds more than some hundred points: `MOST_DRAWN` trials of a study, however many there are.
Needs plotly: `fedhq[search]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from plotly import graph_objects as go

from ....allocator.arrays import IntArray
from ...figures import INK, NAME, add_level, lay_out, plain
from ...palette import HYBRIDS, LAST_ARM
from ..record import SOURCES
from .regret import LEAST_GAP, Unclaimed, exact_points
from .view import ACCURACY_LOSS, ROUND_SECONDS, TARGET_SECONDS, State, StudyView, TrialView
from .words import measure_text, name_of, unit_of

MOST_DRAWN = 400
STUDY_COLOURS = (LAST_ARM, *HYBRIDS)

_MOST_ON_FRONT = 150
_SYMBOLS = dict(zip(SOURCES, ("circle", "diamond", "square", "triangle-up"), strict=True))
_SOURCE_COLOURS = dict(zip(SOURCES, ("#3f9fdc", "#d55e00", "#8a6fd1", "#8c7a3d"), strict=True))
_PROPOSED = dict(
    zip(SOURCES, ("sampler", "given: frontier", "given: uniform", "given: screened"), strict=True)
)  # fmt: skip
_TITLES = {
    ROUND_SECONDS: "round time, s",
    TARGET_SECONDS: "simulated time to the target, s",
}
_LOSS_TITLES = {"model": "predicted accuracy loss", "training": "1 - deployed accuracy"}


def frontier_figure(views: Sequence[StudyView]) -> go.Figure:
    """The trials of one study or several, and what is provably best.

    Feasible trials are filled, those that break a limit hollow; the symbol says who proposed them,
    the colour too where there is one study, else which study. A line joins each study's front in
    its two axes; what else it trades is told of each trial.

    Args:
        views: They must trade the same measures, all in the model or all trained.
    """
    figure = go.Figure()
    said = []
    shared = len({(v.record.frontier, *v.record.limits.items()) for v in views}) == 1
    for k, view in enumerate(views):
        colour = STUDY_COLOURS[k % len(STUDY_COLOURS)]
        prefix = f"{plain(view.name)}: " if len(views) > 1 else ""
        if not (shared and k):
            _add_exact(figure, view, "" if shared else prefix, INK if shared else colour)
        _add_front(figure, view, prefix, colour)
        said.append(_add_trials(figure, view, prefix, colour))
    axes = views[0].axes
    others = dict.fromkeys(name_of(name) for view in views for name in view.others)
    rest = f" Not drawn, but minimised, too: {', '.join(others)}." if others else ""
    alt = f"Scatter chart: {' against '.join(axes)} of trials.{rest} {' '.join(said)}"
    lay_out(figure, title_of(axes[0]), loss_title(views[0]), 480, alt)
    _add_limits(figure, views)
    _frame(figure, views)
    return figure


def title_of(measure: str) -> str:
    """The title of a measure's axis."""
    return _TITLES.get(measure, measure.replace("_", " "))


def loss_title(view: StudyView) -> str:
    """The title of the second measure, which studies of the model predict."""
    if view.axes[1] != ACCURACY_LOSS:
        return title_of(view.axes[1])
    return _LOSS_TITLES[view.evaluated]


def _add_exact(figure: go.Figure, view: StudyView, prefix: str, colour: str) -> None:
    points = exact_points(view)
    if not isinstance(points, Unclaimed):
        figure.add_scatter(
            x=short(points[:, 0]), y=short(points[:, 1]), name=f"{prefix}{_exact_name(view)}",
            mode="lines", line={"color": colour, "width": 1.5, "shape": "hv", "dash": "dot"},
            hovertemplate=NAME + _point_text(view),
        )  # fmt: skip


def _exact_name(view: StudyView) -> str:
    gap = view.record.frontier_gap
    return "exact frontier" + (f" (loss within {gap:.2g})" if gap > LEAST_GAP else "")


def _add_front(figure: go.Figure, view: StudyView, prefix: str, colour: str) -> None:
    x, y = view.points[_evenly(view.drawn_front, _MOST_ON_FRONT)].T
    size = len(view.front)
    name = f"front ({size})"
    if view.others:
        name = f"front of these two ({len(view.drawn_front)} of {size})"
    figure.add_scatter(
        x=short(x), y=short(y), name=prefix + name, mode="lines",
        line={"color": colour, "width": 2, "shape": "hv"}, hoverinfo="skip",
    )  # fmt: skip


def _add_trials(figure: go.Figure, view: StudyView, prefix: str, colour: str) -> str:
    """The trials by source, feasible or not; returns what is drawn, in words."""
    measured = np.isfinite(view.points).all(axis=1)
    drawn = drawn_trials(view)
    sources = np.array([t.source for t in view.trials])
    for source in SOURCES:
        own = sources == source
        hue = colour if prefix else _SOURCE_COLOURS[source]
        for feasible in (True, False):
            group = own & measured & (view.feasible == feasible)
            if not group.any():
                continue
            shown = drawn[group[drawn]]
            size = f"{len(shown)} of {group.sum()}" if len(shown) < group.sum() else f"{len(shown)}"
            kind = "" if feasible else ", not feasible"
            _add_group(
                figure, view, shown, f"{prefix}{_PROPOSED[source]}{kind} ({size})",
                _SYMBOLS[source] + ("" if feasible else "-open"), hue, feasible,
            )  # fmt: skip
    unmeasured = len(view.trials) - int(measured.sum())
    rest = f", {unmeasured} without both measures" if unmeasured else ""
    return (
        f"{view.name}: {int(view.feasible.sum())} feasible of {len(view.trials)} trials{rest}, "
        f"{len(view.front)} on the front; {len(drawn)} drawn."
    )


def _add_group(
    figure: go.Figure, view: StudyView, places: IntArray, name: str, symbol: str, colour: str,
    feasible: bool,
) -> None:  # fmt: skip
    x, y = view.points[places].T
    trials = [view.trials[k] for k in places]
    data = [[t.number, _note(view, t)] for t in trials]
    figure.add_scatter(
        x=short(x), y=short(y), name=name, mode="markers", customdata=data,
        marker={"symbol": symbol, "color": colour, "size": 8 if feasible else 6,
                "opacity": 0.85 if feasible else 0.5},
        hovertemplate=NAME + "trial %{customdata[0]}%{customdata[1]}<br>" + _point_text(view),
    )  # fmt: skip


def _note(view: StudyView, trial: TrialView) -> str:
    """What becomes of a trial, and what it measured that no axis shows."""
    notes = ["given up early"] if trial.state is State.PRUNED and not trial.broken else []
    if trial.broken:
        notes.append(f"breaks {plain(', '.join(trial.broken))}")
    if trial.record is not None:
        notes += [f"{name_of(n)} {measure_text(trial.record, n)}" for n in view.others]
    return "".join(f", {note}" for note in notes)


def _point_text(view: StudyView) -> str:
    """Where a point lies, for plotly to fill in."""
    return "<br>".join(
        f"{'loss' if name == ACCURACY_LOSS else name_of(name)} %{{{axis}:.4g}} "
        f"{unit_of(name).symbol}".rstrip()
        for name, axis in zip(view.axes, "xy", strict=True)
    )


def _add_limits(figure: go.Figure, views: Sequence[StudyView]) -> None:
    """Dashed lines at the limits of both measures."""
    for axis in (0, 1):
        own = (v.record.limits.get(v.axes[axis]) for v in views)
        for limit in {limit for limit in own if limit is not None}:
            if axis:
                add_level(figure, limit, f"limit {limit:g}", "right")
            else:
                unit = unit_of(views[0].axes[0])
                line = {"dash": "dash", "width": 1.5, "color": INK}
                figure.add_vline(x=limit, line=line, annotation_text=f"limit {unit.text(limit)}")


def _frame(figure: go.Figure, views: Sequence[StudyView]) -> None:
    """Where trials lie far off, shows the feasible ones and the limits first."""
    feasible = np.concatenate([view.points[view.feasible] for view in views])
    if not len(feasible):
        return
    measured = np.concatenate([view.points for view in views])
    measured = measured[np.isfinite(measured).all(axis=1)]
    for axis, update in enumerate((figure.update_xaxes, figure.update_yaxes)):
        limits = [v.record.limits.get(v.axes[axis], -np.inf) for v in views]
        low, high = float(measured[:, axis].min()), max(float(feasible[:, axis].max()), *limits)
        extent = max(high - low, 0.25 * high, 1e-9)
        if measured[:, axis].max() > high + extent:
            update(range=[low - 0.06 * extent, high + 0.4 * extent])


def drawn_trials(view: StudyView) -> IntArray:
    """Places of the measured trials that a figure draws: the front, and an even part of the rest.

    Feasible and infeasible ones keep their ratio.
    """
    measured = np.flatnonzero(np.isfinite(view.points).all(axis=1))
    front = _evenly(view.front, _MOST_ON_FRONT)
    rest = np.setdiff1d(measured, view.front)
    room = MOST_DRAWN - len(front)
    if len(rest) <= room:
        return np.union1d(front, rest)
    feasible = rest[view.feasible[rest]]
    others = rest[~view.feasible[rest]]
    share = round(room * len(feasible) / len(rest))
    kept = (_evenly(feasible, share), _evenly(others, room - share))
    return np.union1d(front, np.concatenate(kept))


def importance_figure(view: StudyView, importances: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """How much each parameter of the policy decides which trials are good, by objective.

    Args:
        view: The study.
        importances: By objective, the share of each parameter; see `find_importances`.
    """
    figure = go.Figure()
    first = next(iter(importances.values()))
    order = sorted(first, key=lambda p: max(own[p] for own in importances.values()))
    for (objective, own), colour in zip(importances.items(), STUDY_COLOURS, strict=False):
        figure.add_bar(
            y=[plain(p) for p in order], x=short(np.array([own[p] for p in order])),
            orientation="h", name=plain(objective.replace("_", " ")), marker_color=colour,
            hovertemplate=NAME + "%{y}: %{x:.0%}",
        )  # fmt: skip
    best = {o: max(own, key=lambda p: own[p]) for o, own in importances.items()}
    said = "; ".join(f"{o}: {p} {importances[o][p]:.0%}" for o, p in best.items())
    alt = f"Bar chart: importance of the parameters in {view.name}. The largest: {said}."
    height = 130 + (14 + 16 * len(importances)) * len(order)
    lay_out(figure, "importance", "", height, alt)
    figure.update_layout(barmode="group", bargap=0.3, legend_traceorder="reversed")
    figure.update_xaxes(tickformat=".0%", range=[0, 1])
    figure.update_yaxes(showgrid=False, title=None)
    return figure


def _evenly(places: IntArray, most: int) -> IntArray:
    """At most so many of them, from end to end."""
    if len(places) <= most:
        return places
    return places[np.linspace(0, len(places) - 1, max(most, 0)).round().astype(np.int64)]


def short(values: np.ndarray) -> list[float]:
    """As many digits as a figure shows."""
    return [float(f"{value:.6g}") for value in values]
