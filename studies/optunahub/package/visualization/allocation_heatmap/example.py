"""The front of a small fleet whose clients get slower one by one."""

from __future__ import annotations

from pathlib import Path

import optuna
import optunahub

REGISTRY = Path(__file__).resolve().parents[2]
module = optunahub.load_local_module(
    "visualization/allocation_heatmap", registry_root=str(REGISTRY)
)

SECONDS = {"skip": 0.0, "ptq-w2a2": 1.0, "qat-w2a2": 1.5}
LOSS = {"skip": 0.05, "ptq-w2a2": 0.02, "qat-w2a2": 0.0}


def objective(trial: optuna.Trial) -> tuple[float, float]:
    """The time of a round, which the slowest client decides, and the loss of accuracy."""
    doing = [trial.suggest_categorical(f"client_{i}", list(SECONDS)) for i in range(12)]
    return max(SECONDS[d] * (1 + i) for i, d in enumerate(doing)), sum(LOSS[d] for d in doing)


optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(
    directions=["minimize", "minimize"], sampler=optuna.samplers.NSGAIISampler(seed=0)
)
study.optimize(objective, n_trials=500)
figure = module.plot_allocation_heatmap(study)
figure.write_html("allocation_heatmap.html")
print(f"{len(figure.data[2].x)} allocations in allocation_heatmap.html")
