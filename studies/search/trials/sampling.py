"""Optuna's samplers and pruner, set up for a search.

Uniform arms are trials without a policy's parameters. Optuna looks for what all trials have in
common and would find nothing; these samplers are told the space instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from ..config.settings import SearchConfig

_GIVEN_UP = 0.15
"""Chance below which a trial is taken to be worse than the best: three seeds, all worse, do."""

_Space = Mapping[str, BaseDistribution]


class _Tpe(TPESampler):
    """TPE whose parameters are sampled together where there is one objective, as is its default."""

    def __init__(self, space: _Space, seed: int) -> None:
        super().__init__(seed=seed)
        self._known = _open(space)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {} if len(study.directions) > 1 else dict(self._known)


class _NsgaII(NSGAIISampler):
    """NSGA-II whose parents have all parameters."""

    def __init__(self, space: _Space, seed: int) -> None:
        super().__init__(seed=seed)
        self._known = _open(space)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._known)

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        everybody = super().get_population(study, generation)
        return [trial for trial in everybody if self._known.keys() <= trial.params.keys()]


class _Gp(GPSampler):
    """A Gaussian process that is silent where its trials are all alike, as when all diverged.

    Optuna divides by a sum of 0 then, and goes on with the best point alone.
    """

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        with np.errstate(invalid="ignore"):
            return super().sample_relative(study, trial, search_space)


def _open(space: _Space) -> dict[str, BaseDistribution]:
    """What there is to choose, by name."""
    return {name: kind for name, kind in sorted(space.items()) if not kind.single()}


def takes_arms(config: SearchConfig) -> bool:
    """Whether the sampler bears trials without a policy's parameters; `gp` does not."""
    return config.search.sampler != "gp"


def make_sampler(config: SearchConfig, space: _Space, worker: int = 0) -> BaseSampler:
    """The sampler of a search.

    Args:
        config: Of the search.
        space: As Optuna has it; see `space.distributions`.
        worker: Each has a sampler with a seed of its own: the search's, plus this.
    """
    seed = config.search.seed + worker
    match config.search.sampler:
        case "tpe":
            return _Tpe(space, seed)
        case "nsga2":
            return _NsgaII(space, seed)
        case "gp":
            return _Gp(seed=seed, warn_independent_sampling=False)
        case "random":
            return RandomSampler(seed)


def make_pruner(config: SearchConfig) -> optuna.pruners.BasePruner:
    """Of a single objective, Wilcoxon's signed-rank test over paired seeds; else none.

    From the third seed on it gives a trial up that is worse than the best on (nearly) all of them.
    """
    if config.search.tradeoff is None:
        return optuna.pruners.NopPruner()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.pruners.WilcoxonPruner(p_threshold=_GIVEN_UP)
