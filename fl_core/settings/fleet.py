"""The devices of a fleet."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from .fields import KNOWN_KEYS_ONLY, Finite, Memory, Positive


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class DeviceClass:
    """A class of devices of the fleet.

    Args:
        name: For reports.
        share: Its part of the fleet; the parts are scaled to sum to 1.
        slowdown: Step time over the profile machine's.
        uplink_bytes_per_second: Rate at which it sends.
        downlink_bytes_per_second: Rate at which it receives.
        memory_bytes: What a training step may take; unlimited where none is given.
    """

    name: str
    share: Positive
    slowdown: Positive
    uplink_bytes_per_second: Positive
    downlink_bytes_per_second: Positive
    memory_bytes: Memory = math.inf


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class FleetSettings:
    """The devices.

    Args:
        classes: Device classes, fastest first.
        spread: Standard deviation of the logarithm of each device's own factor on its slowdown.
        skew_correlation: 0: speed is independent of the data; 1: the slowest devices hold the
            rarest classes (those that the fewest clients hold); -1: the fastest do.
    """

    classes: Annotated[tuple[DeviceClass, ...], Field(min_length=1)]
    spread: Annotated[Finite, Field(ge=0)] = 0.1
    skew_correlation: Annotated[Finite, Field(ge=-1, le=1)] = 0.0
