"""The columns of the heatmap: the best trials of a study, and what every client does in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

_RECORD = "fedhq"  # the user attribute in which fedhq's searches note what a trial did
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Column:
    """An allocation, and the trial that has it.

    Args:
        number: Of the trial.
        values: Its objectives.
        strategies: By client, what it does.
    """

    number: int
    values: tuple[float, ...]
    strategies: Mapping[str, str]


def best_columns(
    study: Study, trials: Sequence[FrozenTrial], clients: Sequence[str] | None, limit: int
) -> list[Column]:
    """The columns of some trials, every allocation once, best values of the first objective first.

    Args:
        study: Whose directions count.
        trials: Finished trials.
        clients: Parameters that say what a client does; where None what fedhq noted of the trial,
            or else its categorical parameters whose names begin with `client`.
        limit: Most columns; spread evenly over all where there are more objectives than one.

    Raises:
        ValueError: If no trial says what its clients do.
    """
    sign = -1 if study.directions[0] is StudyDirection.MAXIMIZE else 1
    columns: dict[tuple[tuple[str, str], ...], Column] = {}
    for trial in sorted(trials, key=lambda t: (sign * t.values[0], t.number)):
        strategies = _recorded(trial) if clients is None else {}
        strategies = strategies or _categorical(trial, clients)
        if strategies:
            column = Column(trial.number, tuple(trial.values), strategies)
            columns.setdefault(tuple(strategies.items()), column)
    if not columns:
        raise ValueError(
            f"no trial of {study.study_name!r} to plot says what its clients do: {len(trials)} "
            "are finished and feasible. Give `clients`, the names of its categorical parameters, "
            "or a study of `fedhq study search`."
        )
    found = list(columns.values())
    if len(found) <= limit:
        return found
    if len(study.directions) == 1:
        return found[:limit]
    last = max(limit - 1, 1)
    return [found[round(k * (len(found) - 1) / last)] for k in range(limit)]


def best_trials(study: Study) -> list[FrozenTrial]:
    """The feasible Pareto front, or with one objective all complete, feasible trials."""
    if len(study.directions) > 1:
        return study.best_trials
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [t for t in complete if all(value <= 0 for value in t.constraints.values())]


def _recorded(trial: FrozenTrial) -> dict[str, str]:
    """What fedhq noted of a trial: a menu of strategies, a digit (base 36) a client, and their ids.

    Ids are as in `1 4-6`; where there is none, they are `0 ... n-1`.
    """
    record: Any = trial.user_attrs.get(_RECORD)
    if not isinstance(record, Mapping) or not {"menu", "choice"} <= record.keys():
        return {}
    menu, choice = record["menu"], record["choice"]
    runs = [[int(end) for end in run.split("-")] for run in record.get("clients", "").split()]
    ids = [k for run in runs for k in range(run[0], run[-1] + 1)] or range(len(choice))
    return {str(k): menu[_DIGITS.index(digit)] for k, digit in zip(ids, choice, strict=True)}


def _categorical(trial: FrozenTrial, clients: Sequence[str] | None) -> dict[str, str]:
    names = clients
    if names is None:
        found = [name for name, kind in trial.distributions.items() if _is_client(name, kind)]
        names = sorted(found, key=_natural)
    return {name: str(trial.params[name]) for name in names if name in trial.params}


def _is_client(name: str, kind: BaseDistribution) -> bool:
    return name.startswith("client") and isinstance(kind, CategoricalDistribution)


def _natural(name: str) -> list[tuple[str, int]]:
    """A key under which `client_2` comes before `client_10`."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name)]
