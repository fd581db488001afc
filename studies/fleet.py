"""`fedhq fleet`: shows the devices of a configuration or a trace, and converts foreign traces."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..allocator.explain.quantities import PERCENT, Unit, number
from ..allocator.hardware import DeviceProfile
from ..fl_core.federation import Federation
from ..fl_core.fleet.fedscale import read_fedscale
from ..fl_core.fleet.fleet import Fleet
from ..fl_core.fleet.trace import SUFFIXES, read_trace, write_trace
from .config import COMPARISON_KEYS, parse_compare, parse_run
from .plan_files import check_target, csv_text
from .plan_text import columns
from .tables import read_config

HELP = "show the devices of a configuration or a trace, or convert a foreign trace"
_MOST_CLASSES = 20
_HEADER = (
    "class",
    "clients",
    "slowdown_median",
    "slowdown_min",
    "slowdown_max",
    "uplink_bytes_per_second_median",
    "downlink_bytes_per_second_median",
    "memory_bytes_min",
    "active_watts_median",
    "online_share_mean",
)
_TITLES = (
    "class",
    "clients",
    "slowdown",
    "fastest",
    "slowest",
    "up/s",
    "down/s",
    "memory",
    "watts",
    "online",
)
_BYTES = Unit.of("bytes").text
_FORMATS = (number, number, number, number, _BYTES, _BYTES, _BYTES, number, PERCENT.text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the two commands and their options."""
    parser.description = "Shows a fleet's devices, or converts a foreign trace into one of ours."
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="the devices of a configuration or trace, by class")
    show.description = (
        "Shows by class: clients, median slowdown and its range, median rates, least memory, "
        "median watts, and the mean share of time online. Of a comparison it is the first arm's "
        "fleet in the first scenario with the first seed."
    )
    show.add_argument(
        "fleet",
        metavar="CONFIG|TRACE",
        help="TOML file or `demo`; a .csv or .json trace, or device profiles as 'devices/*.json'",
    )
    show.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="change a key of the configuration; repeatable",
    )  # fmt: skip
    show.add_argument("--csv", type=Path, metavar="FILE", help="write the table as CSV")
    show.add_argument(
        "--trace", type=Path, metavar="FILE", help="write every client's device: .csv or .json"
    )
    show.set_defaults(command=_show, resumes=False)
    _add_convert(commands.add_parser("convert", help="make a trace of FedScale's pickles"))


def _add_convert(convert: argparse.ArgumentParser) -> None:
    convert.description = (
        "Reads FedScale's pickled traces as data only, running nothing that they ask for, and "
        "writes a trace. Its speeds know no model: they count relative to the median device's."
    )
    convert.add_argument("devices", type=Path, metavar="IN", help="pickle of device speeds")
    convert.add_argument(
        "--availability", type=Path, metavar="IN2", help="pickle of sessions (default: always on)"
    )
    convert.add_argument(
        "--median-slowdown", type=float, default=1.0, metavar="X",
        help="of the median device over the profile's machine (default: %(default)s)",
    )  # fmt: skip
    convert.add_argument("--clients", type=int, metavar="N", help="only the first N (default: all)")
    convert.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="trace to write: .csv or .json"
    )
    convert.set_defaults(command=_convert, resumes=False)


def _show(options: argparse.Namespace) -> None:
    for option, path, suffixes in (
        ("--csv", options.csv, (".csv",)),
        ("--trace", options.trace, SUFFIXES),
    ):
        if path is not None:
            check_target(option, path, suffixes, [options.fleet])
    fleet = _load(options.fleet, options.overrides)
    rows = class_rows(fleet)
    cells = [[row[0], *map(_cell, row[1:], _FORMATS)] for row in rows[:_MOST_CLASSES]]
    print(f"{len(fleet)} clients by class of devices:\n{columns(_TITLES, cells)}")
    if len(rows) > _MOST_CLASSES:
        print(f"  ... and {len(rows) - _MOST_CLASSES} smaller classes: --csv FILE writes all")
    if options.csv is not None:
        options.csv.write_text(csv_text(_HEADER, map(_csv_row, rows)), encoding="utf-8")
    if options.trace is not None:
        write_trace(options.trace, fleet)


def _load(place: str, overrides: Sequence[str]) -> Fleet:
    if place != "demo" and Path(place).suffix.lower() != ".toml":
        if overrides:
            raise ValueError(f"--set {overrides[0]}: {place} is a trace, which has no keys.")
        return read_trace(place)
    table = read_config(place, overrides)
    if any(key in table for key in COMPARISON_KEYS):
        return Federation.build(parse_compare(table).jobs[0].config.federation).fleet
    return Federation.build(parse_run(table).federation).fleet


def class_rows(fleet: Fleet) -> list[tuple[str, *tuple[float, ...]]]:
    """One row a class of devices, the largest first: its name, and the columns of the table.

    Unlimited memory is infinite, unknown watts are NaN.

    Example:
        >>> phones = [DeviceProfile("phone", s, 1e6, 5e6) for s in (2.0, 4.0, 9.0)]
        >>> class_rows(Fleet(phones))[0][:5]
        ('phone', 3, 4.0, 2.0, 9.0)
    """
    members: dict[str, list[int]] = {}
    for i, device in enumerate(fleet.devices):
        members.setdefault(device.device_class, []).append(i)
    sizes = Counter({name: len(rows) for name, rows in members.items()})
    return [
        (
            name,
            *_columns(
                [fleet.devices[i] for i in members[name]],
                [fleet.windows[i].share for i in members[name]],
            ),
        )
        for name, _ in sizes.most_common()
    ]


def _columns(devices: Sequence[DeviceProfile], shares: Sequence[float]) -> tuple[float, ...]:
    slowdown = np.array([d.slowdown for d in devices])
    return (
        len(devices),
        float(np.median(slowdown)),
        float(slowdown.min()),
        float(slowdown.max()),
        float(np.median([d.uplink_bytes_per_second for d in devices])),
        float(np.median([d.downlink_bytes_per_second for d in devices])),
        min(d.memory_bytes for d in devices),
        float(np.median([d.active_watts or math.nan for d in devices])),
        float(np.mean(shares)),
    )


def _cell(value: float, text: Callable[[float], str]) -> str:
    return text(value) if math.isfinite(value) else "-"


def _csv_row(row: tuple[str, *tuple[float, ...]]) -> list[str | float]:
    """What is unlimited or unknown is empty, as in a trace."""
    name, *values = row
    return [name, *(value if math.isfinite(value) else "" for value in values)]


def _convert(options: argparse.Namespace) -> None:
    inputs = [str(p) for p in (options.devices, options.availability) if p is not None]
    check_target("--out", options.out, SUFFIXES, inputs)
    fleet = read_fedscale(
        options.devices,
        options.availability,
        median_slowdown=options.median_slowdown,
        num_clients=options.clients,
    )
    write_trace(options.out, fleet)
    print(f"{len(fleet)} clients\ntrace: {options.out}")
