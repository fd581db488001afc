"""How speed is tied to the data: the slowest devices may hold the rarest classes."""

from __future__ import annotations

import numpy as np

from ...allocator.arrays import FloatArray, IntArray

_RARE_CLASSES = 2


def speed_ranks(label_counts: IntArray, tie: float, rng: np.random.Generator) -> IntArray:
    """`(clients,)` every client's place from the fastest device, 0, to the slowest.

    Clients are ranked by `tie * rarity + sqrt(1 - tie^2) * noise`, both standardised.

    Args:
        label_counts: `(clients, classes)` examples.
        tie: In [-1, 1]; 1 gives the slowest devices to those who hold the rarest classes.
        rng: Source of the noise.

    Example:
        >>> counts = np.array([[9, 0, 3], [0, 5, 3], [0, 0, 3]])
        >>> speed_ranks(counts, 1.0, np.random.default_rng(0))
        array([1, 2, 0])
    """
    noise = rng.standard_normal(len(label_counts))
    score = tie * _standardise(rarity(label_counts)) + np.sqrt(1 - tie**2) * _standardise(noise)
    return np.argsort(np.argsort(score, kind="stable"), kind="stable")


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
