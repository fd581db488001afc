"""Reads the device and availability traces of FedScale, which are pickles, without running them.

References:
    Lai et al., FedScale, ICML 2022 (arXiv 2105.11367). Devices: client -> computation (inference,
    ms a sample), communication (kbit/s); availability: client -> active and inactive (starts and
    ends of sessions in seconds), finish_time (after which they repeat), model, duration.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

from ...allocator.hardware import DeviceProfile
from ..safe_pickle import load_known
from ..text_file import MOST_BYTES
from .fleet import Fleet
from .windows import Windows

_BYTES_PER_KILOBIT = 125.0
_UNNAMED_CLASS = "device"
_MOST_WINDOWS = 10_000_000  # a pickle may name one long list for every client


def read_fedscale(
    devices: Path,
    availability: Path | None = None,
    *,
    median_slowdown: float = 1.0,
    num_clients: int | None = None,
) -> Fleet:
    """Reads FedScale's traces as a fleet.

    Its speeds know no model, so they count relative to each other: the median device gets the
    slowdown that is given. Up- and downlink are the one rate of the trace. Availability is of other
    clients than the devices: both are taken in the order of their keys, the second again from
    the start where it is shorter.

    Args:
        devices: Pickle of speeds and rates.
        availability: Pickle of sessions; always online where None.
        median_slowdown: Of the median device over the machine of the step profile.
        num_clients: Only so many, the first; all where None.

    Raises:
        ValueError: If a file is larger than 256 MiB, names anything but literals, is damaged, or
            lacks a key or holds an impossible value; or a number is not > 0.
        OSError: If a file cannot be read.
    """
    if not 0 < median_slowdown < math.inf or (num_clients is not None and num_clients < 1):
        raise ValueError(
            "`median_slowdown > 0` and `num_clients >= 1` must hold, but got "
            f"{median_slowdown} and {num_clients}."
        )
    speeds = _clients(devices, num_clients)
    sessions = {} if availability is None else _clients(availability, num_clients)
    online = _windows(availability, sessions, len(speeds))
    scale = median_slowdown / statistics.median(
        _number(devices, key, row, "computation") for key, row in speeds.items()
    )
    profiles = []
    for k, (key, row) in enumerate(speeds.items()):
        rate = _BYTES_PER_KILOBIT * _number(devices, key, row, "communication")
        slowdown = scale * _number(devices, key, row, "computation")
        profiles.append(DeviceProfile(online[k % len(online)][0], slowdown, rate, rate))
    return Fleet(profiles, [online[k % len(online)][1] for k in range(len(profiles))])


def _clients(path: Path, num_clients: int | None) -> dict[object, Mapping[str, object]]:
    """The first clients of a pickle, in the order of their keys."""
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(
            f"{path}: `size <= {MOST_BYTES >> 20} MiB` must hold, but it has {size >> 20} MiB. "
            "FedScale's own are smaller."
        )
    try:
        with path.open("rb") as file:
            content = load_known(file, {}, "a trace of literals")
        if not isinstance(content, dict) or not content:
            raise ValueError(f"it holds a {type(content).__name__} without clients")
        for key, row in content.items():
            if not isinstance(key, int | str) or not isinstance(row, dict):
                raise ValueError(f"client {key!r:.40} is a {type(row).__name__}")
        if len({type(key) for key in content}) > 1:
            raise ValueError("its clients are numbers and texts")
    except ValueError as error:
        raise ValueError(
            f"{path} must be a pickled dictionary of clients as FedScale writes it, but {error}."
        ) from None
    return {key: content[key] for key in sorted(content)[:num_clients]}


def _windows(
    path: Path | None, sessions: Mapping[object, Mapping[str, object]], most: int
) -> list[tuple[str, Windows]]:
    """Device class and sessions of each client of an availability trace, no more than needed."""
    found = []
    count = 0
    for key, row in list(sessions.items())[:most]:
        period = _number(path, key, row, "finish_time")
        starts, ends = _times(path, key, row, "active"), _times(path, key, row, "inactive")
        count += len(starts)
        if len(starts) != len(ends) or count > _MOST_WINDOWS:
            raise _fault(path, key, "active", "must be as long as `inactive`, and not endless")
        # A session of no length, or after the end, as real traces have some, is none.
        spans = [(a, min(b, period)) for a, b in zip(starts, ends, strict=True)]
        windows = Windows([(a, b) for a, b in spans if a < b], period)
        model = row.get("model")
        found.append((model if isinstance(model, str) and model else _UNNAMED_CLASS, windows))
    return found or [(_UNNAMED_CLASS, Windows.always())]


def _number(path: Path | None, key: object, row: Mapping[str, object], name: str) -> float:
    value = row.get(name)
    if not _is_time(value) or value == 0:
        raise _fault(path, key, name, "must be a finite number > 0")
    return float(value)


def _times(path: Path | None, key: object, row: Mapping[str, object], name: str) -> Sequence[float]:
    values = row.get(name)
    if not isinstance(values, list | tuple) or not all(_is_time(v) for v in values):
        raise _fault(path, key, name, "must be a list of finite numbers >= 0")
    return values


def _is_time(value: object) -> TypeGuard[int | float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= sys.float_info.max  # infinite is none, nor an integer beyond all floats


def _fault(path: Path | None, key: object, name: str, rule: str) -> ValueError:
    return ValueError(f"{path}: `{name}` of client {key!r:.40} {rule}, but is not.")
