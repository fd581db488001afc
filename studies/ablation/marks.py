"""How each solver looks in all figures of an ablation: fedhq's own stand out, kinds share a hue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .kinds import Kind
from .summary import Summary

_OURS = ("#1f77bf", "#009e73", "#d55e00", "#3f9fdc")
_HUES = {
    Kind.MODELLER: ("#8a6fd1", "#a992e0", "#6f57b0"),
    Kind.LIBRARY: ("#d48f00", "#b8741a", "#e0ae3f"),
    Kind.HEURISTIC: ("#c2659a", "#d98bb8"),
    Kind.BLACK_BOX: ("#8c7a3d", "#6f8c3d"),
    Kind.RULE: ("#7d8590", "#a08468", "#5f8ea0"),
}
_SYMBOLS = ("square", "diamond", "triangle-up", "x", "star", "pentagon", "cross", "triangle-down")
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_STRONG, _THIN = 3.2, 1.6


@dataclass(frozen=True)
class Mark:
    """A solver's colour, line and symbol; after Okabe and Ito, whom the colour-blind can follow.

    Args:
        colour: Its kind's; one of its own for each of fedhq's.
        dash: Of lines, its own within the kind.
        symbol: Of points, its own within the kind.
        width: Of lines.
    """

    colour: str
    dash: str
    symbol: str
    width: float

    @property
    def line(self) -> dict[str, object]:
        """As plotly's `line`."""
        return {"color": self.colour, "dash": self.dash, "width": self.width}


OTHER = Mark("#767d87", "solid", "circle-open", _THIN)
"""Of a solver that is not among the measured ones."""


def marks_of(summary: Summary) -> Mapping[str, Mark]:
    """A mark for each solver of an ablation, by name."""
    kinds = {row.solver: row.kind for row in summary.rows}
    marks: dict[str, Mark] = {}
    for kind in Kind:
        for k, solver in enumerate(s for s in summary.solvers if kinds[s] is kind):
            if kind is Kind.OURS:
                marks[solver] = Mark(_OURS[k % len(_OURS)], "solid", "circle", _STRONG)
            else:
                dash, symbol = _DASHES[k % len(_DASHES)], _SYMBOLS[k % len(_SYMBOLS)]
                colour = _HUES[kind][k % len(_HUES[kind])]
                marks[solver] = Mark(colour, dash, symbol, _THIN)
    return marks
