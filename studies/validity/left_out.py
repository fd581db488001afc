"""Predictions of what was left out: every fold is predicted by a fit to all the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ...allocator.arrays import FloatArray
from ..runs import TASKS
from .evidence import Cell
from .grid import Setting
from .models import CANDIDATES, LossModel, Tables


class Fold(StrEnum):
    """What is left out at a time."""

    SETTING = "setting"
    TASK = "task"
    DATA = "data set"


_NAMES: dict[Fold, Callable[[Setting], str]] = {
    Fold.SETTING: str,
    Fold.TASK: lambda setting: setting.task,
    Fold.DATA: lambda setting: TASKS[setting.task].data,
}


@dataclass(frozen=True, eq=False)
class Predictions:
    """Losses as every model predicts them, of federations that it was not fitted to.

    Args:
        cells: Whose federations, in their order.
        losses: `(federations,)` measured.
        predicted: By model, fold and whether the gap was known: `(federations,)`.
        slopes: By model and fold: `(federations,)` by how much the predicted loss would be higher
            with a known gap that is higher by one.
    """

    cells: tuple[Cell, ...]
    losses: FloatArray
    predicted: dict[tuple[str, Fold, bool], FloatArray]
    slopes: dict[tuple[str, Fold], FloatArray]

    def of(self, model: LossModel, fold: Fold, gap_known: bool = False) -> FloatArray:
        """`(federations,)` predicted losses; NaN where nothing was left to fit to."""
        return self.predicted[model.name, fold, gap_known]

    def with_gap(self, model: LossModel, fold: Fold, height: float) -> FloatArray:
        """`(federations,)` predicted losses, had every cell the same gap; prices are as fitted."""
        known, slopes = self.of(model, fold, gap_known=True), self.slopes[model.name, fold]
        gaps = [max(e.gap, 0.0) for cell in self.cells for e in cell.evidence]
        return np.asarray(known + slopes * (height - np.array(gaps)))


def predict_left_out(cells: Sequence[Cell]) -> Predictions:
    """Fits and predicts for all models, folds, and with the gap unknown and known."""
    evidence = [e for cell in cells for e in cell.evidence]
    losses = np.array([e.loss for e in evidence])
    gaps = np.array([max(e.gap, 0.0) for e in evidence])
    row_weights = task_weights(cells)
    predicted, slopes = {}, {}
    for model in CANDIDATES:
        tables = Tables.of(model, evidence)
        for fold, name in _NAMES.items():
            folds = np.array([name(e.trial.setting) for e in evidence])
            for gap_known in (False, True):
                scale = gaps if gap_known else np.ones(len(gaps))
                found, rising = (np.full(len(losses), np.nan) for _ in range(2))
                for left_out in np.unique(folds):
                    rows = folds != left_out
                    if rows.any():
                        fit = tables.fit(losses, row_weights, scale, rows)
                        found[~rows] = fit.predict(scale)[~rows]
                        rising[~rows] = fit.slopes[~rows]
                predicted[model.name, fold, gap_known] = found
                if gap_known:
                    slopes[model.name, fold] = rising
    return Predictions(tuple(cells), losses, predicted, slopes)


def task_weights(cells: Sequence[Cell]) -> FloatArray:
    """`(federations,)` weights with which every task counts alike, however many settings it has."""
    tasks = np.array([e.trial.setting.task for cell in cells for e in cell.evidence])
    _, number, counts = np.unique(tasks, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / counts[number])
