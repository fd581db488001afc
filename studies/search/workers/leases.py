"""Who works at which trial, and what becomes of the trials of the dead.

Optuna's heartbeat needs a database and `optimize`; this works alike over journals, databases and
proxies, and with ask and tell. A worker signs its trial, and renews the signature from time to time
while the trial takes long. Whoever looks at the study takes over a trial whose worker is a dead
process of the same machine, or that was not renewed for the length of a lease by the looker's own
clock: no two clocks are ever compared.

What holds, whoever dies and whenever:

1. A trial ends once. Storages refuse to change a finished trial, so of those who take one over one
   wins, and a slow worker that wakes up later drops its result.
2. A lost trial is run again with the same parameters, at most `MOST_RETRIES` times; then it stays
   failed, with the reason. It is enqueued by whoever failed it, or, if that one died in between, by
   whoever looks next.
3. No proposal is run twice. Two may enqueue the same retry; of such twins only the one with the
   lowest number is run, and trials are numbered in the order in which storages make them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from optuna import Study
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from ..record import LOST_KEY, REASON_KEY, RETRY_KEY, SOURCE_KEY, Lost
from ..storage.places import is_outage
from .signature import Worker

RENEWED_KEY = "renewed"
"""A trial's user attribute: how often its worker has renewed its lease."""
PROPOSAL_KEY = "proposal"
"""A trial's user attribute: which of the proposals that are tried first it is, from 0."""
MOST_RETRIES = 3
LEASE_SECONDS = 60.0

_SAMPLER = "sampler"
_RENEWALS = 3  # in the length of a lease


class Renewal:
    """A context in which a thread renews the lease of the trial that its worker is at.

    It writes at most once in a third of a lease, so of short trials hardly ever: a thread of its
    own for each of them would take longer than all else that a trial costs.

    Args:
        storage: Of the trials.
        lease_seconds: How long others wait for a sign of life.
    """

    def __init__(self, storage: BaseStorage, lease_seconds: float) -> None:
        self._storage = storage
        self._pause = lease_seconds / _RENEWALS
        self._trial: Trial | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Renewal:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    @contextmanager
    def of(self, trial: Trial) -> Iterator[None]:
        """A context in which the worker is at a trial."""
        self._trial = trial
        try:
            yield
        finally:
            self._trial = None

    def _renew(self) -> None:
        count = 0
        while not self._ended.wait(self._pause):
            trial = self._trial
            if trial is None:
                continue
            count += 1
            try:
                self._storage.set_trial_user_attr(trial._trial_id, RENEWED_KEY, count)
            except UpdateFinishedTrialError:
                continue  # it has ended just now, or was taken over
            except Exception as error:
                if not is_outage(error):
                    raise
        self._storage.remove_session()  # this thread's


