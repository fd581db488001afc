"""When a run in which training fails everywhere has to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...allocator.errors import DivergedError, FedHQError
from .round import RoundResult

_BARREN_ROUNDS = 3
_FAILED_CLIENTS = 30


class Hope:
    """Ends a run in which nobody can train, and no other.

    A round is barren if training failed and nobody sent an update or had one used. A round in
    which nobody came to train tells nothing; any other gives new hope. There is none left after
    three barren rounds in which 30 clients failed, or half of those with examples that are not
    told to skip. So a few broken clients, drawn again and again into small cohorts, end no run;
    nor do hostile ones: they train, and are refused.

    Args:
        num_clients: Clients with examples.
    """

    def __init__(self, num_clients: int) -> None:
        self._num_clients = num_clients
        self._barren_rounds = 0
        self._failed: set[int] = set()

    def check(self, number: int, result: RoundResult, rate: float) -> None:
        """Learns of a round.

        Args:
            number: Of the round.
            result: What it gave.
            rate: Its learning rate, for the message.

        Raises:
            FedHQError: If the run is hopeless; a `DivergedError` if what most of those who failed
                came to in this round was not finite.
        """
        failed = [c for c in result.clients if c.status == "failed"]
        if result.usable or any(c.uplink_bytes for c in result.clients):
            self._barren_rounds, self._failed = 0, set()
        elif failed:
            self._barren_rounds += 1
            self._failed |= {c.client for c in failed}
            skipped = sum(c.status == "skipped" for c in result.clients)
            enough = min(_FAILED_CLIENTS, (self._num_clients - skipped) / 2)
            if self._barren_rounds >= _BARREN_ROUNDS and len(self._failed) >= enough:
                kind = DivergedError if 2 * result.diverged > len(failed) else FedHQError
                raise kind(
                    f"no client gave a usable update in {self._barren_rounds} rounds, the last of "
                    f"them round {number}; the first reason in it: {failed[0].reason} Lower "
                    f"`learning_rate` ({rate:.4g} in this round) if training diverged."
                )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it: JSON values."""
        return {"barren_rounds": self._barren_rounds, "failed_clients": sorted(self._failed)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state_dict` gave."""
        self._barren_rounds = state["barren_rounds"]
        self._failed = set(state["failed_clients"])
