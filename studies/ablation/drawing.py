"""What the figures of an ablation share. Needs plotly: `fedhq[report]`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from plotly import graph_objects as go

from ..figures import lay_out
from .summary import Summary

ALL = "all families"
_DIGITS = 4
_HEIGHT = 400
_FEW = 2  # powers of ten between which there are ticks
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
    """Lays a figure out with room for a legend of all its solvers."""
    lay_out(figure, x_title, y_title, _HEIGHT + _ROOM * len(figure.data), alt)


def powers_of_ten(values: Iterable[float], text: Callable[[float], str]) -> dict[str, object]:
    """A logarithmic axis for some values, with ticks at powers of ten, and between few of them.

    Args:
        values: What is drawn; those that are not above 0 do not count.
        text: What stands at a tick.

    Example:
        >>> powers_of_ten([0.3, 200.0], "{:g}".format)["ticktext"]
        ['0.1', '1', '10', '100', '1000']
        >>> powers_of_ten([0.3, 2.0], "{:g}".format)["ticktext"]
        ['0.1', '0.2', '0.5', '1', '2', '5', '10']
    """
    logs = [math.log10(value) for value in values if value > 0] or [0.0]
    first, last = math.floor(min(logs)), math.ceil(max(logs))
    between = (1.0, 2.0, 5.0) if last - first <= _FEW else (1.0,)
    ticks = [step * 10.0**k for k in range(first, last) for step in between] + [10.0**last]
    return {"type": "log", "tickvals": ticks, "ticktext": [text(tick) for tick in ticks]}


def short(values: Sequence[float]) -> list[float]:
    """Numbers with as many digits as a figure shows, so that pages stay small."""
    return [float(f"{value:.{_DIGITS}g}") for value in values]
