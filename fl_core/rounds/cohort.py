"""Who is asked in a round: sampled from the clients that are online and not busy."""

from __future__ import annotations

import math

import numpy as np

from ...allocator.arrays import FloatArray, IntArray
from ..seeds import Purpose, generator
from ..settings import ParticipationSettings


def wanted_clients(settings: ParticipationSettings, num_clients: int) -> int:
    """How many answers a round waits for.

    Example:
        >>> wanted_clients(ParticipationSettings(cohort=10), 7)
        7
    """
    return num_clients if settings.cohort is None else min(settings.cohort, num_clients)


def sample_cohort(
    settings: ParticipationSettings,
    round_number: int,
    seed: int,
    ready: IntArray,
    weights: FloatArray | None,
    num_clients: int,
) -> IntArray:
    """Draws a round's cohort without repetition, in rising order.

    Args:
        settings: How many, and how many more.
        round_number: The round.
        seed: Root of the federation's randomness.
        ready: `(ready,)` numbers of the clients that may be asked, rising.
        weights: `(ready,)` how much likelier one is drawn than another; equally where None.
        num_clients: Clients of the fleet.

    Returns:
        `(cohort,)` client numbers: all that are ready where no more are.

    Example:
        >>> settings = ParticipationSettings(cohort=2, over_selection=1.5)
        >>> sample_cohort(settings, 1, 0, np.arange(3), None, 9)
        array([0, 1, 2])
    """
    wanted = settings.over_selection * wanted_clients(settings, num_clients)
    size = math.ceil(round(wanted, 9))  # 1.1 x 100 is 110
    if size >= len(ready):
        return ready
    rng = generator(seed, Purpose.COHORT, round_number)
    if weights is None or not weights.any():
        return np.sort(rng.choice(ready, size, replace=False))
    # The largest of exponential times over weights: one draw without repetition (Efraimidis and
    # Spirakis 2006), also where fewer than `size` have a weight.
    with np.errstate(divide="ignore"):
        keys = rng.exponential(size=len(ready)) / weights
    return np.sort(ready[np.argsort(keys, kind="stable")[:size]])
