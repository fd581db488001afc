"""Updates that are still on their way when their round closes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...allocator.strategy import Strategy


@dataclass(frozen=True)
class Pending:
    """An update that is still on its way when its round closes.

    Args:
        client: Who sends it.
        sent_round: The round whose model it started from.
        strategy: What the client did, as text.
        arrives_at: Simulated time of its arrival.
        seconds: From receiving that model until its arrival.
        payload: Its bytes.

    Raises:
        ValueError: If a number is negative or not finite, or the strategy is none.

    Example:
        >>> Pending(3, 7, "qat-w2a2", 90.0, 20.0, b"...").arrives_at
        90.0
    """

    client: int
    sent_round: int
    strategy: str
    arrives_at: float
    seconds: float
    payload: bytes

    def __post_init__(self) -> None:
        Strategy.parse(self.strategy)
        for name in ("client", "sent_round", "arrives_at", "seconds"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"`0 <= {name} < inf` must hold, but got {value}.")
