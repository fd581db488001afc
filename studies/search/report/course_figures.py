"""The figures of how searches came to what they found, trial by trial.

Needs plotly: `fedhq[search]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from plotly import graph_objects as go

from ...figures import NAME, lay_out, plain
from ..record import SOURCES
from .figures import STUDY_COLOURS, short
from .regret import EXCESS, LEAST_GAP, Course, Unclaimed, find_progress, find_regret
from .view import StudyView

_LEAST_EXCESS = 1e-6  # a logarithm has no place for zero


@dataclass(frozen=True, eq=False)
class CourseFigure:
    """How studies came to what they found, by one measure.

    Args:
        measure: What is drawn, in words.
        unclaimed: Why it is no regret, but how the studies came to their own best; empty for a
            regret.
        courses: What is drawn.
        figure: Lines, a study each.
    """

    measure: str
    unclaimed: tuple[str, ...]
    courses: tuple[Course, ...]
    figure: go.Figure


def course_figures(views: Sequence[StudyView]) -> list[CourseFigure]:
    """How far each study was from the exact frontier after each trial, a figure a measure.

    Dashed is what the sampler found alone. Of a study that can claim no regret, how it came to its
    own best instead; one without a feasible trial is left out.
    """
    lines: dict[str, list[tuple[int, Course]]] = {}
    reasons: dict[str, dict[str, None]] = {}
    for k, view in enumerate(views):
        regret = find_regret(view)
        course = find_progress(view) if isinstance(regret, Unclaimed) else regret
        if course is None or np.isnan(course.last):
            continue
        lines.setdefault(course.measure, []).append((k, course))
        if isinstance(regret, Unclaimed):
            reasons.setdefault(course.measure, {})[regret.reason] = None
    return [
        CourseFigure(
            measure,
            tuple(reasons.get(measure, ())),
            tuple(course for _, course in drawn),
            _courses_drawn(views, drawn),
        )
        for measure, drawn in lines.items()
    ]


def _courses_drawn(views: Sequence[StudyView], drawn: Sequence[tuple[int, Course]]) -> go.Figure:
    """Courses of one measure, each by the place of its study, which tells its colour."""
    figure, said = go.Figure(), []
    measure, is_share = drawn[0][1].measure, drawn[0][1].reference.corner is not None
    for k, course in drawn:
        view, colour = views[k], STUDY_COLOURS[k % len(STUDY_COLOURS)]
        own = f"{plain(view.name)}: " if len(views) > 1 else ""
        _add_course(figure, course, f"{own}all trials", colour, "solid")
        alone = find_regret(view, SOURCES[:1])
        if isinstance(alone, Course) and {t.source for t in view.trials} != {"sampler"}:
            _add_course(figure, alone, f"{own}the sampler's alone", colour, "dash")
        most = course.at_most(course.last)
        slack = f" (at most {most:.3g})" if most > course.last + LEAST_GAP else ""
        said.append(f"{view.name}: {course.last:.3g}{slack} after trial {course.trials[-1]}")
    alt = f"Line chart: {measure} after each trial. {'; '.join(said)}."
    lay_out(figure, "trial", measure, 380, alt)
    if measure == EXCESS:
        figure.update_yaxes(type="log", tickformat=".0%", dtick=1)
    elif is_share:
        figure.update_yaxes(rangemode="tozero", tickformat=".0%")
    return figure


def _add_course(figure: go.Figure, course: Course, name: str, colour: str, dash: str) -> None:
    trials, values = course.steps()
    drawn = np.maximum(values, _LEAST_EXCESS) if course.measure == EXCESS else values
    figure.add_scatter(
        x=trials.tolist(), y=short(drawn), customdata=short(values), name=name, mode="lines",
        line={"color": colour, "width": 2.2, "shape": "hv", "dash": dash},
        hovertemplate=NAME + "after trial %{x}: %{customdata:.4g}",
    )  # fmt: skip
