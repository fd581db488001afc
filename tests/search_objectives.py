"""Objectives for worker processes, which import them by name."""

import os
import time
from pathlib import Path

import optuna


def make_square(folder: str, seconds: float = 0.0):
    """A sum of squares that notes each evaluation in a file of its own."""

    def square(trial: optuna.Trial) -> float:
        x, y = trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5)
        Path(folder, f"{trial.number}-{os.getpid()}").write_text(f"{x} {y}", "utf-8")
        time.sleep(seconds)
        return x * x + y * y

    return square
