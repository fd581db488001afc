"""What a model says beyond the share: pairs of allocations with about the same share on QAT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...allocator.arrays import BoolArray, FloatArray
from .evidence import Cell
from .left_out import Fold, Predictions
from .models import LossModel
from .ranks import Interval, Resamples, interval, rows_of

_ABOUT_EQUAL = 0.08


@dataclass(frozen=True)
class Pairs:
    """How often a model tells which of two allocations of about equal share loses less.

    Args:
        right: Part of the pairs; a coin has .5.
        count: Pairs, in all settings that were asked for.
    """

    right: Interval
    count: int


def equal_share(
    predictions: Predictions, model: LossModel, fold: Fold, among: BoolArray
) -> Pairs | None:
    """Over the mixed allocations of some settings; None where no pair has about the same share.

    Args:
        predictions: Of all models.
        model: Which.
        fold: What was left out.
        among: `(settings,)` which settings, in the order of cells.
    """
    cells, rows = predictions.cells, rows_of(predictions.cells)
    settings = tuple(dict.fromkeys(cell.setting for cell in cells))
    wanted = {s for s, is_wanted in zip(settings, among, strict=True) if is_wanted}
    draws = Resamples.of(sorted({c.seed for c in cells}), len(rows[0]))
    predicted = predictions.of(model, fold)
    once, resampled, count = [], [], 0
    for setting in wanted:
        found = [
            _of_cell(cell, predicted[r], predictions.losses[r], draws)
            for cell, r in zip(cells, rows, strict=True)
            if cell.setting == setting
        ]
        right, pairs = (np.sum([f[k] for f in found], axis=0) for k in (0, 1))
        if pairs[0]:
            count += int(pairs[0])
            once.append(right[0] / pairs[0])
            resampled.append(right[1:] / np.where(pairs[1:] > 0, pairs[1:], np.nan))
    return Pairs(interval(np.array(once), np.array(resampled).T), count) if once else None


def _of_cell(
    cell: Cell, predicted: FloatArray, losses: FloatArray, draws: Resamples
) -> tuple[FloatArray, FloatArray]:
    """`(1 + resamples,)` pairs told right, and pairs: of all, then of each resample."""
    n = len(losses)
    a, b = np.triu_indices(n, 1)
    shares = np.array([e.share for e in cell.mixed])
    alike = (np.abs(shares[a] - shares[b]) < _ABOUT_EQUAL) & (losses[a] != losses[b])
    a, b = a[alike], b[alike]
    said = np.sign((predicted[a] - predicted[b]).round(9))
    right = np.where(said == 0, 0.5, said == np.sign(losses[a] - losses[b]))
    places, times = draws.places[cell.seed], draws.times[cell.seed]
    drawn = np.array([np.bincount(row, minlength=n) for row in places])
    weights = np.vstack([np.ones(len(a)), times[:, None] * drawn[:, a] * drawn[:, b]])
    return weights @ right, weights.sum(axis=1)
