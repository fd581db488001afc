"""The study as one static page: findings, figures and tables."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..document import Document, check_plotly, choice_list, table
from ..writing import write_at_once
from .analysis import Analysis
from .findings import findings
from .left_out import Fold
from .models import COVERAGE, SHARE
from .noise import Noise
from .record import (
    DESIGN,
    MODEL_HEADINGS,
    READING,
    SETTING_HEADINGS,
    model_cells,
    setting_cells,
    size,
)

if TYPE_CHECKING:
    from plotly import graph_objects as go

_READ_RANKS = """<b>How to read.</b> Each bar is a model: its mean rank correlation with measured
losses over settings that it was not fitted to; whiskers hold 95 of 100 resamples. The dashed line
is what one who knew the true accuracies would reach. Green: no model of the
program does better beyond chance."""
_READ_LOSSES = """<b>How to read.</b> One point an allocation: what coverage, fitted to all other
settings and scaled by this one's gap, predicted, and what was measured. On the diagonal both are
the same; the whisker is the noise of a repeat."""
_STYLE = ".found{max-width:88ch}.found li{margin:0 0 10px}"
_COVERAGE_COLOUR, _OTHER_COLOUR, _NOTE_COLOUR = "#009e73", "#3f9fdc", "#d55e00"


def write_page(path: Path, analysis: Analysis) -> None:
    """Writes the page; what stood there is replaced at once.

    Raises:
        FedHQError: If plotly is not installed.
    """
    check_plotly()
    document = Document("Which data must do QAT?", "fedhq study validity")
    says = "".join(f"<li>{_marked(text)}</li>" for text in findings(analysis))
    models = [[html.escape(c) for c in model_cells(judged)] for judged in analysis.judged]
    settings = [[_marked(c) for c in setting_cells(analysis, n)] for n in analysis.noise]
    names = [str(noise.setting) for noise in analysis.noise]
    shown = max(range(len(names)), key=lambda k: analysis.noise[k].spread)
    choice = choice_list("setting", names, shown, "setting")
    scatters = [losses_figure(analysis, noise) for noise in analysis.noise]
    main = (
        f"<section><h2>What it says</h2><ul class=found>{says}</ul></section>"
        f"<section><h2>Models</h2>{_figures_of(document, analysis)}"
        f"{table('Models of the loss', MODEL_HEADINGS, models, _marked(READING))}</section>"
        "<section><h2>Settings</h2>"
        f"{document.figure('Predicted and measured', _READ_LOSSES, scatters, choice, shown)}"
        f"{table('Settings', SETTING_HEADINGS, settings)}</section>"
    )
    lead = f"<p class=lead>{html.escape(DESIGN)} <b>{html.escape(size(analysis))}</b></p>"
    write_at_once(path, document.render(lead, main, "", _STYLE))


def _figures_of(document: Document, analysis: Analysis) -> str:
    return document.figure(
        "Rank correlation, settings left out", _READ_RANKS, [ranks_figure(analysis)]
    )


def _marked(text: str) -> str:
    """Markdown's emphasis as HTML."""
    return re.sub(r"\*([^*]+)\*", r"<b>\1</b>", html.escape(text))


def ranks_figure(analysis: Analysis) -> go.Figure:
    """Every model's mean rank correlation with its interval."""
    from plotly import graph_objects as go

    from ..figures import INK, add_level, lay_out, plain

    found = [judged.ranks[Fold.SETTING] for judged in analysis.judged]
    names = [judged.model.name for judged in analysis.judged]
    means = [interval.mean for interval in found]
    colours = [_COVERAGE_COLOUR if judged.is_unbeaten else INK for judged in analysis.judged]
    figure = go.Figure()
    figure.add_bar(
        x=[plain(name) for name in names],
        y=means,
        marker={"color": colours, "line_width": 0},
        error_y={
            "type": "data",
            "array": [i.high - i.mean for i in found],
            "arrayminus": [i.mean - i.low for i in found],
            "color": INK,
            "thickness": 1.4,
        },
        showlegend=False,
        hovertemplate="%{x}<br>%{y:.2f}<extra></extra>",
    )
    ceilings = [n.ceiling for n in analysis.noise if n.has_tradeoff]
    add_level(figure, sum(ceilings) / len(ceilings), "who knows the truth", "right")
    told = "; ".join(f"{name} {mean:.2f}" for name, mean in zip(names, means, strict=True))
    lay_out(figure, "", "rank correlation", 460, f"Bar chart: {told}. Green: unbeaten.")
    figure.update_xaxes(tickangle=35)
    return figure


def losses_figure(analysis: Analysis, noise: Noise) -> go.Figure:
    """Predicted and measured losses of a setting's allocations, by kind."""
    from plotly import graph_objects as go

    from ..figures import INK, SYMBOLS, lay_out, plain

    predicted = analysis.predictions.of(COVERAGE, Fold.SETTING, gap_known=True)
    points: dict[str, list[tuple[float, float]]] = {}
    start = 0
    for cell in analysis.cells:
        for k, evidence in enumerate(cell.evidence):
            if cell.setting == noise.setting and not evidence.trial.repeat:
                pair = (float(predicted[start + k]), evidence.loss)
                points.setdefault(str(evidence.trial.drawn.kind), []).append(pair)
        start += len(cell.evidence)
    figure = go.Figure()
    colours = (INK, INK, _OTHER_COLOUR, _NOTE_COLOUR, "#8a6fd1", "#8c7a3d")
    for k, (kind, pairs) in enumerate(points.items()):
        x, y = zip(*pairs, strict=True)
        marker = {
            "color": colours[k % len(colours)],
            "symbol": SYMBOLS[k % len(SYMBOLS)],
            "size": 8,
        }
        bars = {"type": "constant", "value": noise.noise, "thickness": 0.8, "width": 0}
        figure.add_scatter(x=x, y=y, name=plain(kind), mode="markers", marker=marker, error_y=bars)
    low, high = _range(list(points.values()))
    line = {"color": INK, "dash": "dash", "width": 1}
    figure.add_scatter(x=[low, high], y=[low, high], mode="lines", line=line, showlegend=False)
    rank = analysis.ranks.of_setting(COVERAGE, Fold.SETTING, noise.setting)
    other = analysis.ranks.of_setting(SHARE, Fold.SETTING, noise.setting)
    alt = (
        f"Scatter plot: predicted and measured losses in {noise.setting}; rank correlation of "
        f"coverage {rank}, of the share {other}."
    )
    lay_out(figure, "predicted loss", "measured loss", 440, alt)
    return figure


def _range(points: Sequence[Sequence[tuple[float, float]]]) -> tuple[float, float]:
    values = [v for pairs in points for pair in pairs for v in pair]
    return min(values), max(values)
