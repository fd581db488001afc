"""One root seed gives an independent generator to every purpose, round and client."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What randomness is for; the numbers are part of the results and never change."""

    SPLIT = 0
    PARTITION = 1
    FLEET = 2
    COHORT = 4
    BATCHES = 5
    WIRE = 6
    DOWNLINK = 7
    FATE = 8
    CLIENT_TEST = 11


def generator(seed: int, purpose: Purpose, *place: int) -> np.random.Generator:
    """A generator for a purpose, and where it matters for a round and a client.

    Example:
        >>> a = generator(0, Purpose.BATCHES, 3, 1).integers(1000)
        >>> bool(a == generator(0, Purpose.BATCHES, 3, 1).integers(1000))
        True
    """
    # What `default_rng` makes, named: all that is drawn, and so all results, depend on it.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, purpose, *place])))
