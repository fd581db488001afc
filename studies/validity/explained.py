"""How much of the loss a model explains, and whether skew does beside the share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...allocator.arrays import BoolArray, FloatArray, IntArray
from .drawing import Kind
from .evidence import MIXED, Cell
from .left_out import Fold, Predictions
from .models import LossModel
from .ranks import Interval, Ranked, Resamples, interval, mean_over_seeds, rows_of


def unexplained(
    predictions: Predictions,
    model: LossModel,
    gap_known: bool,
    among: BoolArray,
    kinds: Sequence[Kind] = MIXED,
) -> FloatArray:
    """`(1 + resamples,)` 1 - R2 over allocations of some kinds, each setting left out.

    Squared errors against the variance about each setting's mean: 1 is as good as knowing these
    means and nothing of allocations.
    """
    cells, rows = predictions.cells, rows_of(predictions.cells, kinds)
    draws = Resamples.of(sorted({c.seed for c in cells}), len(rows[0]))
    predicted = predictions.of(model, Fold.SETTING, gap_known)
    settings = tuple(dict.fromkeys(cell.setting for cell in cells))
    wrong, varies = np.zeros(1 + draws.count), np.zeros(1 + draws.count)
    for setting, is_wanted in zip(settings, among, strict=True):
        own = [(c.seed, r) for c, r in zip(cells, rows, strict=True) if c.setting == setting]
        mean = np.mean([predictions.losses[r] for _, r in own])
        for seed, r in own if is_wanted else ():
            losses, weights = predictions.losses[r], _weights(draws, seed, len(r))
            wrong += weights @ (losses - predicted[r]) ** 2
            varies += weights @ (losses - mean) ** 2
    return np.asarray(wrong / np.where(varies > 0, varies, np.nan))


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
