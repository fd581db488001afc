"""Who decides what clients do, as the trainer sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..allocator.goal import Outcome, ServerAccuracy
from ..allocator.solution import Allocation


class Planner(Protocol):
    """Who decides; `HybridAllocator` is one."""

    def plan(self, round_number: int, cohort: Sequence[int] | None = None) -> Allocation:
        """Decides what every client of the cohort does."""
        ...

    def observe(self, outcomes: Sequence[Outcome], accuracy: ServerAccuracy | None = None) -> None:
        """Takes in what they did, and how good the server's weights are now, where evaluated."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """What a checkpoint must keep, ready for JSON."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a saved state."""
        ...
