"""Hardware analysis: devices and measured steps give seconds, bytes, joules, memory (section 3).

    compute[i, s] = local_steps[i] * step_seconds[s] * slowdown[i, s]
    seconds[i, s] = downlink + compute[i, s] + uplink[s]
    joules[i, s]  = active_watts[i] * compute[i, s]

with the transfers at the device's own rates; skip takes nothing (facts: the client time of any
synchronous federation). The step times are measured, never assumed: `fedhq profile` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from .arrays import BoolArray, FloatArray, freeze
from .device import DeviceProfile
from .strategy import Strategy, parse_menu

__all__ = ["DeviceProfile", "HardwareTables", "StepProfile", "analyse_hardware"]

_PROFILE_VERSION = 1


@dataclass(frozen=True, eq=False)
class StepProfile:
    """Step times and memory of one model, measured once on a reference machine.

    Args:
        model: What was measured, for instance `cnn 1x28x28`.
        batch_size: Examples per step.
        strategies: The measured strategies; their wire bits do not matter here.
        step_seconds: `(strategies,)` time of one training step, > 0; 0 for skip.
        memory_bytes: `(strategies,)` memory of one training step; 0 for skip.
        origin: Machine, thread count, library versions and date of the measurement.

    Raises:
        ValueError: If the tables do not fit the strategies or hold impossible values.
    """

    model: str
    batch_size: int
    strategies: tuple[Strategy, ...]
    step_seconds: FloatArray
    memory_bytes: FloatArray
    origin: str

    def __post_init__(self) -> None:
        shape = (len(self.strategies),)
        for name in ("step_seconds", "memory_bytes"):
            object.__setattr__(self, name, freeze(name, getattr(self, name), shape))
        busy = np.array([not s.is_skip for s in self.strategies])
        bad = np.flatnonzero(busy & (self.step_seconds <= 0))
        if bad.size:
            raise ValueError(
                f"`step_seconds > 0` must hold, but that of {self.strategies[bad[0]]} is "
                f"{self.step_seconds[bad[0]]}. Leave out a strategy that was not measured."
            )

    def select(self, menu: Sequence[Strategy]) -> StepProfile:
        """The rows of a menu, whatever its wire bits; skip needs no measurement.

        Raises:
            ValueError: If a strategy was not measured.
        """
        rows = {s.compute: k for k, s in enumerate(self.strategies)}
        seconds, memory = [], []
        for s in menu:
            row = rows.get(s.compute)
            if row is None and not s.is_skip:
                raise ValueError(
                    f"the profile of {self.model!r} must hold every strategy of the menu, but "
                    f"{s} was not measured (it has {[str(m) for m in self.strategies]}). "
                    "Measure it with `fedhq profile`."
                )
            seconds.append(0.0 if row is None else float(self.step_seconds[row]))
            memory.append(0.0 if row is None else float(self.memory_bytes[row]))
        return StepProfile(
            self.model,
            self.batch_size,
            tuple(menu),
            np.array(seconds),
            np.array(memory),
            self.origin,
        )

    def save(self, path: Path) -> None:
        """Writes the profile as JSON."""
        rows = {
            str(s): {"step_seconds": float(t), "memory_bytes": float(m)}
            for s, t, m in zip(self.strategies, self.step_seconds, self.memory_bytes, strict=True)
        }
        content = {
            "format": "fedhq step profile",
            "version": _PROFILE_VERSION,
            "model": self.model,
            "batch_size": self.batch_size,
            "origin": self.origin,
            "strategies": rows,
        }
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> StepProfile:
        """Reads a profile.

        Raises:
            ValueError: If the file is missing, no such profile, or of a newer version.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["version"] != _PROFILE_VERSION:
                raise ValueError(f"version is {content['version']}, not {_PROFILE_VERSION}")
            rows = content["strategies"]
            return cls(
                model=content["model"],
                batch_size=int(content["batch_size"]),
                strategies=parse_menu(rows),
                step_seconds=np.array([r["step_seconds"] for r in rows.values()]),
                memory_bytes=np.array([r["memory_bytes"] for r in rows.values()]),
                origin=content["origin"],
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} must be a step profile, but {type(error).__name__}: {error}. "
                "Write one with `fedhq profile`."
            ) from None


