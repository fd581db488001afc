"""A knapsack of 30 things: what a greedy rule knows, and what TPE makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import optunahub

REGISTRY = Path(__file__).resolve().parents[2]
module = optunahub.load_local_module("samplers/solver_seeded", registry_root=str(REGISTRY))

rng = np.random.default_rng(0)
worth, weight = rng.integers(1, 50, 30), rng.integers(1, 50, 30)
ROOM = int(weight.sum()) // 3


def objective(trial: optuna.Trial) -> float:
    """The worth of what is taken, as long as it fits."""
    taken = np.array([trial.suggest_int(f"take_{i}", 0, 1) for i in range(len(worth))])
    trial.set_constraint("weight", float(taken @ weight - ROOM))
    return float(taken @ worth)


def greedy(power: float) -> dict[str, int]:
    """Takes what is worth most for its weight to some power, as long as it fits."""
    left, seed = ROOM, {f"take_{i}": 0 for i in range(len(worth))}
    for i in np.argsort(-worth / weight**power):
        if weight[i] <= left:
            left, seed[f"take_{i}"] = left - int(weight[i]), 1
    return seed


optuna.logging.set_verbosity(optuna.logging.WARNING)
seeds = [greedy(power) for power in (1.0, 0.8, 1.2)]
for name, sampler in {
    "TPE": optuna.samplers.TPESampler(seed=0),
    "seeded": module.SolverSeededSampler(seeds, optuna.samplers.TPESampler(seed=0)),
}.items():
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=100)
    print(f"{name}: {study.best_value:.0f} by trial {study.best_trial.number}")
