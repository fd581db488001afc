"""Clients that come and go: random sessions with a given share of the time online."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ..settings import AvailabilitySettings
from .windows import Windows


def draw_windows(
    settings: AvailabilitySettings, num_clients: int, rng: np.random.Generator
) -> tuple[Windows, ...]:
    """Draws when every client is online: sessions and pauses in turn, repeated every period.

    Their lengths are exponential, scaled so that each client is online for exactly the share that
    is asked for; where in its period a client begins is random.

    Args:
        settings: Share of time online, mean session, period.
        num_clients: How many clients.
        rng: Source of the lengths and beginnings.

    Returns:
        `(clients,)` windows.

    Example:
        >>> settings = AvailabilitySettings(online_share=0.25, session_seconds=600.0)
        >>> [round(w.share, 12) for w in draw_windows(settings, 2, np.random.default_rng(0))]
        [0.25, 0.25]
    """
    share, period = settings.online_share, settings.period_seconds
    if share == 1:
        return (Windows.always(),) * num_clients
    sessions = max(1, round(period * share / settings.session_seconds))
    lengths = rng.standard_exponential((num_clients, sessions, 2))
    lengths *= np.array([share, 1 - share]) * period / lengths.sum(axis=1, keepdims=True)
    begins = rng.uniform(0, period, num_clients)
    edges = begins[:, None] + np.cumsum(lengths.reshape(num_clients, -1), axis=1)
    ends = edges[:, ::2]
    starts = ends - lengths[:, :, 0]
    return tuple(
        Windows(_within(zip(own_starts.tolist(), own_ends.tolist(), strict=True), period), period)
        for own_starts, own_ends in zip(starts, ends, strict=True)
    )


def _within(spans: Iterable[tuple[float, float]], period: float) -> Iterator[tuple[float, float]]:
    """Spans that begin before two periods, put into one; who crosses its end goes on from 0."""
    for start, end in spans:
        back = period if start >= period else 0.0
        start, end = start - back, end - back
        if start < end:
            yield start, min(end, period)
        if end > period:
            yield 0.0, end - period
