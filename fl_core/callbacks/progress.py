"""Shows on standard error how far a run is."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from ..records.records import ClientRecord, RoundRecord, WallRecord
from .callback import Callback, RunInfo
from .meter import Meter


class ShowProgress(Callback):
    """A bar in a terminal, else a line now and then: accuracy, simulated time, updates used.

    Args:
        quiet: Shows nothing.

    Example:
        >>> from pathlib import Path
        >>> ShowProgress(quiet=True).on_start(RunInfo(Path("run"), 30, 0, {}))
    """

    def __init__(self, quiet: bool = False) -> None:
        self._meter = Meter(quiet)
        self._open = ExitStack()
        self._rounds = 0
        self._accuracy: float | None = None

    def on_start(self, run: RunInfo) -> None:
        """Opens the bar."""
        self._rounds = run.rounds
        self._open.enter_context(self._meter)
        self._meter.show("training", run.rounds_done, run.rounds)

    def on_round(
        self, record: RoundRecord, clients: Sequence[ClientRecord], wall: WallRecord
    ) -> None:
        """Moves it on; between two evaluations the last accuracy stays."""
        if record.deployed_accuracy is not None:
            self._accuracy = record.deployed_accuracy
        said = [] if self._accuracy is None else [f"deployed {self._accuracy:.3f}"]
        said.append(f"{record.simulated_seconds:.4g} simulated s")
        said.append(f"{record.used}/{record.selected} used")
        self._meter.show(", ".join(said), record.round, self._rounds)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self._open.close()
