"""Objectives for worker processes, which import them by name."""

import os
import signal
import time
from pathlib import Path

import optuna

from fedhq.studies.search.workers.pool import Tools


def make_random(objective, worker: int, seed: int = 0) -> Tools:
    """An objective, with a sampler whose seed is the worker's."""
    return Tools(objective, optuna.samplers.RandomSampler(seed + worker))


def make_square(folder: str, seconds: float, worker: int) -> Tools:
    """A sum of squares that leaves a file for each evaluation: begun, then ended."""

    def square(trial: optuna.Trial) -> float:
        x, y = trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5)
        begun = Path(folder, f"{trial.number}.{os.getpid()}.begun")
        begun.write_text(f"{x!r} {y!r}", "utf-8")
        time.sleep(seconds)
        begun.rename(begun.with_suffix(".ended"))
        return x * x + y * y

    return make_random(square, worker)


def make_deadly(folder: str, worker: int) -> Tools:
    """Kills its process in every third trial that is no retry."""

    def deadly(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", -5, 5)
        Path(folder, f"{trial.number}.{os.getpid()}.begun").touch()
        if trial.number % 3 == 0 and "retry_of" not in trial.user_attrs:
            os.kill(os.getpid(), signal.SIGKILL)
        return x * x

    return make_random(deadly, worker)


def make_suicidal(worker: int) -> Tools:
    """Kills its process in every trial."""

    def suicidal(trial: optuna.Trial) -> float:
        trial.suggest_float("x", 0, 1)
        os.kill(os.getpid(), signal.SIGKILL)
        return 0.0

    return make_random(suicidal, worker)


def make_broken(worker: int) -> Tools:
    """Always fails in the same way."""

    def broken(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        raise RuntimeError(f"no data for {x}")

    return make_random(broken, worker)
