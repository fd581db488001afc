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
    """

    cells: tuple[Cell, ...]
    losses: FloatArray
    predicted: dict[tuple[str, Fold, bool], FloatArray]

    def of(self, model: LossModel, fold: Fold, gap_known: bool = False) -> FloatArray:
        """`(federations,)` predicted losses; NaN where nothing was left to fit to."""
        return self.predicted[model.name, fold, gap_known]


def predict_left_out(cells: Sequence[Cell]) -> Predictions:
    """Fits and predicts for all models, folds, and with the gap unknown and known."""
    evidence = [e for cell in cells for e in cell.evidence]
    losses = np.array([e.loss for e in evidence])
    gaps = np.array([max(e.gap, 0.0) for e in evidence])
    row_weights = task_weights(cells)
    predicted = {}
    for model in CANDIDATES:
        tables = Tables.of(model, evidence)
        for fold, name in _NAMES.items():
            folds = np.array([name(e.trial.setting) for e in evidence])
            for gap_known in (False, True):
                scale = gaps if gap_known else np.ones(len(gaps))
                found = np.full(len(losses), np.nan)
                for left_out in np.unique(folds):
                    rows = folds != left_out
                    if rows.any():
                        fit = tables.fit(losses, row_weights, scale, rows)
                        found[~rows] = fit.predict(scale)[~rows]
                predicted[model.name, fold, gap_known] = found
    return Predictions(tuple(cells), losses, predicted)


def task_weights(cells: Sequence[Cell]) -> FloatArray:
    """`(federations,)` weights with which every task counts alike, however many settings it has."""
    tasks = np.array([e.trial.setting.task for cell in cells for e in cell.evidence])
    _, number, counts = np.unique(tasks, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / counts[number])
