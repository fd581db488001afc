"""How far a study is, for who waits for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial, TrialState

from ..record import LOST_KEY, RETRY_KEY, is_failure
from .worker import count_done

_PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Args:
        done: Trials that are complete or pruned.
        total: How many there shall be.
        running: Trials that somebody works at.
        failed: Trials that failed, as `is_failure` has it.
        least: Of every objective the least value of a feasible trial; empty before the first.
    """

    done: int
    total: int
    running: int
    failed: int
    least: tuple[float, ...]

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], total: int) -> Progress:
        """That of a study's trials."""
        values = [
            trial.values
            for trial in trials
            if trial.state is TrialState.COMPLETE
            and all(excess <= 0 for excess in trial.constraints.values())
        ]
        repeated = {trial.user_attrs.get(RETRY_KEY) for trial in trials}
        failed = [trial for trial in trials if trial.state is TrialState.FAIL]
        return cls(
            done=count_done(trials),
            total=total,
            running=sum(trial.state is TrialState.RUNNING for trial in trials),
            failed=sum(
                is_failure(t.user_attrs.get(LOST_KEY), t.number in repeated) for t in failed
            ),
            least=tuple(min(column) for column in zip(*values, strict=True)),
        )


OnProgress = Callable[[Progress], None]


@dataclass
class Teller:
    """Tells the progress now and then, and at the end: it takes a look at every trial."""

    total: int
    on_progress: OnProgress
    _last: float = field(default=-math.inf, init=False)

    def __call__(self, trials: Sequence[FrozenTrial]) -> None:
        """Tells, if it is time."""
        now = time.monotonic()
        if now - self._last >= _PAUSE_SECONDS or count_done(trials) >= self.total:
            self._last = now
            self.on_progress(Progress.of(trials, self.total))