class Watch:
    """Looks at the running trials of a study, and takes over those that are lost.

    Args:
        study: What is looked at.
        lease_seconds: How long a trial may go without a sign of life.
        clock: Seconds; for tests.
    """

    def __init__(
        self,
        study: Study,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study = study
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._signs: dict[int, tuple[object, float]] = {}

    def look(self, trials: Sequence[FrozenTrial]) -> bool:
        """Takes over what is lost, and enqueues again what was failed and not enqueued.

        Args:
            trials: All of the study, by number, as they are now.

        Returns:
            Whether something was done, so that the trials are others now.
        """
        running = [trial for trial in trials if trial.state is TrialState.RUNNING]
        signs = {trial.number: self._sign_of(trial) for trial in running}
        self._signs = signs
        taken = [
            hand_back(self._study, trials, trial.number, reason, Lost.DIED)
            for trial in running
            if (reason := self._lost(trial)) is not None
        ]
        return repair(self._study, trials) or any(taken)

    def forget(self) -> None:
        """Gives everybody a new lease: the storage was away, and nobody could renew."""
        self._signs = {}

    def _sign_of(self, trial: FrozenTrial) -> tuple[object, float]:
        """The trial's last sign of life, and when it was first seen."""
        sign = (Worker.of(trial.user_attrs), trial.user_attrs.get(RENEWED_KEY))
        seen = self._signs.get(trial.number)
        return seen if seen is not None and seen[0] == sign else (sign, self._clock())

    def _lost(self, trial: FrozenTrial) -> str | None:
        worker = Worker.of(trial.user_attrs)
        name = "its worker" if worker is None else f"its worker, process {worker.pid},"
        if worker is not None and worker.is_known_dead:
            return f"{name} died."
        silent = self._clock() - self._signs[trial.number][1]
        if silent > self._lease_seconds:
            return f"{name} gave no sign of life for {silent:.0f} s."
        return None


def hand_back(
    study: Study, trials: Sequence[FrozenTrial], number: int, reason: str, lost: Lost
) -> bool:
    """Fails a trial that will not be finished, and enqueues it again unless it is a twin.

    Args:
        study: Its study.
        trials: All of the study, by number.
        number: Of the trial.
        reason: For people, a sentence.
        lost: How its worker left it.

    Returns:
        Whether it was still to be had; False if it has ended or another took it over.
    """
    storage, trial_id = study._storage, trials[number]._trial_id
    deaths = _deaths(trials, number) + (lost is Lost.DIED)
    if deaths > MOST_RETRIES:
        reason += f" So it went {deaths} times, and it is not tried again."
    try:
        storage.set_trial_user_attr(trial_id, REASON_KEY, reason)
        storage.set_trial_user_attr(trial_id, LOST_KEY, lost.value)
        storage.set_trial_state_values(trial_id, TrialState.FAIL)
    except UpdateFinishedTrialError:
        return False
    repair(study, study.get_trials(deepcopy=False))
    return True


def repair(study: Study, trials: Sequence[FrozenTrial]) -> bool:
    """Enqueues again the lost trials that were failed and are not enqueued.

    Args:
        study: Its study.
        trials: All of the study, by number.

    Returns:
        Whether there were any.
    """
    lost = [t for t in trials if t.state is TrialState.FAIL and _is_wanted(t.user_attrs)]
    if not lost:
        return False
    retried = {trial.user_attrs.get(RETRY_KEY) for trial in trials}
    orphans = [
        trial
        for trial in lost
        if trial.number not in retried
        and _params(trial)
        and _deaths(trials, trial.number) <= MOST_RETRIES
    ]
    for trial in orphans:
        source = trial.user_attrs.get(SOURCE_KEY, _SAMPLER)
        study.enqueue_trial(_params(trial), {SOURCE_KEY: source, RETRY_KEY: trial.number})
    return bool(orphans)


def _is_wanted(attributes: Mapping[str, Any]) -> bool:
    """Whether a failed trial is to be run again."""
    return LOST_KEY in attributes and attributes[LOST_KEY] != Lost.TWIN


def is_twin(trials: Sequence[FrozenTrial], number: int) -> bool:
    """Whether a trial proposes what another with a lower number proposes.

    Args:
        trials: All of the study, by number, at least up to this one.
        number: Of the trial.
    """
    proposal = _proposal(trials[number].user_attrs)
    return proposal != (None, None) and any(
        _proposal(other.user_attrs) == proposal for other in trials[:number]
    )


def _proposal(attributes: Mapping[str, Any]) -> tuple[object, object]:
    return attributes.get(RETRY_KEY), attributes.get(PROPOSAL_KEY)


def _params(trial: FrozenTrial) -> dict[str, Any]:
    """What it was to try, as far as that was known."""
    fixed: dict[str, Any] = trial.system_attrs.get("fixed_params", {})
    return {**fixed, **trial.params}


def _deaths(trials: Sequence[FrozenTrial], number: int | None) -> int:
    """How often workers died at a trial and at those that it repeats."""
    count = 0
    while number is not None:
        attributes = trials[number].user_attrs
        count += attributes.get(LOST_KEY) == Lost.DIED
        number = attributes.get(RETRY_KEY)
    return count
