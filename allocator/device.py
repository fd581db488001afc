"""What a client's device can do, and the file that says it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from .strategy import Strategy

_FORMAT = "fedhq device profile"
_VERSION = 1
_MOST_BYTES = 2**20
_POSITIVE = ("slowdown", "uplink_bytes_per_second", "downlink_bytes_per_second", "memory_bytes")


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """What a client's device can do, relative to the machine whose steps were measured.

    Args:
        device_class: Name of its class, for reports.
        slowdown: Its step time over the reference machine's, > 0.
        uplink_bytes_per_second: Rate at which it sends, > 0.
        downlink_bytes_per_second: Rate at which it receives, > 0.
        memory_bytes: What a training step may take; unlimited by default.
        active_watts: Power that training takes; 0 where it is not known.
        slowdowns: Where some strategies have a slowdown of their own; their wire bits do not
            matter here.

    Raises:
        ValueError: If a value is not > 0, the watts are negative or infinite, or a strategy of
            `slowdowns` is skip or stands there twice.

    Example:
        >>> DeviceProfile("phone", 4.0, 1e6, 5e6).memory_bytes
        inf
    """

    device_class: str
    slowdown: float
    uplink_bytes_per_second: float
    downlink_bytes_per_second: float
    memory_bytes: float = math.inf
    active_watts: float = 0.0
    slowdowns: tuple[tuple[Strategy, float], ...] = ()

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"`{name} > 0` must hold for a device, but got {getattr(self, name)}."
                )
        if not 0 <= self.active_watts < math.inf:
            raise ValueError(
                "`active_watts` must be finite and >= 0 for a device, but got "
                f"{self.active_watts}. Write 0 where they are not known."
            )
        seen = set()
        for strategy, value in self.slowdowns:
            if strategy.is_skip or strategy.compute in seen or not 0 < value < math.inf:
                raise ValueError(
                    "`slowdowns` must give different strategies that train a number > 0 each, but "
                    f"{strategy} has {value}, or stands there twice. Leave it out."
                )
            seen.add(strategy.compute)

    def save(self, path: Path) -> None:
        """Writes the profile as JSON; unlimited memory is null."""
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "device_class": self.device_class,
            "slowdown": self.slowdown,
            "uplink_bytes_per_second": self.uplink_bytes_per_second,
            "downlink_bytes_per_second": self.downlink_bytes_per_second,
            "memory_bytes": None if math.isinf(self.memory_bytes) else self.memory_bytes,
            "active_watts": self.active_watts,
            "slowdowns": {str(s): value for s, value in self.slowdowns},
        }
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> DeviceProfile:
        """Reads a profile.

        Raises:
            ValueError: If the file is missing, larger than 1 MiB, no such profile, or of a newer
                version.
        """
        try:
            content = json.loads(_read_text(path))
            if (content["format"], content["version"]) != (_FORMAT, _VERSION):
                found = f"{content['format']!r}, version {content['version']}"
                raise ValueError(f"it says {found} instead of {_FORMAT!r}, version {_VERSION}")
            memory = content["memory_bytes"]
            return cls(
                device_class=str(content["device_class"]),
                slowdown=float(content["slowdown"]),
                uplink_bytes_per_second=float(content["uplink_bytes_per_second"]),
                downlink_bytes_per_second=float(content["downlink_bytes_per_second"]),
                memory_bytes=math.inf if memory is None else float(memory),
                active_watts=float(content["active_watts"]),
                slowdowns=tuple(
                    (Strategy.parse(s), float(value)) for s, value in content["slowdowns"].items()
                ),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{path} must be a device profile, but {type(error).__name__}: {error}. "
                "Write one with `fedhq profile --device`."
            ) from None


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError("`size <= 1 MiB` must hold, but it is larger")
    return content.decode("utf-8")
