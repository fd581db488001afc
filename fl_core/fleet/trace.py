"""Traces of measured devices: a CSV or JSON with a row a client, or a file a device.

    client,slowdown,uplink_bytes_per_second,downlink_bytes_per_second,memory_bytes,active_watts,device_class,online
    a,4,1e6,4e6,2e9,3.5,phone,0:21600 79200:86400 per 86400
    b,9,2e5,1e6,,,,

The first four columns are needed. An empty memory is unlimited, empty watts are not known, and an
empty `online` means always (see `Windows.parse`). A column `slowdowns` may give strategies a
slowdown of their own: `fp32=3.9 qat-w2a2=5`. JSON is a list of objects of the same.
"""

from __future__ import annotations

import csv
import glob
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ...allocator.hardware import DeviceProfile
from ...allocator.strategy import Strategy
from ..text_file import MOST_BYTES, Source, csv_lines, read_bounded
from .fleet import Fleet
from .windows import Windows

_NEEDED = ("client", "slowdown", "uplink_bytes_per_second", "downlink_bytes_per_second")
_MAY = ("memory_bytes", "active_watts", "device_class", "online")
_OWN = "slowdowns"
_UNNAMED_CLASS = "device"
SUFFIXES = (".csv", ".json")


def read_trace(path: str) -> Fleet:
    """Reads a trace; a client per row, in its order.

    Args:
        path: A `.csv` or `.json` trace, one device profile as JSON, or a pattern or folder of such
            profiles: a client per file, in the order of their names.

    Raises:
        ValueError: If the file is none of these or too large, a column lacks or is unknown, a
            value breaks a rule, or a client stands there twice; with the line.
        OSError: If it cannot be read.
    """
    if Path(path).is_dir() or (glob.has_magic(path) and not Path(path).is_file()):
        return _read_profiles(path)
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: a trace's name must end in {' or '.join(SUFFIXES)}.")
    with open(path, "rb") as file:
        mend = "Split it, or keep fewer of its rows."
        source = Source.of(path, read_bounded(path, file, MOST_BYTES, mend))
    if suffix == ".csv":
        return _fleet(source.name, _csv_rows(source))
    content = _parse_json(source)
    if isinstance(content, dict):
        return Fleet([DeviceProfile.load(Path(path))])
    return _fleet(source.name, _json_rows(source, content))


def write_trace(path: Path, fleet: Fleet) -> None:
    """Writes a fleet as a trace, of which `read_trace` makes the same fleet.

    Args:
        path: Its name ends in `.csv` or `.json`, which says what is written.
        fleet: What to write; clients are named by their number.

    Raises:
        ValueError: If the name has another ending.
        OSError: If it cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: a trace's name must end in {' or '.join(SUFFIXES)}.")
    write = csv_trace if path.suffix.lower() == ".csv" else _json_trace
    path.write_text(write(fleet), encoding="utf-8")


def csv_trace(fleet: Fleet) -> str:
    """A fleet as the text of a CSV trace.

    Example:
        >>> print(csv_trace(Fleet([DeviceProfile("phone", 4.0, 1e6, 5e6)])).splitlines()[1])
        0,4.0,1000000.0,5000000.0,,,phone,always
    """
    return "".join(csv_trace_lines(fleet))


def csv_trace_lines(fleet: Fleet) -> Iterator[str]:
    """The lines of `csv_trace`, each with its end."""
    writer = csv.writer(_Echo(), lineterminator="\n")
    yield writer.writerow(_header(fleet))
    for row in _rows(fleet):
        yield writer.writerow(row)


class _Echo:
    """A file whose `write` hands the text back, as `writerow` then does."""

    def write(self, text: str) -> str:
        return text


def _json_trace(fleet: Fleet) -> str:
    header = _header(fleet)
    rows = (
        {name: value for name, value in zip(header, row, strict=True) if value != ""}
        for row in _rows(fleet)
    )
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n"


def _header(fleet: Fleet) -> list[str]:
    has_own = any(d.slowdowns for d in fleet.devices)
    return [*_NEEDED, *_MAY, *([_OWN] if has_own else [])]


def _rows(fleet: Fleet) -> Iterator[list[str | float]]:
    width = len(_header(fleet))
    for client, (d, windows) in enumerate(zip(fleet.devices, fleet.windows, strict=True)):
        row: list[str | float] = [
            str(client),
            d.slowdown,
            d.uplink_bytes_per_second,
            d.downlink_bytes_per_second,
            "" if math.isinf(d.memory_bytes) else d.memory_bytes,
            d.active_watts or "",
            d.device_class,
            str(windows),
            " ".join(f"{strategy}={value!r}" for strategy, value in d.slowdowns),
        ]
        yield row[:width]


def _read_profiles(path: str) -> Fleet:
    """A client per file; `path` is a folder or a pattern."""
    pattern = str(Path(glob.escape(path)) / "*.json") if Path(path).is_dir() else path
    files = sorted(glob.glob(pattern))
    if not files:
        raise ValueError(
            f"{path}: must hold device profiles, but there is none. Write one on each device with "
            "`fedhq profile --device NAME --out FILE.json`."
        )
    return Fleet([DeviceProfile.load(Path(file)) for file in files])


def _csv_rows(source: Source) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each row stands, and its values by column."""
    lines = csv_lines(source)
    _, header = next(lines, (0, []))
    _check_columns(source.name, header)
    for line, values in lines:
        yield source.at(line), dict(zip(header, values, strict=True))


