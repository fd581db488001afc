"""Devices by class, each with a spread of its own."""

from __future__ import annotations

import numpy as np

from ...allocator.arrays import IntArray
from ...allocator.hardware import DeviceProfile
from ..settings import FleetSettings


def draw_classes(
    settings: FleetSettings, ranks: IntArray, rng: np.random.Generator
) -> tuple[DeviceProfile, ...]:
    """Gives every client a device: the lowest ranks the first class, the highest the last.

    Args:
        settings: Classes and spread.
        ranks: `(clients,)` places from the fastest to the slowest (`speed_ranks`).
        rng: Source of the spread.

    Returns:
        `(clients,)` devices.
    """
    shares = np.array([c.share for c in settings.classes])
    ends = np.cumsum(shares / shares.sum()) * len(ranks)
    kinds = np.searchsorted(ends, ranks + 0.5)
    factors = np.exp(settings.spread * rng.standard_normal(len(ranks)))
    devices = []
    for kind, factor in zip(kinds, factors, strict=True):
        c = settings.classes[min(int(kind), len(settings.classes) - 1)]
        devices.append(
            DeviceProfile(
                device_class=c.name,
                slowdown=c.slowdown * float(factor),
                uplink_bytes_per_second=c.uplink_bytes_per_second,
                downlink_bytes_per_second=c.downlink_bytes_per_second,
                memory_bytes=c.memory_bytes,
                active_watts=c.active_watts,
            )
        )
    return tuple(devices)
