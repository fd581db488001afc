"""When the clients of a round answer, if they do, and when the round closes: a virtual clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..seeds import Purpose, generator
from ..settings import ParticipationSettings


@dataclass(frozen=True)
class Fate:
    """What becomes of a client that takes part.

    Args:
        seconds: From the start of the round until its update arrives, or it is lost.
        arrives: Whether it arrives.
    """

    seconds: float
    arrives: bool


@dataclass(frozen=True)
class Timeline:
    """How a round goes.

    Args:
        seconds: How long it lasts.
        fates: Of every client that takes part, by number.
    """

    seconds: float
    fates: dict[int, Fate]

    def is_on_time(self, client: int) -> bool:
        """Whether its update arrives before the round closes."""
        fate = self.fates[client]
        return fate.arrives and fate.seconds <= self.seconds

    def is_late(self, client: int) -> bool:
        """Whether its update arrives after the round has closed."""
        fate = self.fates[client]
        return fate.arrives and fate.seconds > self.seconds


def draw_fate(
    settings: ParticipationSettings,
    seed: int,
    round_number: int,
    client: int,
    planned_seconds: float,
    online_seconds: float,
) -> Fate:
    """What becomes of a client: a matter of seed, round and client alone.

    Args:
        settings: Slowdowns, jitter and dropout.
        seed: Root of the federation's randomness.
        round_number: The round.
        client: The client.
        planned_seconds: What its strategy takes on its device.
        online_seconds: How long it stays online.

    Example:
        >>> draw_fate(ParticipationSettings(), 0, 1, 5, 20.0, online_seconds=9.0)
        Fate(seconds=9.0, arrives=False)
    """
    slower = math.prod(s.at(round_number, client) for s in settings.slowdowns)
    seconds, arrives = planned_seconds * slower, True
    if settings.jitter or settings.dropout:
        rng = generator(seed, Purpose.FATE, round_number, client)
        factor, lost, share = math.exp(settings.jitter * rng.standard_normal()), *rng.random(2)
        seconds, arrives = seconds * factor, bool(lost >= settings.dropout)
        if not arrives:
            seconds *= float(share)
    if seconds > online_seconds:
        return Fate(online_seconds, False)
    return Fate(seconds, arrives)


def close_round(fates: dict[int, Fate], wanted: int, deadline_seconds: float | None) -> Timeline:
    """When a round closes: with the last update wanted, when no more can come, or at its deadline.

    The server notices a lost connection when it is lost.

    Args:
        fates: Of every client that takes part.
        wanted: Updates after which it closes.
        deadline_seconds: When it closes at the latest.

    Example:
        >>> fates = {0: Fate(1.0, True), 1: Fate(2.0, False), 2: Fate(9.0, True)}
        >>> close_round(fates, 1, None).seconds, close_round(fates, 3, 5.0).seconds
        (1.0, 5.0)
    """
    arrivals = sorted(fate.seconds for fate in fates.values() if fate.arrives)
    ends = [fate.seconds for fate in fates.values()]
    seconds = arrivals[wanted - 1] if 0 < wanted <= len(arrivals) else max(ends, default=0.0)
    if deadline_seconds is not None:
        seconds = min(seconds, deadline_seconds)
    return Timeline(seconds, fates)


def bottleneck(timeline: Timeline) -> int | None:
    """The client with which the round closed; None where it was the deadline, or nobody took part.

    Example:
        >>> bottleneck(close_round({3: Fate(1.0, True), 5: Fate(2.0, True)}, 2, None))
        5
    """
    last = [c for c, fate in timeline.fates.items() if fate.seconds == timeline.seconds]
    return min(last, default=None)