def _parse_json(source: Source) -> object:
    try:
        content: object = json.loads(source.text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source.name}: must be valid JSON, but {error}.") from None
    return content


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _json_rows(source: Source, content: object) -> Iterator[tuple[str, dict[str, str]]]:
    if not isinstance(content, list):
        raise ValueError(
            f"{source.name}: must be a list of clients, but is a {type(content).__name__}."
        )
    for k, given in enumerate(content):
        place = f"{source.name}, client {k + 1} of the list"
        if not isinstance(given, dict):
            raise ValueError(f"{place}: must be an object, but is {given!r:.40}.")
        _check_columns(place, list(given))
        yield place, {name: _plain(place, name, value) for name, value in given.items()}


def _plain(place: str, name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{place}: `{name}` must be a number or a text, but is {value!r:.40}.")
    return str(value)


def _check_columns(place: str, columns: Sequence[str]) -> None:
    known = (*_NEEDED, *_MAY, _OWN)
    missing = [c for c in _NEEDED if c not in columns]
    unknown = [c for c in columns if c not in known]
    doubled = sorted({c for c in columns if columns.count(c) > 1})
    for fault, names in (("lacks", missing), ("is not known", unknown), ("is doubled", doubled)):
        if names:
            raise ValueError(
                f"{place}: the columns must be {', '.join(_NEEDED)}, and may be "
                f"{', '.join((*_MAY, _OWN))}, but {names[0]!r} {fault}."
            )


def _fleet(name: str, rows: Iterable[tuple[str, Mapping[str, str]]]) -> Fleet:
    devices, windows, clients = [], [], set()
    for place, row in rows:
        try:
            if row["client"] in clients or not row["client"]:
                raise ValueError(
                    "`client` must be a name of its own, but "
                    f"{row['client']!r} is empty or stands there already."
                )
            devices.append(_device(row))
            windows.append(Windows.parse(row.get("online") or "always"))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        clients.add(row["client"])
    if not devices:
        raise ValueError(f"{name}: must have a row for at least one client, but has none.")
    return Fleet(devices, windows)


def _device(row: Mapping[str, str]) -> DeviceProfile:
    return DeviceProfile(
        device_class=row.get("device_class") or _UNNAMED_CLASS,
        slowdown=_number(row, "slowdown"),
        uplink_bytes_per_second=_number(row, "uplink_bytes_per_second"),
        downlink_bytes_per_second=_number(row, "downlink_bytes_per_second"),
        memory_bytes=_number(row, "memory_bytes") if row.get("memory_bytes") else math.inf,
        active_watts=_number(row, "active_watts") if row.get("active_watts") else 0.0,
        slowdowns=tuple(_own(text) for text in row.get(_OWN, "").split()),
    )


def _number(row: Mapping[str, str], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"`{name}` must be a finite number, but is {row[name]!r}.")
    return value


def _own(text: str) -> tuple[Strategy, float]:
    strategy, _, value = text.partition("=")
    return Strategy.parse(strategy), _number({_OWN: value}, _OWN)
