"""The loss model that ships, fitted to all settings: `fedhq study validity --fit FILE`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from ...allocator import FittedLoss
from ...allocator.arrays import FloatArray
from .analysis import Analysis
from .left_out import Fold, task_weights
from .models import COVERAGE, EXPONENTIAL, LAGGING, SCALES, Fit, LossModel, Tables
from .ranks import rows_of, short
from .terms import KNOTS, curve_of, exponential_curve

RULE_LOSSES = (0.0025, 0.005, 0.01, 0.02, 0.03, 0.05)
ACCEPTED_LOSS = 0.01
_DIGITS = 4
_LEAST_MEASURED = 10


def refit(analysis: Analysis) -> FittedLoss:
    """What is kept, on everything that is trained, if it is a curve of the coverage of labels.

    Else the simplest of these that is unbeaten; see `model_of`.

    The curve's shape, and the price of unevenness over its height, come from all settings, each
    measured by its own gap between all-PTQ and all-QAT; its height is the mean gap of the settings
    with a trade-off, tasks counting alike. Prices of absent data and wire noise are in accuracy, as
    measured.
    """
    cells, model = analysis.cells, model_of(analysis)
    evidence = [e for cell in cells for e in cell.evidence]
    losses, gaps = np.array([(e.loss, max(e.gap, 0.0)) for e in evidence]).T
    every = np.ones(len(losses), dtype=bool)
    fit = Tables.of(model, evidence).fit(losses, task_weights(cells), gaps, every)
    height = mean_gap(analysis)
    seeds = sorted({cell.seed for cell in cells})
    judged = analysis.judged_of(model)
    unevenness = float(fit.weights[len(KNOTS)]) if model is LAGGING else 0.0
    return FittedLoss(
        loss_curve=_curve(fit, height),
        skip_price=round(float(fit.weights[-2]), _DIGITS),
        wire_price=round(float(fit.weights[-1]), _DIGITS),
        rule_loss=choose_rule(analysis, height),
        origin=(
            f"fedhq study validity: {len(evidence)} federations of {len(analysis.noise)} "
            f"settings, seeds {tuple(seeds)}; with each setting left out in turn rank correlation "
            f"{short(judged.ranks[Fold.SETTING].mean)}, R2 {short(judged.explained.mean)} "
            f"where the gap between all-PTQ and all-QAT is known{not_kept(analysis)}"
        ),
        unevenness_price=round(height * unevenness, _DIGITS),
    )


def _curve(fit: Fit, height: float) -> tuple[tuple[float, float], ...]:
    if fit.tables.model is EXPONENTIAL:
        return exponential_curve(height * float(fit.weights[0]), SCALES[fit.alternative])
    return curve_of(height * fit.weights[: len(KNOTS)])


def model_of(analysis: Analysis) -> LossModel:
    """What is fitted: what is kept, if it is a curve of coverage, else the simplest unbeaten curve.

    `FittedLoss` holds a curve of the coverage of labels. What else may be kept (the share,
    clusters) cannot be written so; `not_kept` says it. Who tells no labels has one class, of which
    coverage is the share.
    """
    kept = analysis.kept
    if kept is not None and kept.model in (EXPONENTIAL, COVERAGE, LAGGING):
        return kept.model
    return EXPONENTIAL if analysis.judged_of(EXPONENTIAL).is_unbeaten else COVERAGE


def not_kept(analysis: Analysis) -> str:
    """For a sentence: that what is fitted is not what is kept, or nothing."""
    kept, model = analysis.kept, model_of(analysis)
    if kept is not None and kept.model is model:
        return ""
    told = "no model is kept" if kept is None else f"{kept.model.name} is kept, but not fitted"
    return f" ({model.name}; {told})"


def mean_gap(analysis: Analysis) -> float:
    """Of the settings with a trade-off, tasks counting alike."""
    by_task: dict[str, list[float]] = {}
    for noise in analysis.noise:
        if noise.has_tradeoff:
            by_task.setdefault(noise.setting.task, []).append(noise.gap)
    return float(np.mean([np.mean(gaps) for gaps in by_task.values()]))


def choose_rule(analysis: Analysis, height: float) -> float:
    """The largest predicted loss up to which measured losses are a point on average.

    Rules are tried from the smallest on. Of each count the mixed allocations, in settings with a
    trade-off, whose loss is predicted above the last rule and up to it, if they are ten at least;
    predicted with the setting left out and without its own gap, as one who has trained nothing
    would. 0 where the first fails.

    Args:
        analysis: Of all that is trained.
        height: The curve's, in place of the gap.
    """
    predicted, measured = _without_gap(analysis, height)
    chosen, last = 0.0, -np.inf
    for rule in RULE_LOSSES:
        within = measured[(predicted > last) & (predicted <= rule)]
        if within.size < _LEAST_MEASURED:
            continue
        if within.mean() > ACCEPTED_LOSS:
            break
        chosen = last = rule
    return chosen


def _without_gap(analysis: Analysis, height: float) -> tuple[FloatArray, FloatArray]:
    """Predicted and measured losses, of mixed allocations in settings with a trade-off."""
    wanted = {noise.setting for noise in analysis.noise if noise.has_tradeoff}
    cells = zip(analysis.cells, rows_of(analysis.cells), strict=True)
    rows = np.concatenate([rows for cell, rows in cells if cell.setting in wanted])
    predicted = analysis.predictions.with_gap(model_of(analysis), Fold.SETTING, height)
    return predicted[rows], analysis.predictions.losses[rows]


def fitted_text(fitted: FittedLoss) -> str:
    """As `allocator/fitted.json`."""
    return json.dumps(asdict(fitted), indent=2) + "\n"


def curve_words(curve: Sequence[tuple[float, float]]) -> str:
    """The points of a curve, for a sentence.

    Example:
        >>> curve_words(((0.0, 0.2), (0.5, 0.0)))
        '.200 at 0, .000 at .50'
    """
    return ", ".join(f"{short(v, 3)} at {short(c) if c else 0}" for c, v in curve)
