"""What one worker does: asks for a trial, evaluates it, tells what came of it, and again."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from optuna import Study, TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from ..record import REASON_KEY, Lost
from ..storage.errors import StorageError, WorkerError
from ..storage.places import OUTAGE_SECONDS, is_outage, survive
from .leases import LEASE_SECONDS, Renewal, Watch, hand_back, is_twin
from .signature import Worker, sign

Objective = Callable[[Trial], float | Sequence[float]]

_DONE = (TrialState.COMPLETE, TrialState.PRUNED)
_ACTIVE = (TrialState.RUNNING, TrialState.WAITING)
_POLL_SECONDS = 0.2
_MOST_FAILURES = 5
_REASON_LETTERS = 500


@dataclass
class _Failures:
    """Counts how often in a row the same line has raised the same error."""

    place: tuple[type[Exception], str, int | None] | None = None
    count: int = 0

    def note(self, error: Exception) -> None:
        """Counts one more.

        Raises:
            WorkerError: If that were enough.
        """
        frames = traceback.extract_tb(error.__traceback__)
        last = frames[-1]
        place = (type(error), last.filename, last.lineno)
        self.count = self.count + 1 if place == self.place else 1
        self.place = place
        if self.count >= _MOST_FAILURES:
            raise WorkerError(
                f"{self.count} trials in a row failed in the same way, at line {last.lineno} of "
                f"{last.filename}: {_text_of(error)} Mend it, then the same command resumes."
            ) from error


@dataclass
class TrialLoop:
    """Evaluates trials of a study until it has enough.

    Trials are counted over all workers of the study, wherever they are: never are more completed
    or pruned than asked for, and a worker that finds the last ones taken waits until they are done,
    in case that one of their workers dies.

    Args:
        study: With the worker's own sampler.
        objective: Evaluates a trial; raises `TrialPruned` to prune it. Another error fails the
            trial, and the loop goes on.
        trials: How many the study shall have that are complete or pruned.
        lease_seconds: See `leases`.
        on_look: Called with all trials before each next one.

    Example:
        >>> import optuna
        >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
        >>> TrialLoop(study, lambda trial: trial.suggest_float("x", 0, 1), trials=3).run()
        >>> len(study.trials)
        3
    """

    study: Study
    objective: Objective
    trials: int
    lease_seconds: float = LEASE_SECONDS
    on_look: Callable[[Sequence[FrozenTrial]], None] | None = None
    _worker: Worker = field(default_factory=Worker.here, init=False)
    _failures: _Failures = field(default_factory=_Failures, init=False)

    def run(self) -> None:
        """Runs.

        Raises:
            WorkerError: If trials fail in the same way again and again.
            StorageError: If the storage is away for too long.
        """
        with Renewal(self.study._storage, self.lease_seconds) as renewal:
            self._run(renewal)

    def _run(self, renewal: Renewal) -> None:
        watch = Watch(self.study, self.lease_seconds)
        while True:
            seen = survive(self._look, watch.forget)
            if self.on_look is not None:
                self.on_look(seen)
            if survive(lambda trials=seen: watch.look(trials), watch.forget):  # type: ignore[misc]
                continue
            done = count_done(seen)
            if done >= self.trials:
                return
            if done + sum(trial.state is TrialState.RUNNING for trial in seen) >= self.trials:
                time.sleep(_POLL_SECONDS)
                continue
            trial = survive(self.study.ask)
            try:
                if self._is_due(trial):
                    self._evaluate(trial, renewal)
            except Exception as error:
                if not is_outage(error):
                    raise
                self._hand_back(trial, "the storage did not answer.")
            except BaseException:  # most of all Ctrl-C
                with suppress(StorageError):
                    self._hand_back(trial, "its worker was stopped.", patience_seconds=0.0)
                raise

    def _look(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _is_due(self, trial: Trial) -> bool:
        """Whether the trial is to be run; else it is failed.

        Whoever runs number n has seen all lower numbers: if those that are done or may yet be done
        are fewer than asked for, then this one is not too many, whatever the higher ones do.
        """
        if trial.number < self.trials and not trial.user_attrs:
            return True
        seen = self._look()
        if is_twin(seen, trial.number):
            hand_back(self.study, seen, trial.number, "another proposes the same.", Lost.TWIN)
            return False
        lower = [t for t in seen[: trial.number] if t.state in _DONE or t.state in _ACTIVE]
        if len(lower) >= self.trials:
            hand_back(self.study, seen, trial.number, "one more than asked for.", Lost.SPARE)
            return False
        return True

    def _evaluate(self, trial: Trial, renewal: Renewal) -> None:
        try:
            sign(trial, self._worker)
            with renewal.of(trial):
                values, state = self._values(trial)
            survive(lambda: self._tell(trial, values, state))
        except UpdateFinishedTrialError:
            return  # another took it over, as this process gave no sign of life: its result counts
        except Exception as error:
            if is_outage(error):
                raise
            self._fail(trial, error)
            self._failures.note(error)
        else:
            self._failures = _Failures()

    def _values(self, trial: Trial) -> tuple[float | Sequence[float] | None, TrialState]:
        try:
            return self.objective(trial), TrialState.COMPLETE
        except TrialPruned:
            return None, TrialState.PRUNED

    def _tell(
        self, trial: Trial, values: float | Sequence[float] | None, state: TrialState
    ) -> None:
        self.study.tell(trial, values, state, skip_if_finished=True)

    def _fail(self, trial: Trial, error: Exception) -> None:
        try:
            survive(lambda: trial.set_user_attr(REASON_KEY, _text_of(error)))
            survive(lambda: self._tell(trial, None, TrialState.FAIL))
        except UpdateFinishedTrialError:
            pass

    def _hand_back(
        self, trial: Trial, reason: str, patience_seconds: float = OUTAGE_SECONDS
    ) -> None:
        """Leaves a trial to whoever comes next."""

        def fail() -> None:
            hand_back(self.study, self._look(), trial.number, reason, Lost.STOPPED)

        survive(fail, patience_seconds=patience_seconds)


def count_done(trials: Sequence[FrozenTrial]) -> int:
    """How many trials are complete or pruned."""
    return sum(trial.state in _DONE for trial in trials)


def _text_of(error: Exception) -> str:
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"[:_REASON_LETTERS]
    return text if text.endswith(".") else f"{text}."
