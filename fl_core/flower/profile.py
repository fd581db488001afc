"""What a client tells of itself, once, before it is first planned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ...allocator.strategy import Strategy


@dataclass(frozen=True)
class ClientProfile:
    """What a client tells of itself; all but the name may be left out.

    Args:
        name: A name that stays the same over runs and restarts, for instance its partition: order,
            sampling and randomness go by it, never by the node's number.
        num_examples: Examples that it trains on; 0 where it does not tell: it then counts as an
            average client.
        label_counts: `(classes,)` its labels of each class; None where it withholds them. They may
            be grouped (fewer classes) or noisy.
        device_class: Devices of one class learn their times from each other.
        strategies: What it can do; whatever is asked where None.
        round_seconds: Strategies and the seconds that a round's training takes, where measured;
            the rest is learned.
        uplink_bytes_per_second: Rate at which it sends.
        downlink_bytes_per_second: Rate at which it receives.
        active_watts: Power that training takes; 0 where it is not known.
    """

    name: str
    num_examples: int = 0
    label_counts: tuple[float, ...] | None = None
    device_class: str = "device"
    strategies: tuple[Strategy, ...] | None = None
    round_seconds: tuple[tuple[Strategy, float], ...] = ()
    uplink_bytes_per_second: float = math.inf
    downlink_bytes_per_second: float = math.inf
    active_watts: float = 0.0

    def to_record(self) -> Mapping[str, int | float | str | list[str] | list[float]]:
        """The values of its `ConfigRecord`."""
        raise NotImplementedError

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> ClientProfile:
        """Reads a record; whatever it says is checked.

        Raises:
            WireError: If it is none, or of another version.
        """
        raise NotImplementedError
