"""The accuracies whose times are compared: set by other seeds, before any comparison."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

from ..runs import RunStore
from ..writing import write_at_once
from .grid import Grid, Ground
from .wanted import TARGET_SEEDS, target_spec

TARGETS_FILE = "targets.json"

_BELOW = 0.02  # all-QAT's accuracy at the end
_STEP = 100  # targets are whole hundredths

Targets = dict[tuple[str, float], float]
"""By task and alpha."""


def preset_targets(grid: Grid, store: RunStore, folder: Path) -> Targets:
    """The targets of a folder; they are worked out and written once, and stay.

    All-QAT's mean deployed accuracy at the end, over the seeds `TARGET_SEEDS`, less .02, rounded
    down to .01. What is not trained yet has none.

    Args:
        grid: Whose tasks and alphas.
        store: Has the runs.
        folder: Keeps `TARGETS_FILE`.
    """
    path = folder / TARGETS_FILE
    kept: dict[str, dict[str, float]] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    targets: Targets = {}
    for task in grid.tasks:
        for alpha in grid.alphas:
            found = kept.get(task, {}).get(f"{alpha:g}")
            value = target_of(store, Ground(task, alpha, 0)) if found is None else found
            if value is not None:
                targets[task, alpha] = value
                kept.setdefault(task, {})[f"{alpha:g}"] = value
    write_at_once(path, json.dumps(kept, indent=1, sort_keys=True) + "\n")
    return targets


def target_of(store: RunStore, ground: Ground) -> float | None:
    """The target of a task and alpha; None where its runs are not all trained."""
    runs = [store.find(target_spec(replace(ground, seed=seed))) for seed in TARGET_SEEDS]
    ends = [run.tail() for run in runs if run is not None]
    if len(ends) < len(runs):
        return None
    return math.floor(round((statistics.fmean(ends) - _BELOW) * _STEP, 6)) / _STEP
