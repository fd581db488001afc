"""Optuna's samplers by name, each with a seed."""

from __future__ import annotations

import warnings
from typing import Literal, get_args

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

SamplerName = Literal["tpe", "nsga2", "gp", "random"]

_GENERATIONS = 5
_POPULATION = (4, 50)


def make_sampler(name: SamplerName, seed: int, trials: int) -> BaseSampler:
    """A sampler.

    Args:
        name: `tpe` (all parameters together, and it keeps away from what runs just now), `nsga2`,
            `gp` (Gaussian processes; needs torch) or `random`.
        seed: What it draws with. Workers need different ones, or they draw the same.
        trials: How many there will be: the populations of `nsga2` are a fifth of them, 4 to 50.

    Example:
        >>> make_sampler("random", seed=0, trials=40)
        RandomSampler
    """
    if name == "tpe":
        return TPESampler(seed=seed)
    if name == "gp":
        return GPSampler(seed=seed)
    if name == "nsga2":
        least, most = _POPULATION
        return NSGAIISampler(
            population_size=min(max(trials // _GENERATIONS, least), most), seed=seed
        )
    if name == "random":
        return RandomSampler(seed=seed)
    raise ValueError(f"sampler {name!r}: must be one of {', '.join(get_args(SamplerName))}.")


def make_pruner(prunes: bool) -> BasePruner:
    """What ends trials that are worse than the best by a test over paired seeds; or nothing."""
    if not prunes:
        return NopPruner()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return WilcoxonPruner()
