"""How much of the loss a model explains, and whether skew does beside the share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...allocator.arrays import BoolArray, FloatArray, IntArray
from .drawing import Kind
from .evidence import MIXED, Cell
from .left_out import Fold, Predictions
from .models import LossModel
from .noise import Noise
from .ranks import Interval, Ranked, Resamples, interval, mean_over_seeds, rows_of


def unexplained(
    predictions: Predictions,
    model: LossModel,
    gap_known: bool,
    noise: Sequence[Noise],
    kinds: Sequence[Kind] = MIXED,
) -> FloatArray:
    """`(1 + resamples,)` 1 - R2 over allocations of some kinds, each setting left out.

    Losses and predictions count by how they differ within a cell: 1 is as good as knowing every
    cell's mean loss and nothing of allocations. The accuracy of all-QAT stands in every loss of a
    cell and in its gap; compared between cells, its noise alone would be explained by the gap. A
    resample draws allocations, seeds, and the noise of the gaps that models were told.

    Args:
        predictions: Of all models.
        model: Which.
        gap_known: Whether models were told the gaps.
        noise: `(settings,)` in the order of cells; those that have a trade-off count.
        kinds: Of allocations.
    """
    cells, rows = predictions.cells, rows_of(predictions.cells, kinds)
    draws = Resamples.of(sorted({c.seed for c in cells}), len(rows[0]))
    predicted = predictions.of(model, Fold.SETTING, gap_known)
    told = {n.setting: n for n in noise if n.has_tradeoff}
    wrong, varies = np.zeros(1 + draws.count), np.zeros(1 + draws.count)
    for number, (cell, r) in enumerate(zip(cells, rows, strict=True)):
        if cell.setting not in told:
            continue
        losses, weights = predictions.losses[r], _weights(draws, cell.seed, len(r))
        errors = np.tile(losses - predicted[r], (len(weights), 1))
        if gap_known:
            off = _gaps_off(cell, told[cell.setting], number, draws.count)
            errors -= off[:, None] * predictions.slopes[model.name, Fold.SETTING][r]
        wrong += _squares_within(errors, weights)
        varies += _squares_within(losses[None], weights)
    return np.asarray(wrong / np.where(varies > 0, varies, np.nan))


def _squares_within(values: FloatArray, weights: IntArray) -> FloatArray:
    """`(1 + resamples,)` weighted squares of `(1 + resamples or 1, values)` about their means."""
    total = np.maximum(weights.sum(axis=1), 1)
    means = (weights * values).sum(axis=1) / total
    return np.asarray((weights * (values - means[:, None]) ** 2).sum(axis=1))


def _gaps_off(cell: Cell, noise: Noise, number: int, resamples: int) -> FloatArray:
    """`(1 + resamples,)` by how much another draw of the references might change a cell's gap."""
    drawn = noise.gap_noise * np.random.default_rng((1, number)).normal(size=resamples)
    gaps = np.maximum(cell.gap + np.array([0.0, *drawn]), 0.0)
    return np.asarray(gaps - gaps[0])


def r_squared(unexplained: FloatArray, best: FloatArray | None = None) -> Interval:
    """The R2 of what is unexplained; with a better model's, by how much that explains more."""
    values = 1 - unexplained if best is None else unexplained - best
    return interval(values[:1], values[1:, None])


def _weights(draws: Resamples, seed: int, allocations: int) -> IntArray:
    """`(1 + resamples, allocations)` how often each counts."""
    drawn = [np.bincount(row, minlength=allocations) for row in draws.places[seed]]
    times = draws.times[seed][:, None] * np.array(drawn)
    return np.vstack([np.ones((1, allocations), dtype=np.int64), times])


def sign_of_skew(cells: Sequence[Cell], among: BoolArray) -> Interval:
    """Whether it costs more that skewed clients are those without QAT, their share being equal.

    The partial rank correlation, given the share on QAT, of the loss with the mean skew of the
    clients without QAT (total variation of their labels from the population's): above 0, QAT is
    worth more with skewed clients; below 0, with typical ones (facts A9).

    Args:
        cells: All.
        among: `(settings,)` which settings to look at.
    """
    settings = tuple(dict.fromkeys(cell.setting for cell in cells))
    draws = Resamples.of(sorted({c.seed for c in cells}), len(cells[0].mixed))
    found = [_partial(cell, draws.places[cell.seed]) for cell in cells]
    wanted = [s for s, is_wanted in zip(settings, among, strict=True) if is_wanted]
    means = np.array([mean_over_seeds(cells, found, s, draws) for s in wanted])
    return interval(means[:, 0], means[:, 1:].T)


def _partial(cell: Cell, places: IntArray) -> FloatArray:
    share = np.array([e.share for e in cell.mixed])
    skew = np.array([e.skewed for e in cell.mixed]) / (1 - share)
    losses = np.array([e.loss for e in cell.mixed])
    a, b, c = (Ranked.of(values, places) for values in (losses, skew, share))
    ab, ac, bc = a.correlation(b), a.correlation(c), b.correlation(c)
    left = np.sqrt(((1 - ac**2) * (1 - bc**2)).clip(min=1e-9))
    return np.asarray(((ab - ac * bc) / left).clip(-1.0, 1.0))
