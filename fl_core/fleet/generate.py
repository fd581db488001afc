"""From settings to a fleet: the one place that knows all kinds."""

from __future__ import annotations

import numpy as np

from ...allocator.arrays import IntArray
from ..settings import FleetSettings
from .classes import draw_classes
from .fleet import Fleet
from .lognormal import draw_lognormal
from .rarity import speed_ranks
from .sessions import draw_windows
from .trace import read_trace


def make_fleet(settings: FleetSettings, label_counts: IntArray, rng: np.random.Generator) -> Fleet:
    """Gives every client a device and the times when it is online.

    Args:
        settings: Kind, and what it needs.
        label_counts: `(clients, classes)` examples.
        rng: Source of all that is random.

    Returns:
        A fleet of as many clients.

    Raises:
        ValueError: If a trace cannot be read.
        OSError: If its file cannot be.
    """
    ranks = speed_ranks(label_counts, settings.skew_correlation, rng)
    match settings.kind:
        case "classes":
            fleet = Fleet(draw_classes(settings, ranks, rng))
        case "lognormal":
            fleet = Fleet(draw_lognormal(settings.lognormal, ranks, rng))
        case "trace":
            tied = settings.skew_correlation != 0
            fleet = deal(read_trace(settings.path or ""), ranks, tied, rng)
    if settings.availability is None:
        return fleet
    return Fleet(fleet.devices, draw_windows(settings.availability, len(fleet), rng))


def deal(trace: Fleet, ranks: IntArray, tied: bool, rng: np.random.Generator) -> Fleet:
    """Gives every client a device of a trace.

    Where there are as many rows as clients, client k has row k. Otherwise rows are dealt in a
    random order: of more rows than clients some are left out; of fewer each serves several clients,
    as evenly as can be. Where speed is tied to the data, the devices dealt go by rank.

    Args:
        trace: A client per row.
        ranks: `(clients,)` places from the fastest to the slowest (`speed_ranks`).
        tied: Whether the ranks count.
        rng: Source of the order.
    """
    rows, count = len(trace), len(ranks)
    chosen = np.arange(rows)
    if rows != count:
        turns = [rng.permutation(rows) for _ in range(-(-count // rows))]
        chosen = np.concatenate(turns)[:count]
    if tied:
        slowdown = np.array([trace.devices[k].slowdown for k in chosen])
        chosen = chosen[np.argsort(slowdown, kind="stable")][ranks]
    return trace.take(chosen)
