"""One client's part of a round, from the order to what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ...allocator.goal import Outcome
from ...allocator.strategy import Strategy
from ..records.records import ClientRecord
from .timeline import Fate


@dataclass(eq=False)
class Visit:
    """What is known of a client's part of a round so far.

    Args:
        client: The client.
        strategy: What it was told to do.
        num_examples: Examples that it holds.
        planned_seconds: What that takes on its device.
        joules: What that takes of its battery; NaN where that is not known.
        fate: When it answers, or is lost; None if it skips.
    """

    client: int
    strategy: Strategy
    num_examples: int
    planned_seconds: float
    joules: float
    fate: Fate | None
    status: str = "skipped"
    reason: str | None = None
    diverged: bool = False
    train_loss: float | None = None
    wall_seconds: float = 0.0
    share: float = 0.0
    uplink_bytes: int = 0
    payloads: list[bytes] = field(default_factory=list)

    def end(self, status: str, reason: str | None = None) -> None:
        """Settles what became of it."""
        self.status, self.reason = status, reason

    def record(self, round_number: int, downlink_bytes: int) -> ClientRecord:
        """The line of `clients.jsonl`."""
        takes_part = self.fate is not None
        return ClientRecord(
            round=round_number,
            client=self.client,
            strategy=str(self.strategy),
            status=self.status,
            reason=self.reason,
            num_examples=self.num_examples,
            seconds=self.fate.seconds if self.fate else 0.0,
            uplink_bytes=self.uplink_bytes,
            downlink_bytes=downlink_bytes if takes_part else 0,
            energy_joules=self._spent_joules(),
            train_loss=self.train_loss,
            share=self.share,
            staleness=0,
        )

    def outcome(self, closes: float) -> Outcome:
        """What the planner learns: of one that failed, how long it was waited for."""
        if self.fate is None:
            return Outcome(self.client, self.strategy, 0.0, False)
        succeeded = self.status == "ok"
        seconds = self.fate.seconds if succeeded else min(self.fate.seconds, closes)
        return Outcome(self.client, self.strategy, seconds, succeeded)

    def _spent_joules(self) -> float:
        """In proportion to the time that it really took, or that passed until it was lost."""
        if self.fate is None or not self.planned_seconds or math.isnan(self.joules):
            return 0.0
        return self.joules * (self.fate.seconds / self.planned_seconds)
