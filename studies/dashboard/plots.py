"""Our figures as the dashboard takes them: JSON of plotly, small, and legible on light and dark."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..search.report.details import Details
from ..search.report.view import StudyView

if TYPE_CHECKING:
    from plotly import graph_objects as go

HEIGHT = 450  # of the dashboard's frame around a figure, in pixels
_TITLE_WIDTH = 36  # of an axis, in characters
_INK = "#7d8590"
_NEEDLESS = ["lasso2d", "select2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "pan2d", "zoom2d"]
"""Buttons that would cover the title; one zooms by dragging, and out by a double click."""


def figures(view: StudyView, details: Details) -> dict[str, str]:
    """The figures of a search by their id, which is also their order.

    Args:
        view: The search.
        details: What some of its trials decide, planned again.
    """
    return {
        f"fedhq-{k}-{name}": framed(draw(), title)
        for k, (name, title, draw) in enumerate(_drawn(view, details))
    }


def framed(figure: go.Figure, title: str) -> str:
    """A figure as JSON that fits the dashboard's frame, its title on top, the legend below."""
    figure.update_layout(
        title={"text": title, "x": 0, "xref": "paper", "y": 1, "yref": "container",
               "yanchor": "top", "pad": {"t": 10}, "font_size": 16},
        height=HEIGHT, margin={"l": 8, "r": 8, "t": 44, "b": 8}, autosize=True,
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom",
                "font_size": 11},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": _INK, "activecolor": "#1f77bf",
                 "remove": _NEEDLESS},
    )  # fmt: skip
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        axis.title.text = "<br>".join(textwrap.wrap(axis.title.text or "", _TITLE_WIDTH))
    return str(figure.to_json())


def _drawn(view: StudyView, details: Details) -> Iterator[tuple[str, str, Callable[[], go.Figure]]]:
    """Id, title and drawing of every figure that the search has data for."""
    from ..search.report import figures as policies
    from ..search.report import plan_figures as who
    from ..search.report.course_figures import course_figures
    from ..search.report.regret import Unclaimed, exact_points

    has_exact = not isinstance(exact_points(view), Unclaimed)
    title = "Trials against the exact frontier" if has_exact else "Trials and their front"
    if view.others:
        title += f" in 2 of {len(view.traded)} measures"
    yield "frontier", title, lambda: policies.frontier_figure([view])
    if not len(view.front):
        return
    (course,) = course_figures([view])
    title = "How the search came to its best" if course.unclaimed else "How far from provably best"
    yield "regret", title, lambda: course.figure
    trials = [view.trials[place] for place in view.front.tolist()]
    hues = who.colours_of(view)
    yield "allocation", "Who does what", lambda: who.allocation_figure(trials, details.trials, hues)
    if details.trials:
        middle = details.trials[len(details.trials) // 2]
        title = f"Who is waited for in trial {middle.trial.number}"
        yield "waterfall", title, lambda: who.waterfall_figure(middle, hues)
    if len(details.tradeoffs) > 1:
        title = "Strategies along the trade-off"
        yield "mix", title, lambda: who.mix_figure(details.tradeoffs, hues)
        if who.has_prices(details.tradeoffs):
            yield "prices", "Shadow prices", lambda: who.prices_figure(details.tradeoffs)
