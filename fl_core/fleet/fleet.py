"""A fleet: every client's device, and when it is online."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from ...allocator.arrays import BoolArray, FloatArray, IntArray
from ...allocator.hardware import DeviceProfile
from .windows import Windows

_ALWAYS = Windows.always()
_NUDGE_ULPS = 4  # more than the rounding errors of `cycle * period + boundary`


@dataclass(frozen=True, eq=False)
class Fleet:
    """Every client's device, and when it is online, in simulated seconds.

    Args:
        devices: `(clients,)` devices.
        windows: `(clients,)` when each is online; always where not given.

    Raises:
        ValueError: If there are not as many windows as devices.

    Example:
        >>> phone = DeviceProfile("phone", 4.0, 1e6, 5e6)
        >>> fleet = Fleet([phone, phone], [Windows.always(), Windows([(10, 20)], 100)])
        >>> fleet.available(115.0), fleet.until(1, 115.0), fleet.next_available(30.0, [1])
        (array([ True,  True]), 120.0, 110.0)
    """

    devices: tuple[DeviceProfile, ...]
    windows: tuple[Windows, ...]
    _flat: _Flat = field(init=False, repr=False)

    def __init__(
        self, devices: Sequence[DeviceProfile], windows: Sequence[Windows] | None = None
    ) -> None:
        given = [_ALWAYS] * len(devices) if windows is None else windows
        if len(given) != len(devices):
            raise ValueError(
                "`windows` must be as many as devices, but got "
                f"{len(given)} for {len(devices)} devices."
            )
        object.__setattr__(self, "devices", tuple(devices))
        object.__setattr__(self, "windows", tuple(given))
        object.__setattr__(self, "_flat", _Flat.of(self.windows))

    def __len__(self) -> int:
        return len(self.devices)

    def take(self, clients: Sequence[int] | IntArray) -> Fleet:
        """The fleet of some clients, in the order given; one may be named several times."""
        return Fleet([self.devices[i] for i in clients], [self.windows[i] for i in clients])

    def is_available(self, client: int, simulated_seconds: float) -> bool:
        """Whether a client is online at a time.

        Raises:
            ValueError: If there is no such client, or the time is negative or not finite.
        """
        return bool(self._look(simulated_seconds, [client])[0][0])

    def available(self, simulated_seconds: float) -> BoolArray:
        """`(clients,)` whether each is online at a time.

        Raises:
            ValueError: If the time is negative or not finite.
        """
        _check_time(simulated_seconds)
        return self._flat.online(float(simulated_seconds))

    def online_seconds(
        self, clients: Sequence[int] | IntArray, simulated_seconds: float
    ) -> FloatArray:
        """`(clients,)` how long each of some clients stays online from a time on.

        0 if it is not, infinite if it never goes.

        Raises:
            ValueError: If there is no such client, or the time is negative or not finite.
        """
        online, changes = self._look(simulated_seconds, clients)
        return np.where(online, changes, simulated_seconds) - simulated_seconds

    def until(self, client: int, simulated_seconds: float) -> float:
        """When a client that is online then goes offline; infinite if never.

        Of one that is offline at the time, the time itself.

        Raises:
            ValueError: If there is no such client, or the time is negative or not finite.
        """
        online, changes = self._look(simulated_seconds, [client])
        return float(changes[0]) if online[0] else float(simulated_seconds)

    def next_available(
        self, simulated_seconds: float, clients: Sequence[int] | IntArray | None = None
    ) -> float:
        """The first time, from the given one on, at which any of some clients is online.

        Args:
            simulated_seconds: The given time.
            clients: Their numbers; all where None.

        Returns:
            The time; infinite if none ever is.

        Raises:
            ValueError: If there is no such client, or the time is negative or not finite.
        """
        online, changes = self._look(simulated_seconds, clients)
        return float(np.where(online, simulated_seconds, changes).min(initial=math.inf))

    def _look(
        self, seconds: float, clients: Sequence[int] | IntArray | None
    ) -> tuple[BoolArray, FloatArray]:
        """`(clients,)` whether online, and when that changes."""
        _check_time(seconds)
        rows = np.arange(len(self)) if clients is None else np.asarray(clients, dtype=np.int64)
        wrong = rows[(rows < 0) | (rows >= len(self))]
        if len(wrong):
            raise ValueError(
                f"`clients` must be in 0 ... {len(self) - 1}, but got {int(wrong[0])}."
            )
        return self._flat.look(float(seconds), rows)


def _check_time(seconds: float) -> None:
    if not 0 <= seconds < math.inf:
        raise ValueError(f"`simulated_seconds` must be finite and >= 0, but got {seconds}.")


@dataclass(frozen=True, eq=False)
class _Flat:
    """The windows of all clients in one row, so that one search finds all at once.

    Args:
        starts: `(windows + 1,)` client by client, each client's in order; infinite at the end.
        ends: `(windows + 1,)` likewise.
        first: `(clients + 1,)` where each client's begin.
        period: `(clients,)` infinite where they do not repeat.
        always: Whether all clients always are online.
    """

    starts: FloatArray
    ends: FloatArray
    first: IntArray
    period: FloatArray
    always: bool

    @classmethod
    def of(cls, windows: Sequence[Windows]) -> _Flat:
        spans = np.array([*chain.from_iterable(w.spans for w in windows), (math.inf, math.inf)])
        return cls(
            np.ascontiguousarray(spans[:, 0]),
            np.ascontiguousarray(spans[:, 1]),
            np.cumsum([0, *(len(w.spans) for w in windows)], dtype=np.int64),
            np.array([w.period_seconds for w in windows], dtype=np.float64),
            all(w.spans == _ALWAYS.spans for w in windows),
        )

    def online(self, seconds: float) -> BoolArray:
        """`(clients,)` whether each is online at a time; what `look` says of all, but faster."""
        first, last = self.first[:-1], self.first[1:]
        if self.always:
            return np.ones(len(first), dtype=bool)
        local = self._local(seconds, self.period)[1]
        begun = self._begun(local, first, last)
        return (begun > first) & (local < self.ends[begun - 1])

    def look(self, seconds: float, clients: IntArray) -> tuple[BoolArray, FloatArray]:
        """`(clients,)` whether online at a time, and when that changes (inf: never)."""
        first, last = self.first[clients], self.first[clients + 1]
        period = self.period[clients]
        repeats = np.isfinite(period)
        base, local = self._local(seconds, period)
        begun = self._begun(local, first, last)
        current = np.where(begun > first, begun - 1, len(self.starts) - 1)
        online = (begun > first) & (local < self.ends[current])
        following = np.where(begun < last, self.starts[begun], math.inf)
        again = (first < last) & repeats
        turn = np.where(again, base + period, math.inf)
        comes = np.where(begun < last, base + following, turn + self.starts[first])
        goes = base + self.ends[current]
        joined = online & again & (self.ends[current] == period) & (self.starts[first] == 0)
        goes = np.where(joined, turn + self.ends[first], goes)
        return online, np.where(online, goes, comes)

    @staticmethod
    def _local(seconds: float, period: FloatArray) -> tuple[FloatArray, FloatArray]:
        """`(clients,)` when each one's present period began, and the time since then."""
        # A boundary that `look` returned must count as reached, whatever was rounded.
        now = seconds + _NUDGE_ULPS * np.spacing(seconds)
        cycle = np.floor(now / period)
        base = np.multiply(cycle, period, out=np.zeros_like(cycle), where=cycle > 0)
        return base, now - base

    def _begun(self, local: FloatArray, first: IntArray, last: IntArray) -> IntArray:
        """`(clients,)` place after the last window that has begun, by bisection of all at once."""
        low, high = first.copy(), last.copy()
        for _ in range(int((last - first).max(initial=0)).bit_length()):
            middle = (low + high) >> 1
            passed = self.starts[middle] <= local
            passed &= low < high
            np.copyto(low, middle + 1, where=passed)
            np.copyto(high, middle, where=~passed)  # of a closed one that is `high` itself
        return low
