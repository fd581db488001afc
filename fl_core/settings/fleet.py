"""The devices of a fleet."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from .fields import KNOWN_KEYS_ONLY, Finite, Memory, NotNegative, Positive

_MOST_SESSIONS = 1000
_Correlation = Annotated[Finite, Field(ge=-1, le=1)]


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
        active_watts: Power that training takes; 0 where it is not known.
    """

    name: str
    share: Positive
    slowdown: Positive
    uplink_bytes_per_second: Positive
    downlink_bytes_per_second: Positive
    memory_bytes: Memory = math.inf
    active_watts: NotNegative = 0.0


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class MemoryTier:
    """Devices of one memory size.

    Args:
        share: Their part of the fleet; the parts are scaled to sum to 1.
        memory_bytes: What a training step may take.
    """

    share: Positive
    memory_bytes: Memory


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class LogNormalSettings:
    """A population of devices: medians, and standard deviations of logarithms.

    Args:
        slowdown: Median of the step time over the profile machine's.
        slowdown_spread: Of the slowdown.
        uplink_bytes_per_second: Median of the rate at which a device sends.
        uplink_spread: Of that rate.
        downlink_bytes_per_second: Median of the rate at which a device receives.
        downlink_spread: Of that rate.
        network_correlation: 1: the faster a device, the better its network; 0: independent; -1:
            the worse.
        memory: Memory tiers, that of the slowest devices first; unlimited where none is given.
        active_watts: Power that training takes, on every device; 0 where it is not known.
    """

    slowdown: Positive = 10.0
    slowdown_spread: NotNegative = 0.6
    uplink_bytes_per_second: Positive = 5e5
    uplink_spread: NotNegative = 0.8
    downlink_bytes_per_second: Positive = 2e6
    downlink_spread: NotNegative = 0.8
    network_correlation: _Correlation = 0.5
    memory: tuple[MemoryTier, ...] = ()
    active_watts: NotNegative = 0.0


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class AvailabilitySettings:
    """Clients that come and go at random.

    Args:
        online_share: Share of the time that each client is online.
        session_seconds: Mean time that it stays.
        period_seconds: After which its sessions repeat; a day by default.

    Raises:
        ValueError: If a period has no whole session, or more than a thousand.
    """

    online_share: Annotated[Finite, Field(gt=0, le=1)]
    session_seconds: Positive = 3600.0
    period_seconds: Positive = 86400.0

    def __post_init__(self) -> None:
        sessions = self.online_share * self.period_seconds / self.session_seconds
        if not 1 <= sessions <= _MOST_SESSIONS:
            raise ValueError(
                "`1 <= online_share * period_seconds / session_seconds <= "
                f"{_MOST_SESSIONS}` must hold (sessions of a period), but got {sessions:g}. "
                "Change session_seconds."
            )


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class FleetSettings:
    """The devices.

    Args:
        classes: Device classes, fastest first; of the kind `classes`.
        spread: Of the kind `classes`: standard deviation of the logarithm of each device's own
            factor on its slowdown.
        skew_correlation: 0: speed is independent of the data; 1: the slowest devices hold the
            rarest classes (those that the fewest clients hold); -1: the fastest do.
        kind: Where the devices come from: `classes`, `lognormal` (drawn from a population) or
            `trace` (measured ones).
        lognormal: The population, of that kind.
        path: Of the kind `trace`: a CSV or JSON trace, or device profiles as `devices/*.json`, from
            the working directory.
        availability: When clients are online, in place of what a trace says; always where neither
            says it.

    Raises:
        ValueError: If what the kind needs is not given.
    """

    classes: tuple[DeviceClass, ...] = ()
    spread: NotNegative = 0.1
    skew_correlation: _Correlation = 0.0
    kind: Literal["classes", "lognormal", "trace"] = "classes"
    lognormal: LogNormalSettings = LogNormalSettings()
    path: str | None = None
    availability: AvailabilitySettings | None = None

    def __post_init__(self) -> None:
        if self.kind == "classes" and not self.classes:
            raise ValueError(
                "`fleet.classes` must hold at least 1 class of devices, but has none. Add "
                "[[fleet.classes]], or another fleet.kind."
            )
        if self.kind == "trace" and not self.path:
            raise ValueError(
                '`fleet.path` must name a trace where fleet.kind = "trace", but is not given. '
                'Add for example path = "trace.csv".'
            )
