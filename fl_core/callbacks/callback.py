"""What a run tells while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..records.records import ClientRecord, RoundRecord, WallRecord

if TYPE_CHECKING:
    from ..weights import Weights  # loads torch, which who only watches does not need


@dataclass(frozen=True)
class RunInfo:
    """What is known of a run when it starts.

    Args:
        folder: Where its records lie.
        rounds: Rounds of the whole run.
        rounds_done: Rounds that were done before, by the process that is resumed.
        config: Its resolved configuration, ready for JSON.
    """

    folder: Path
    rounds: int
    rounds_done: int
    config: Mapping[str, Any]


class Callback:
    """Told what a run does; each method may be left as it is, and does nothing then.

    Callbacks see a round after it was recorded and saved. An exception in one ends the run, which
    can be resumed; `close` is called in any case. They change nothing of what is trained.

    Example:
        >>> class Print(Callback):
        ...     def on_round(self, record, clients, wall):
        ...         print(record.round, record.deployed_accuracy)
    """

    def on_start(self, run: RunInfo) -> None:
        """Before the first round that this process trains."""

    def on_round(
        self, record: RoundRecord, clients: Sequence[ClientRecord], wall: WallRecord
    ) -> None:
        """After each round."""

    def on_end(self, weights: Weights) -> None:
        """After the last round, with the server's float weights."""

    def close(self) -> None:
        """At the very end, also after an error."""
