"""A search in the model before one that trains: what it finds best is trained first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from ....allocator import FedHQError
from ..config.checks import known_to_model
from ..config.settings import LOSS, ROUND, TARGET, Measure, SearchConfig
from ..config.space import Params
from ..record import SOURCE_KEY, trial_record
from .objective import Objective
from .sampling import make_pruner, make_sampler

_MOST = 8  # points of the front


def screened(config: SearchConfig, tried: Sequence[Params]) -> list[dict[str, Any]]:
    """The feasible front of a search in the model, over the keys that the model knows.

    Args:
        config: Of the search that trains; nothing is screened where it asks for no trials.
        tried: Parameters that come first, and are not returned.

    Returns:
        Parameters of at most eight trials, the fastest rounds first.
    """
    if config.is_modelled or not config.search.screen_trials:
        return []
    front = _front(modelled_config(config), tried, config.search.screen_trials)
    return [dict(trial.params) for trial in front]


def modelled_config(config: SearchConfig) -> SearchConfig:
    """The search in the model that comes before one that trains.

    Of its limits those stay whose measures mean the same in both.
    """
    search = config.search
    told: list[Measure] = [ROUND if o == TARGET else o for o in search.objectives]
    objectives = tuple(dict.fromkeys(told))
    limits = {name: v for name, v in search.limits.items() if name not in (LOSS, TARGET)}
    return replace(
        config,
        search=replace(
            search, evaluate="model", screen_trials=0, objectives=objectives, limits=limits
        ),
        space={key: values for key, values in config.space.items() if known_to_model(key)},
    )


def _front(config: SearchConfig, tried: Sequence[Params], trials: int) -> list[FrozenTrial]:
    objective = Objective(config, Path())
    with _quiet():
        study = optuna.create_study(
            directions=["minimize"] * len(config.objectives),
            sampler=make_sampler(config, objective.space),
            pruner=make_pruner(config),
        )
    for params in tried:
        known = {key: value for key, value in params.items() if key in objective.space}
        study.enqueue_trial(known, {SOURCE_KEY: "frontier"})
    for _ in range(trials):
        _tried(study, objective)
    try:
        front = study.best_trials
    except ValueError:  # nothing is feasible
        return []
    # The first of those that come to the same; what was tried before is proposed already.
    by_point = {_point(trial): trial for trial in reversed(front)}
    new = [t for _, t in sorted(by_point.items()) if SOURCE_KEY not in t.user_attrs]
    if len(new) <= _MOST:
        return new
    return [new[round(k)] for k in np.linspace(0, len(new) - 1, _MOST)]


def _tried(study: optuna.Study, objective: Objective) -> None:
    trial = study.ask()
    try:
        values = objective(trial)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except (ValueError, FedHQError):
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, values)


def _point(trial: FrozenTrial) -> tuple[float, float]:
    record = trial_record(trial.user_attrs)
    assert record is not None, "a trial of a front was evaluated"
    return record.measures[ROUND], record.measures[LOSS]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's word that it made a study, which is of no interest."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
