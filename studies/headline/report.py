"""The report as one HTML page that needs no network."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path

from ..document import Document, choice_list, table
from ..writing import write_at_once
from .content import GOALS
from .failures import Evidence
from .grid import EXACT
from .tables import Section, Table

_TITLE, _KICKER = "The headline study", "fedhq study headline"
_DRAWN_AT = 2.0  # r of the settings whose courses are drawn; of all they would be too many
_STYLE = ".words td,.words th{white-space:normal;text-align:left;min-width:92px}"
_READ_COURSE = """<b>How to read.</b> Further left and higher is better. Lines are means over the
seeds and the last three rounds, as they count for the target; bands reach from the worst to the
best seed; the dashed line is the target."""
_READ_CEILING = """<b>How to read.</b> One point a setting. On the dotted line hybrid allocation
gains all that it can: rounds as short as all-PTQ's, and not one more of them. Points whose arms
missed the target stand at the bound; the text says so."""


def write_page(
    path: Path, lead: str, sections: Sequence[Section], evidence: Evidence, command: str
) -> None:
    """Writes the page; what stood there is replaced at once.

    Args:
        path: Of the page.
        lead: What stands below its heading.
        sections: In their order.
        evidence: For the figures.
        command: What wrote it.
    """
    document = Document(_TITLE, _KICKER)
    goals, *others = (_section(section) for section in sections)
    exact = evidence.with_clock(EXACT)
    drawn = _figures(document, evidence) if exact else ""
    told = f"<p class=lead>{html.escape(lead)}</p>\n"
    footer = f"<footer><pre>{html.escape(command)}</pre></footer>"
    main = f"{goals}{drawn}{''.join(others)}"
    write_at_once(path, document.render(told, main, footer, _STYLE))


def _figures(document: Document, evidence: Evidence) -> str:
    from . import drawing  # only now: it needs plotly

    exact = evidence.with_clock(EXACT)
    drawn = [s for s in exact if s.cell.ratio == _DRAWN_AT] or exact[:1]
    choice = choice_list("setting", [s.cell.setting for s in drawn], 0, "course")
    courses = [drawing.course_figure(setting) for setting in drawn]
    return "<section>" + (
        document.figure("Accuracy over time", _READ_COURSE, courses, choice, 0)
        + document.figure(
            "What is gained, and what could be", _READ_CEILING, [drawing.ceiling_figure(exact)]
        )
        + "</section>\n"
    )


def _section(section: Section) -> str:
    body = "".join(_paragraph(part) for part in section.text.split("\n\n") if part)
    drawn = "" if section.table is None else _table(section.title, section.table)
    return f"<section><h2>{html.escape(section.title)}</h2>\n{body}{drawn}</section>\n"


def _paragraph(text: str) -> str:
    lines = text.split("\n")
    if all(line.startswith("- ") for line in lines):
        items = "".join(f"<li>{_words(line[2:])}</li>" for line in lines)
        return f"<ul>{items}</ul>\n"
    return f"<p>{_words(text)}</p>\n"


def _words(text: str) -> str:
    """Text as HTML, with what stands between backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


def _table(title: str, told: Table) -> str:
    rows = [[_words(cell) for cell in row] for row in told.rows]
    kind = "words" if title == GOALS else ""
    return table(title, told.headings, rows, kind=kind)
