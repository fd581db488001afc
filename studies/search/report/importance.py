"""Which parameters of the policy matter, by Optuna's PED-ANOVA."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from .view import StudyView

if TYPE_CHECKING:
    import optuna

_LEAST_TRIALS = 20  # complete: below, a tenth of them says nothing


def find_importances(study: optuna.Study, view: StudyView) -> dict[str, dict[str, float]]:
    """How much each parameter decides which trials are among the best tenth, by objective.

    Args:
        study: The study.
        view: What was read of it.

    Returns:
        By objective, the share of each parameter that at least half of the trials have, all
        together 1; empty with fewer than two of them or twenty complete trials, which would say
        nothing.

    References:
        S. Watanabe, A. Bansal, F. Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter
        Importance in Arbitrary Subspaces", IJCAI 2023.
    """
    from optuna.importance import get_param_importances

    complete = [t for t in view.trials if t.state == "complete" and np.isfinite(t.values).all()]
    counts = Counter(key for t in complete for key in t.params)
    params = [key for key, n in counts.items() if 2 * n >= len(complete)]
    if len(complete) < _LEAST_TRIALS or len(params) < 2:
        return {}
    names = [view.objective] if view.has_one_objective else list(view.objectives)

    def share(k: int) -> dict[str, float]:
        return get_param_importances(
            study, params=params, target=lambda trial: float(trial.values[k])
        )

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PedAnovaImportanceEvaluator computes", UserWarning)
        return {name: share(k) for k, name in enumerate(names)}
