"""The drawn frontier of `fedhq plan`: one HTML page that needs no network. Needs plotly."""

from __future__ import annotations

import html
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from ..allocator import Allocation, Frontier
from ..allocator.explain.quantities import POINTS, SECONDS
from .document import Document
from .results import FrontierView

if TYPE_CHECKING:
    from plotly import graph_objects as go

_MOST_DRAWN = 400  # points: more only make the page slow
_MOST_LISTED = 25
_NEAR = 1e-6  # relative: what a solver's tolerance may move

_STYLE = "tbody th{min-width:0;white-space:nowrap}"  # here the first column is short
_READ = """<b>How to read.</b> Each point is an allocation that no other beats in both round time
and predicted loss; going right costs time and buys accuracy. The diamond is this plan's."""


def frontier_page(title: str, frontier: Frontier, chosen: Allocation, command: str) -> str:
    """A page with the frontier, the chosen point, and who does what at every point.

    Args:
        title: Of the page.
        frontier: What was on offer.
        chosen: The allocation that was taken; it need not be one of the frontier's.
        command: What reproduces the page.

    Returns:
        The page as HTML.
    """
    from .figures import frontier_figure

    nearest = _nearest(frontier, chosen)
    drawn = _thinned(len(frontier), _MOST_DRAWN, nearest)
    points = POINTS.factor * frontier.loss[drawn]
    view = FrontierView(title, 0, frontier.round_seconds[drawn], points, drawn.index(nearest))
    figure = frontier_figure([view])
    _mark(figure, chosen)
    document = Document(title, "fedhq plan")
    offer = document.figure("What is on offer", _READ, [figure])
    made = html.escape(metadata.version("fedhq"))
    return document.render(
        f"<p class=lead>{_lead(chosen)}</p>\n",
        f"{offer}{_table(frontier, chosen, nearest)}",
        f"<footer><p>Written by fedhq {made} with:</p>"
        f"<pre><code>{html.escape(command)}</code></pre></footer>",
        _STYLE,
    )


def _mark(figure: go.Figure, chosen: Allocation) -> None:
    """Puts the mark on what was chosen, which need not be on the frontier, in the table's words."""
    words = f"{SECONDS.text(chosen.round_seconds)}, {POINTS.text(chosen.loss)}"
    x, y = chosen.round_seconds, POINTS.factor * chosen.loss
    figure.data[1].update(x=[x], y=[y])
    figure.layout.annotations[0].update(x=x, y=y, text=words)
    figure.update_layout(meta=f"Frontier of round time and predicted loss. Chosen: {words}.")
    figure.update_yaxes(title_text="predicted loss, points of accuracy", rangemode="tozero")


def _nearest(frontier: Frontier, chosen: Allocation) -> int:
    """The frontier's best point within the chosen round time; the fastest where there is none."""
    latest = chosen.round_seconds * (1 + _NEAR)
    return max(int(np.searchsorted(frontier.round_seconds, latest, side="right")) - 1, 0)


def _thinned(points: int, most: int, keep: int) -> list[int]:
    evenly = np.linspace(0, points - 1, min(points, most)).round().astype(int)
    return sorted({*evenly.tolist(), keep})


def _lead(chosen: Allocation) -> str:
    did = [
        f"{n} {html.escape(str(strategy))}"
        for strategy, n in zip(chosen.strategies, chosen.counts().tolist(), strict=True)
        if n
    ]
    return (
        f"Of {len(chosen.choice)} clients: <b>{', '.join(did)}</b>. The round takes "
        f"<b>{SECONDS.text(chosen.round_seconds)}</b>, and the predicted loss is "
        f"<b>{POINTS.text(chosen.loss)}</b> of accuracy."
    )


def _table(frontier: Frontier, chosen: Allocation, nearest: int) -> str:
    """Round time, loss and clients of each strategy, for some points from end to end."""
    on_it = chosen.loss <= float(frontier.loss[nearest]) * (1 + _NEAR) + _NEAR
    names = ("round", "loss in points", *map(str, chosen.strategies))
    head = "".join(f"<th scope=col>{html.escape(name)}</th>" for name in names)
    body = ""
    for k in _thinned(len(frontier), _MOST_LISTED, nearest):
        point = frontier.allocation(k)
        mark = " <span class=mark>chosen</span>" if k == nearest and on_it else ""
        time, loss = SECONDS.text(point.round_seconds), f"{100 * point.loss:.2f}"
        cells = "".join(f"<td>{value}</td>" for value in (loss, *point.counts().tolist()))
        body += f"<tr><th scope=row>{time}{mark}</th>{cells}</tr>"
    rest = len(frontier) - min(len(frontier), _MOST_LISTED)
    more = f" {len(frontier)} points in all; some from end to end are listed." if rest else ""
    return (
        '<div class=table role=region tabindex=0 aria-label="Points of the frontier">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f"<p class=note>Clients that do each strategy, in one best allocation of each point.{more}"
        "</p>\n"
    )