@dataclass(frozen=True, eq=False)
class HardwareTables:
    """What each choice costs each client.

    Args:
        seconds: `(clients, strategies)` time of a round; NaN where it was never measured.
        uplink_bytes: `(clients, strategies)` bytes that a client sends.
        memory_bytes: `(clients, strategies)` memory of a training step.
        allowed: `(clients, strategies)` whether the memory suffices.
        strategies: The menu, in the order of the columns.
        energy_joules: `(clients, strategies)` energy of training; NaN where it is not known, None
            where it is for nobody.

    Raises:
        ValueError: If a table has another shape than `seconds`, or not a column a strategy, or a
            time is negative or infinite, or unknown for skip.
    """

    seconds: FloatArray
    uplink_bytes: FloatArray
    memory_bytes: FloatArray
    allowed: BoolArray
    strategies: tuple[Strategy, ...]
    energy_joules: FloatArray | None = None

    def __post_init__(self) -> None:
        shape = (len(self.seconds), len(self.strategies))
        for name in ("seconds", "uplink_bytes", "memory_bytes", "allowed", "energy_joules"):
            table = getattr(self, name)
            if table is not None and (found := np.shape(table)) != shape:
                raise ValueError(
                    f"`{name}` must have shape {shape}, a row a client and a column a strategy, "
                    f"but got {found}. Write NaN where `seconds` or `energy_joules` are not known, "
                    "and False in `allowed` for what a client cannot do."
                )
        busy = np.array([not s.is_skip for s in self.strategies])
        good = (self.seconds >= 0) & np.isfinite(self.seconds) | np.isnan(self.seconds) & busy
        if not np.all(good):
            i, k = np.argwhere(~good)[0]
            raise ValueError(
                f"`seconds` must be finite and >= 0, but seconds[{i}, {k}] = {self.seconds[i, k]} "
                f"({self.strategies[k]}). Write NaN where a strategy's time is unknown, 0 for skip."
            )

    @classmethod
    def unknown(cls, menu: Sequence[Strategy | str], num_clients: int = 1) -> HardwareTables:
        """Tables of clients of which nothing is known but that they can do everything.

        Times and joules are NaN, bytes and memory 0.

        Example:
            >>> HardwareTables.unknown(["skip", "qat-w2a2"]).seconds
            array([[ 0., nan]])
        """
        strategies = parse_menu(menu)
        never = np.array([0.0 if s.is_skip else np.nan for s in strategies])
        times = np.tile(never, (num_clients, 1))
        zeros = np.zeros(times.shape)
        can = np.ones(times.shape, dtype=bool)
        return cls(times, zeros, zeros, can, strategies, energy_joules=times)

    @property
    def joules(self) -> FloatArray:
        """`(clients, strategies)` energy of training; NaN where it is not known."""
        if self.energy_joules is None:
            return np.full(np.shape(self.seconds), np.nan)
        return self.energy_joules

    def joined(self, more: HardwareTables) -> HardwareTables:
        """These clients and then those of another table.

        Raises:
            ValueError: If the menus differ.
        """
        if more.strategies != self.strategies:
            raise ValueError(
                "the `hardware` of clients that join must be of the strategies "
                f"{[str(s) for s in self.strategies]}, in this order, but is of "
                f"{[str(s) for s in more.strategies]}."
            )
        energy = None
        if self.energy_joules is not None or more.energy_joules is not None:
            energy = np.concatenate([self.joules, more.joules])
        return HardwareTables(
            np.concatenate([self.seconds, more.seconds]),
            np.concatenate([self.uplink_bytes, more.uplink_bytes]),
            np.concatenate([self.memory_bytes, more.memory_bytes]),
            np.concatenate([self.allowed, more.allowed]),
            self.strategies,
            energy,
        )


def analyse_hardware(
    devices: Sequence[DeviceProfile],
    local_steps: ArrayLike,
    profile: StepProfile,
    uplink_bytes: ArrayLike,
    downlink_bytes: float,
) -> HardwareTables:
    """Works out seconds, bytes, joules and memory of every strategy on every device.

    Where a device's watts are not known (0), its joules are NaN.

    Args:
        devices: `(clients,)` profiles.
        local_steps: `(clients,)` training steps in a round.
        profile: Measured steps of exactly the menu's strategies (`StepProfile.select`).
        uplink_bytes: `(strategies,)` bytes of an upload; 0 for skip.
        downlink_bytes: Bytes of the model that a taking part client receives.

    Returns:
        The tables.

    Raises:
        ValueError: If shapes differ or values are negative.

    Example:
        >>> profile = StepProfile("toy", 32, parse_menu(["skip", "fp32"]), np.array([0, .01]),
        ...                       np.array([0, 1e6]), "by hand")
        >>> phone = DeviceProfile("phone", 2.0, 1e6, 4e6)
        >>> analyse_hardware([phone], [100], profile, [0, 1e6], 4e6).seconds
        array([[0., 4.]])
    """
    busy = np.array([not s.is_skip for s in profile.strategies], dtype=float)
    steps = freeze("local_steps", local_steps, (len(devices),))
    sent = freeze("uplink_bytes", uplink_bytes, busy.shape)
    received = float(freeze("downlink_bytes", downlink_bytes, ()))
    down = received / np.array([d.downlink_bytes_per_second for d in devices])
    up = 1.0 / np.array([d.uplink_bytes_per_second for d in devices])
    compute = steps[:, None] * _slowdowns(devices, profile.strategies) * profile.step_seconds
    watts = np.array([d.active_watts or np.nan for d in devices])
    memory = np.tile(profile.memory_bytes, (len(devices), 1))
    room = np.array([d.memory_bytes for d in devices])
    return HardwareTables(
        seconds=(np.outer(down, busy) + compute + np.outer(up, sent)) * busy,
        uplink_bytes=np.tile(sent * busy, (len(devices), 1)),
        memory_bytes=memory,
        allowed=memory <= room[:, None],
        strategies=profile.strategies,
        energy_joules=np.where(busy > 0, watts[:, None] * compute, 0.0),
    )


def _slowdowns(devices: Sequence[DeviceProfile], menu: Sequence[Strategy]) -> FloatArray:
    """`(clients, strategies)` the strategy's own where a device has one, else the device's."""
    table = np.tile(np.array([d.slowdown for d in devices]).reshape(-1, 1), len(menu))
    for row, device in zip(table, devices, strict=True):
        own = {s.compute: value for s, value in device.slowdowns}
        if own:
            row[:] = [own.get(s.compute, device.slowdown) for s in menu]
    return table
