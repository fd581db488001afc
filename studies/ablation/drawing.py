"""What the figures of an ablation share. Needs plotly: `fedhq[report]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plotly import graph_objects as go

from ..figures import lay_out
from .summary import Summary

ALL = "all families"
_DIGITS = 4
_HEIGHT = 400
_ROOM = 15  # of the legend, for every solver


@dataclass(frozen=True, eq=False)
class Choice:
    """One way to ask for a figure; a page shows one at a time.

    Args:
        group: Of choices that belong together; empty where there is only one.
        name: Of the choice in its group.
        figure: What it shows.
    """

    group: str
    name: str
    figure: go.Figure


def choices_of_families(summary: Summary) -> tuple[str, ...]:
    """What may be asked for: all families, which is empty, and each of several."""
    return ("", *(summary.families if len(summary.families) > 1 else ()))


def lay_out_lines(figure: go.Figure, x_title: str, y_title: str, alt: str) -> None:
    """Lays a figure out with room for a legend of all its solvers, and a logarithmic x axis."""
    lay_out(figure, x_title, y_title, _HEIGHT + _ROOM * len(figure.data), alt)
    figure.update_xaxes(type="log", exponentformat="power", dtick=1)


def short(values: Sequence[float]) -> list[float]:
    """Numbers with as many digits as a figure shows, so that pages stay small."""
    return [float(f"{value:.{_DIGITS}g}") for value in values]
