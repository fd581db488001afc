"""How near Optuna's default sampler comes to the known optimum, in both search spaces."""

from __future__ import annotations

from pathlib import Path

import optuna
import optunahub

REGISTRY = Path(__file__).resolve().parents[2]
module = optunahub.load_local_module("benchmarks/federated_precision", registry_root=str(REGISTRY))

optuna.logging.set_verbosity(optuna.logging.WARNING)
for space in ("policy", "clients"):
    problem = module.Problem(space, num_clients=20, seed=0)
    sampler = optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(directions=problem.directions, sampler=sampler)
    study.optimize(problem, n_trials=60)
    above = study.best_value / problem.best_value - 1.0
    print(f"{space}: {len(problem.search_space)} parameters, {above:.1%} above the optimum")
