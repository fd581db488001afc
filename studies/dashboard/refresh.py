"""Keeps what the dashboard shows up to date while a search runs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from optuna.storages import BaseStorage
from optuna.trial import TrialState

from .additions import Additions
from .shown import ShownStorage

_REST = 10.0  # times what the last making took: how long it rests at least
_PATIENCE_SECONDS = 2.0
_FINISHED = tuple(state for state in TrialState if state.is_finished())


class Refresher(threading.Thread):
    """Makes notes and figures anew when trials have finished, in the background.

    It looks at the number of finished trials only, and rests ten times as long as the making took,
    so that it takes at most a tenth of a core whatever the size of the study.

    Args:
        storage: The study's own.
        study_id: The study.
        shown: What the dashboard reads.
        make: Makes the additions.
        every: Seconds between two looks.
    """

    def __init__(
        self,
        storage: BaseStorage,
        study_id: int,
        shown: ShownStorage,
        make: Callable[[], Additions],
        every: float,
    ) -> None:
        super().__init__(name="fedhq-refresh", daemon=True)
        self._storage, self._study_id = storage, study_id
        self._shown, self._make, self._every = shown, make, every
        self._ended = threading.Event()
        self._seen = -1
        self._told = ""

    def refresh(self) -> float:
        """Makes them now if trials have finished since; returns the seconds that it took."""
        finished = self._storage.get_n_trials(self._study_id, _FINISHED)
        if finished == self._seen:
            return 0.0
        started = time.monotonic()
        self._shown.show(self._make())
        self._seen = finished
        return time.monotonic() - started

    def run(self) -> None:
        """Refreshes until `end`; a fault is told, and what was shown stays."""
        rest = self._every
        while not self._ended.wait(rest):
            took = 0.0
            try:
                took = self.refresh()
            except Exception as error:  # a storage may be gone for a while
                self._tell(f"fedhq: could not refresh the dashboard: {error!r}")
            rest = max(self._every, _REST * took)

    def _tell(self, fault: str) -> None:
        """Prints a fault, once while it lasts."""
        if fault != self._told:
            print(fault, file=sys.stderr)
        self._told = fault

    def end(self) -> None:
        """Ends it; waits a moment for what it is making."""
        self._ended.set()
        self.join(_PATIENCE_SECONDS)
