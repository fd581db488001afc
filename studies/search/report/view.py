"""A study as its reports need it: every trial read once, and what is feasible and best among them.

The points of a study are trades of what a policy takes against accuracy: two of its objectives, or,
where it has only one, that and the accuracy loss that its trials measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ....allocator.arrays import BoolArray, FloatArray, IntArray
from ....allocator.frontier import PickRule
from ..record import (
    LOST_KEY,
    REASON_KEY,
    RETRY_KEY,
    SOURCE_KEY,
    SOURCES,
    Lost,
    StudyRecord,
    TrialRecord,
    is_failure,
    study_record,
    trial_record,
)

if TYPE_CHECKING:
    import optuna

ROUND_SECONDS, ACCURACY_LOSS = "round_seconds", "accuracy_loss"
TARGET_SECONDS = "seconds_to_target"


class State(StrEnum):
    """Where a trial stands, as Optuna names it."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAIL = "fail"
    RUNNING = "running"
    WAITING = "waiting"


@dataclass(frozen=True)
class TrialView:
    """A trial.

    Args:
        number: Its own in the study.
        state: Where it stands.
        values: Of the objectives; empty where it has none.
        constraints: By name; at most 0 where the limit is kept.
        params: What was tried, by key of the configuration.
        source: Who proposed it, one of `SOURCES`.
        record: What came of it; None where nothing did.
        seconds: From its start to its end, by its machine's clock; None before its end.
        reason: Why it failed; empty where it did not.
        retry_of: Number of the trial that it repeats.
        lost: How its worker left it without a result; None where it did not.
    """

    number: int
    state: State
    values: tuple[float, ...]
    constraints: Mapping[str, float]
    params: Mapping[str, Any]
    source: str
    record: TrialRecord | None
    seconds: float | None
    reason: str
    retry_of: int | None
    lost: Lost | None = None

    @classmethod
    def of(cls, trial: optuna.trial.FrozenTrial) -> TrialView:
        """Reads a trial of Optuna's."""
        attributes = trial.user_attrs
        duration = trial.duration
        return cls(
            number=trial.number,
            state=State(trial.state.name.lower()),
            values=tuple(trial.values or ()),
            constraints=trial.constraints,
            params=trial.params,
            source=str(attributes.get(SOURCE_KEY, SOURCES[0])),
            record=trial_record(attributes),
            seconds=None if duration is None else duration.total_seconds(),
            reason=str(attributes.get(REASON_KEY, "")),
            retry_of=attributes.get(RETRY_KEY),
            lost=Lost(attributes[LOST_KEY]) if LOST_KEY in attributes else None,
        )

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of the limits that it does not keep."""
        return tuple(name for name, value in self.constraints.items() if value > 0)

    @property
    def is_feasible(self) -> bool:
        """Whether it is complete and keeps every limit."""
        return self.state is State.COMPLETE and not self.broken


@dataclass(frozen=True, eq=False)
class StudyView:
    """A study that was read.

    Args:
        name: Its name in its storage.
        record: What it is.
        trials: In the order of their numbers.
    """

    name: str
    record: StudyRecord
    trials: tuple[TrialView, ...]

    @classmethod
    def of(cls, study: optuna.Study) -> StudyView:
        """Reads a study, all trials at once.

        Raises:
            ValueError: If `fedhq study search` did not make the study.
        """
        record = study_record(study.user_attrs)
        if record is None:
            raise ValueError(
                f"the study {study.study_name!r} must be one of `fedhq study search`, but it has "
                "no record of fedhq's in its attributes. Name such a study, or open this one with "
                "Optuna's own tools."
            )
        trials = tuple(map(TrialView.of, study.get_trials(deepcopy=False)))
        return cls(study.study_name, record, trials)

    @property
    def evaluated(self) -> str:
        """`model` or `training`: what its numbers come from."""
        return str(self._search.get("evaluate", "training"))

    @property
    def tradeoff(self) -> float | None:
        """Seconds per unit of loss where the study weighs both into one objective, else None."""
        value = self._search.get("tradeoff")
        return None if value is None else float(value)

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the measures that are minimised, also where a trade-off weighs them into one."""
        return tuple(self._search.get("objectives", self.record.objectives))

    @property
    def axes(self) -> tuple[str, str]:
        """Names of the two measures that are drawn: what a policy takes, then what it loses.

        A single objective is set against the accuracy loss, that against the round time. Where
        none of several is the loss, they are the first two.
        """
        names = self.objectives
        if len(names) > 1 and ACCURACY_LOSS not in names:
            return names[0], names[1]
        return next((n for n in names if n != ACCURACY_LOSS), ROUND_SECONDS), ACCURACY_LOSS

    @property
    def others(self) -> tuple[str, ...]:
        """Names of the objectives that are no axes, where there are more than two."""
        return tuple(name for name in self.objectives if name not in self.axes)

    @property
    def traded(self) -> tuple[str, ...]:
        """Names of all measures that the front is about: both axes, then the others."""
        return (*self.axes, *self.others)

    @property
    def has_one_objective(self) -> bool:
        """Whether it has a best trial instead of a front."""
        return self.tradeoff is not None or len(self.objectives) == 1

    @property
    def objective(self) -> str:
        """The single objective in words; several, joined."""
        if self.tradeoff is not None:
            return f"{self.axes[0]} + {self.tradeoff:g} * {self.axes[1]}"
        return " and ".join(self.objectives)

    @property
    def num_seeds(self) -> int:
        """Of each trial that is not given up."""
        return len(self._search.get("seeds", (0,)))

    @cached_property
    def values(self) -> FloatArray:
        """`(trials,)` of the single objective, or the first; NaN where there is none."""
        return np.array([t.values[0] if t.values else np.nan for t in self.trials], dtype=float)

    @cached_property
    def measured(self) -> FloatArray:
        """`(trials, traded)` what trials measured; NaN where one has not."""
        measures = [t.record.measures if t.record is not None else {} for t in self.trials]
        rows = [[own.get(name, np.nan) for name in self.traded] for own in measures]
        return np.array(rows, dtype=float).reshape(-1, len(self.traded))

    @property
    def points(self) -> FloatArray:
        """`(trials, 2)` of `axes`; NaN where a trial has not measured both."""
        return self.measured[:, :2]

    @cached_property
    def feasible(self) -> BoolArray:
        """`(trials,)` whether complete, measured, and within every limit."""
        kept = np.array([t.is_feasible for t in self.trials], dtype=bool)
        return kept & np.isfinite(self.measured).all(axis=1)

    @cached_property
    def front(self) -> IntArray:
        """Places in `trials` of the feasible ones that none beats in all of `traded`, by the first.

        Of trials that measured the same only the first is there.
        """
        places = np.flatnonzero(self.feasible)
        return places[non_dominated(self.measured[places])]

    @cached_property
    def drawn_front(self) -> IntArray:
        """Those of the front that none beats in both axes: all, where nothing else is traded."""
        return self.front[non_dominated(self.points[self.front])]

    def best(self, rule: PickRule) -> TrialView | None:
        """The trial of the drawn front that a rule picks; None where no trial is feasible.

        Raises:
            ValueError: If no point of the front satisfies the rule.
        """
        if not len(self.front):
            return None
        time, loss = self.points[self.drawn_front].T
        return self.trials[int(self.drawn_front[rule(time, loss)])]

    def best_in(self, measure: str) -> TrialView | None:
        """The front's trial with the least of a traded measure; None where none is feasible."""
        if not len(self.front):
            return None
        values = self.measured[self.front, self.traded.index(measure)]
        return self.trials[int(self.front[np.argmin(values)])]

    def least(self) -> TrialView | None:
        """The feasible trial of the least single objective, the first of equals.

        None where there is no such trial, or the study has several objectives.
        """
        if not self.has_one_objective or not self.feasible.any():
            return None
        return self.trials[int(np.argmin(np.where(self.feasible, self.values, np.inf)))]

    def count(self, state: State) -> int:
        """How many trials are in a state."""
        return sum(t.state is state for t in self.trials)

    @cached_property
    def failures(self) -> tuple[TrialView, ...]:
        """The trials that failed, without those that were set aside."""
        failed = (t for t in self.trials if t.state is State.FAIL)
        return tuple(t for t in failed if is_failure(t.lost, t.number in self._repeated))

    @cached_property
    def set_aside(self) -> tuple[TrialView, ...]:
        """The trials that ended without a result and are no failures: see `is_failure`."""
        failed = (t for t in self.trials if t.state is State.FAIL)
        return tuple(t for t in failed if not is_failure(t.lost, t.number in self._repeated))

    @cached_property
    def _repeated(self) -> frozenset[int | None]:
        return frozenset(t.retry_of for t in self.trials)

    @property
    def _search(self) -> Mapping[str, Any]:
        return dict(self.record.config.get("search", {}))


def non_dominated(points: FloatArray) -> IntArray:
    """Indices of the points that no other is at least as good as in all columns, by the first.

    Of equal points the first is kept.

    Args:
        points: `(points, 2 or more)`, less is better.

    Example:
        >>> non_dominated(np.array([[2.0, 1.0], [1.0, 3.0], [2.0, 2.0], [1.0, 3.0]]))
        array([1, 0])
    """
    order = np.lexsort(points.T[::-1])  # none dominates one before it
    if points.shape[1] == 2:
        falling = points[order, 1]
        before = np.minimum.accumulate(np.concatenate([[np.inf], falling[:-1]]))
        kept: IntArray = order[falling < before]
        return kept
    front = np.empty_like(points)
    places: list[int] = []
    for k in order.tolist():
        if not (front[: len(places)] <= points[k]).all(axis=1).any():
            front[len(places)] = points[k]
            places.append(k)
    return np.array(places, dtype=np.int64)
