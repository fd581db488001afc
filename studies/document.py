"""Puts a page together: its frame, and the figures that its script draws."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..allocator.errors import FedHQError
from . import page

if TYPE_CHECKING:
    from plotly import graph_objects as go


def check_plotly(what: str = "the report", instead: str = "") -> None:
    """Says what to install where plotly is missing.

    Args:
        what: What needs it.
        instead: What would do without it, as a sentence.

    Raises:
        FedHQError: If it is.
    """
    try:
        import plotly  # noqa: F401
    except ModuleNotFoundError:
        raise FedHQError(
            f"{what} needs plotly, which is not installed: pip install 'fedhq[report]'"
            f"{instead and '; '}{instead}"
        ) from None


class Document:
    """One self-contained HTML page; `figure` collects what its script is to draw.

    Args:
        title: The page's heading, as text.
        kicker: What stands above it.
    """

    def __init__(self, title: str, kicker: str) -> None:
        self._title, self._kicker = html.escape(title), html.escape(kicker)
        self._plots: list[list[Any]] = []

    def figure(
        self, title: str, read: str, figures: Sequence[go.Figure], choice: str = "", shown: int = -1
    ) -> str:
        """A figure with its title and caption; of several, the chosen one is drawn.

        Args:
            title: As HTML.
            read: Its caption, as HTML.
            figures: What may be chosen.
            choice: A list to choose from, as `choice_list` makes it; empty for one figure.
            shown: Which of them the list has chosen at first.
        """
        self._plots.append([figure.to_plotly_json() for figure in figures])
        layout = figures[shown].layout
        return (
            f"<figure><div class=bar><h3>{title}</h3>{choice}</div>"
            f'<div class=plot role=img data-plot={len(self._plots) - 1} style="height:'
            f'{layout.height}px" aria-label="{html.escape(layout.meta)}"></div>'
            f"<figcaption>{read}</figcaption></figure>\n"
        )

    def render(self, lead: str, main: str, footer: str, style: str = "") -> str:
        """The whole page as HTML.

        Args:
            lead: What stands below the heading, as HTML.
            main: Its sections, as HTML.
            footer: As HTML.
            style: CSS beside the pages' own.
        """
        from plotly.offline import get_plotlyjs

        plots = json.dumps(self._plots, separators=(",", ":")).replace("<", "\\u003c")
        return (
            f'<!doctype html>\n<html lang="en">\n<head>\n{page.HEAD}\n'
            f"<title>{self._title} · {self._kicker}</title>\n<style>{page.STYLE}{style}</style>\n"
            f"</head>\n<body>\n<header>\n<p class=kicker>{self._kicker}</p>\n"
            f"<h1>{self._title}</h1>\n{lead}</header>\n<main>\n"
            f"<noscript><p>The figures need JavaScript; the tables do not.</p></noscript>{main}"
            f"</main>\n{footer}\n"
            f'<script type="application/json" id="plots">{plots}</script>\n'
            f"<script>{get_plotlyjs()}</script>\n<script>{page.SCRIPT}</script>\n</body>\n</html>\n"
        )


def choice_list(
    label: str, names: Sequence[str], chosen: int, linked: str, groups: Sequence[str] = ()
) -> str:
    """A list to choose one of several figures from; lists of one link move together.

    Args:
        label: What is chosen.
        names: Of the figures, in their order.
        chosen: Which of them at first.
        linked: Name of the link, in the page.
        groups: Of the names; those of one group stand together and are next to each other.
    """
    options, group = "", ""
    for k, name in enumerate(names):
        if groups and groups[k] != group:
            options += "</optgroup>" if group else ""
            group = groups[k]
            options += f'<optgroup label="{html.escape(group)}">'
        mark = " selected" if k == chosen else ""
        options += f"<option value={k}{mark}>{html.escape(name)}</option>"
    options += "</optgroup>" if group else ""
    select = f'<select data-scenario="{linked}" autocomplete="off">{options}</select>'
    return f"<label>{label} {select}</label>"


def table(
    name: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    note: str = "",
    kind: str = "",
) -> str:
    """A table whose first column heads its rows.

    Args:
        name: What it holds, for those who cannot see it.
        headings: As text.
        rows: Cells as HTML.
        note: Below it, as HTML.
        kind: A class of tables that the page's style knows.
    """
    head = "".join(f"<th scope=col>{html.escape(heading)}</th>" for heading in headings)
    body = "".join(
        f"<tr><th scope=row>{first}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for first, *cells in rows
    )
    return (
        f'<div class="table {kind}" role=region tabindex=0 aria-label="{html.escape(name)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        + (f"<p class=note>{note}</p>\n" if note else "\n")
    )
