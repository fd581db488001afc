"""`SolverSeededSampler`: given parameter sets first, then any other sampler."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState

Seeds = Sequence[Mapping[str, Any]]
"""Parameter sets, the most promising first."""

SEED_KEY = "solver_seeded:seed"
"""A seeded trial's system attribute: the place of its seed."""

# Optuna's own system attributes; both are there from the moment in which a trial is created.
_ENQUEUED = "fixed_params"  # of `Study.enqueue_trial`
_REPEATED = "failed_trial"  # of `RetryHeartbeatStaleTrialCallback`: the number of the first try


class SolverSeededSampler(BaseSampler):
    """Tries given parameter sets first, one a trial, and goes on with another sampler.

    Which seed a trial gets follows from its number, which the storage gives out once. So any number
    of processes, each with a sampler of the same seeds, give every seed to one trial, and a study
    that is resumed goes on where it was. Trials that somebody enqueued keep their parameters and
    take no seed away. Nor does a trial that Optuna's `RetryHeartbeatStaleTrialCallback` repeats: it
    gets the seed of the one that it repeats. Without that callback the seed of a trial whose worker
    dies is lost. A seed need not name every parameter: the inner sampler finds the others.

    A number that a parameter's range or grid does not hold moves to the nearest that it does. A
    categorical value that is not on offer is left to the inner sampler, with a warning.

    Args:
        seeds: Parameter sets, the most promising first, or a function that makes them. It is called
            when the first trial starts, and must return the same in every process.
        sampler: Who samples all else; `TPESampler()` where None. It learns from the seeded trials,
            too, and from their constraints.
        after: How many trials of the study, enqueued and repeated ones aside, come before the first
            seed: 0 for a new study, all of them for one that was begun without seeds.

    Raises:
        ValueError: If `after` is negative or a seed is no mapping of names to values.

    Example:
        >>> import optuna
        >>> sampler = SolverSeededSampler([{"x": 2.0}, {"x": 3.0}])
        >>> study = optuna.create_study(sampler=sampler)
        >>> study.optimize(lambda trial: trial.suggest_float("x", -9, 9) ** 2, n_trials=5)
        >>> [trial.params["x"] for trial in study.trials[:2]]
        [2.0, 3.0]
    """

    def __init__(
        self,
        seeds: Seeds | Callable[[], Seeds],
        sampler: BaseSampler | None = None,
        *,
        after: int = 0,
    ) -> None:
        if after < 0:
            raise ValueError(f"`after >= 0` must hold, but got {after}.")
        self._given = seeds if callable(seeds) else _checked(seeds)
        self._sampler = TPESampler() if sampler is None else sampler
        self._after = after
        self._running: dict[tuple[str, int], Mapping[str, Any]] = {}
        self._spent: dict[str, int] = {}  # by study: from this trial on no seed is left

    @cached_property
    def seeds(self) -> Seeds:
        """The parameter sets, in the order in which they are tried.

        Raises:
            ValueError: If the function that makes them returns one that is no mapping.
        """
        return _checked(self._given()) if callable(self._given) else self._given

    def reseed_rng(self) -> None:
        """Gives the inner sampler a new state, as every worker process does; seeds stay."""
        self._sampler.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Gives the trial its seed, if one is left for it."""
        first = trial.system_attrs.get(_REPEATED, trial.number)
        if first < self._spent.get(study.study_name, math.inf):
            self._give(study, trial, first)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The inner sampler's, without what the trial's seed says."""
        space = self._sampler.infer_relative_search_space(study, trial)
        seed = self._seed(study, trial)
        return {name: kind for name, kind in space.items() if name not in seed}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What the inner sampler says of the parameters that no seed names."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The seed's value of a parameter, or the inner sampler's.

        Raises:
            ValueError: If the seed's value of a numerical parameter is no finite number.
        """
        seed = self._seed(study, trial)
        if param_name in seed:
            wanted = seed[param_name]
            if not isinstance(param_distribution, CategoricalDistribution):
                return nearest(param_name, wanted, param_distribution)
            if wanted in param_distribution.choices:
                return param_distribution.choices[param_distribution.choices.index(wanted)]
            _warn_of(param_name, wanted, param_distribution)
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tells the inner sampler, of seeded trials too."""
        self._running.pop((study.study_name, trial.number), None)
        self._sampler.after_trial(study, trial, state, values)

    def _seed(self, study: Study, trial: FrozenTrial) -> Mapping[str, Any]:
        return self._running.get((study.study_name, trial.number), {})

    def _give(self, study: Study, trial: FrozenTrial, first: int) -> None:
        turn = None if _ENQUEUED in trial.system_attrs else self._turn(study, first)
        if turn is None or turn < 0:
            return
        if turn >= len(self.seeds):
            self._spent[study.study_name] = first
            return
        self._running[study.study_name, trial.number] = self.seeds[turn]
        study._storage.set_trial_system_attr(trial._trial_id, SEED_KEY, turn)

    def _turn(self, study: Study, number: int) -> int:
        """How many trials that take a turn came before a number.

        A trial's number, and whether it was enqueued or repeats another, are settled when it is
        created, after all of lower number. So all processes count alike.
        """
        # Not `study.get_trials`: under some pruners this is a part of the study.
        trials = study._storage.get_all_trials(study._study_id, deepcopy=False)
        mine = (t for t in trials if not {_ENQUEUED, _REPEATED} & t.system_attrs.keys())
        return sum(t.number < number for t in mine) - self._after


def nearest(name: str, wanted: Any, distribution: BaseDistribution) -> float:
    """The number of a distribution that is nearest to a wanted one.

    Args:
        name: Of the parameter, for the message.
        wanted: A finite number.
        distribution: Of floats or ints.

    Raises:
        ValueError: If what is wanted is no finite number.

    Example:
        >>> from optuna.distributions import FloatDistribution, IntDistribution
        >>> nearest("x", 7.3, FloatDistribution(0, 5)), nearest("k", 6.2, IntDistribution(1, 9))
        (5.0, 6)
    """
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if not isinstance(wanted, Real) or not math.isfinite(wanted):
        raise ValueError(f"`{name}` of a seed must be a finite number, but got {wanted!r}.")
    low, high, step = distribution.low, distribution.high, distribution.step
    inside = min(max(float(wanted), low), high)
    if step is not None:
        inside = min(low + round((inside - low) / step) * step, high)
    return int(inside) if isinstance(distribution, IntDistribution) else float(inside)


def _warn_of(name: str, wanted: Any, distribution: CategoricalDistribution) -> None:
    warnings.warn(
        f"a seed says {name} = {wanted!r}, which is none of the choices {distribution.choices}: "
        "the inner sampler chooses. Leave it out of the seed, or offer it.",
        stacklevel=3,
    )


def _checked(seeds: Seeds) -> Seeds:
    for seed in seeds:
        if not isinstance(seed, Mapping):
            raise ValueError(
                f"`seeds` must be mappings of names to values, but got {seed!r}. "
                "Write for example [{'x': 1.0}]."
            )
    return tuple(dict(seed) for seed in seeds)
