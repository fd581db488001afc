"""A seeded fleet: device classes, own spread, and speed tied to the data as much as wanted."""

from __future__ import annotations

import numpy as np

from ...allocator.arrays import FloatArray, IntArray
from ...allocator.hardware import DeviceProfile
from ..settings import FleetSettings

_RARE_CLASSES = 2


def make_fleet(
    settings: FleetSettings, label_counts: IntArray, rng: np.random.Generator
) -> tuple[DeviceProfile, ...]:
    """Gives every client a device.

    Clients are ranked by `skew_correlation * rarity + sqrt(1 - skew_correlation^2) * noise`
    (both standardised); the lowest get the first device class, the highest the last.

    Args:
        settings: Classes, spread, correlation.
        label_counts: `(clients, classes)` examples.
        rng: Source of the noise and of the spread.

    Returns:
        `(clients,)` devices.
    """
    num_clients = len(label_counts)
    tie = settings.skew_correlation
    noise = rng.standard_normal(num_clients)
    score = tie * _standardise(rarity(label_counts)) + np.sqrt(1 - tie**2) * _standardise(noise)
    place = np.argsort(np.argsort(score, kind="stable"), kind="stable")
    shares = np.array([c.share for c in settings.classes])
    ends = np.cumsum(shares / shares.sum()) * num_clients
    kinds = np.searchsorted(ends, place + 0.5)
    factors = np.exp(settings.spread * rng.standard_normal(num_clients))
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
            )
        )
    return tuple(devices)


def rarity(label_counts: IntArray) -> FloatArray:
    """`(clients,)` the share that each client holds of the rarest classes' examples.

    Rare are the classes that the fewest clients hold: those with the largest sum of squared
    shares over clients.

    Example:
        >>> rarity(np.array([[9, 0, 3], [0, 9, 3], [0, 0, 3]])).round(2)
        array([0.5, 0.5, 0. ])
    """
    shares = label_counts / np.maximum(label_counts.sum(axis=0), 1)
    concentration = (shares**2).sum(axis=0)
    rare = np.argsort(-concentration, kind="stable")[:_RARE_CLASSES]
    return np.asarray(shares[:, rare].mean(axis=1))


def _standardise(values: FloatArray) -> FloatArray:
    spread = float(values.std())
    standard: FloatArray = (values - values.mean()) / (spread if spread > 0 else 1.0)
    return standard
