"""Devices whose speed and network are log-normal, as measured populations nearly are."""

from __future__ import annotations

import math

import numpy as np

from ...allocator.arrays import FloatArray, IntArray
from ...allocator.hardware import DeviceProfile
from ..settings import LogNormalSettings

_CLASSES = ("fast", "medium", "slow")


def draw_lognormal(
    settings: LogNormalSettings, ranks: IntArray, rng: np.random.Generator
) -> tuple[DeviceProfile, ...]:
    """Draws as many devices as clients, and deals them by speed.

    A device's up- and downlink are good or bad together, and good where it is fast, as far as
    `network_correlation` says. The slowest devices have the first memory tier. For reports, the
    fastest third of the devices is a class, and so are the others.

    Args:
        settings: Medians, spreads, correlation, memory.
        ranks: `(clients,)` places from the fastest to the slowest (`speed_ranks`).
        rng: Source of the devices.

    Returns:
        `(clients,)` devices.
    """
    count, tie = len(ranks), settings.network_correlation
    slow = np.sort(rng.standard_normal(count))
    poor = tie * slow + math.sqrt(1 - tie**2) * rng.standard_normal(count)
    slowdown = settings.slowdown * np.exp(settings.slowdown_spread * slow)
    uplink = settings.uplink_bytes_per_second * np.exp(-settings.uplink_spread * poor)
    downlink = settings.downlink_bytes_per_second * np.exp(-settings.downlink_spread * poor)
    memory = _memory(settings, count)
    return tuple(
        DeviceProfile(
            device_class=_CLASSES[len(_CLASSES) * int(k) // count],
            slowdown=float(slowdown[k]),
            uplink_bytes_per_second=float(uplink[k]),
            downlink_bytes_per_second=float(downlink[k]),
            memory_bytes=float(memory[k]),
            active_watts=settings.active_watts,
        )
        for k in ranks
    )


def _memory(settings: LogNormalSettings, count: int) -> FloatArray:
    """`(devices,)` from the fastest device, which has the last tier."""
    if not settings.memory:
        return np.full(count, math.inf)
    shares = np.array([tier.share for tier in settings.memory])
    ends = np.cumsum(shares / shares.sum()) * count
    tiers = np.searchsorted(ends, np.arange(count)[::-1] + 0.5)
    sizes = np.array([tier.memory_bytes for tier in settings.memory])
    return sizes[np.minimum(tiers, len(sizes) - 1)]
