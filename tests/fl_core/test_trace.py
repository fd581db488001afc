"""Traces survive their files, and what is wrong in one is told with its line."""

import json
import math

import pytest

from fedhq.allocator.hardware import DeviceProfile
from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.fleet import trace
from fedhq.fl_core.fleet.fleet import Fleet
from fedhq.fl_core.fleet.trace import read_trace, write_trace
from fedhq.fl_core.fleet.windows import Windows

NEEDED = "client,slowdown,uplink_bytes_per_second,downlink_bytes_per_second"
OWN = ((Strategy.parse("fp32"), 1 / 3), (Strategy.parse("qat-w2a2"), 5.0))
FLEET = Fleet(
    [
        DeviceProfile("phone, old", 4.1, 1e6 / 3, 4e6, 2e9, 3.5),
        DeviceProfile("tablet", 1.0, 1e6, 4e6),
        DeviceProfile("größer", 2.0, 1e6, 4e6, slowdowns=OWN),
    ],
    [Windows([(0, 1 / 3), (5, 9)], 10), Windows.always(), Windows([])],
)


@pytest.mark.parametrize("name", ["trace.csv", "trace.json", "TRACE.CSV"])
@pytest.mark.parametrize("clients", [[0, 1, 2], [1, 0]])
def test_a_fleet_survives_its_file_to_the_last_digit(tmp_path, name, clients) -> None:
    path, fleet = tmp_path / name, FLEET.take(clients)
    write_trace(path, fleet)
    again = read_trace(str(path))
    assert again.devices == fleet.devices
    assert again.windows == fleet.windows


def test_only_four_columns_are_needed_in_any_order(tmp_path) -> None:
    path = tmp_path / "t.csv"
    header = "downlink_bytes_per_second,client,slowdown,uplink_bytes_per_second"
    path.write_bytes(b"\xef\xbb\xbf" + f"{header}\r\n\r\n4e6,a,2,1e6\r\n".encode())
    fleet = read_trace(str(path))
    assert fleet.devices == (DeviceProfile("device", 2.0, 1e6, 4e6, math.inf),)
    assert fleet.windows == (Windows.always(),)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["'client' lacks"]),
        (NEEDED, ["at least one client"]),
        (f"{NEEDED},color\na,1,1,1,red", ["'color' is not known", "device_class"]),
        (f"{NEEDED},slowdown\na,1,1,1,1", ["'slowdown' is doubled"]),
        (f"{NEEDED}\na,1,1,1\nb,1,1", ["line 3", "4 values"]),
        (f"{NEEDED}\na,1,1,1\n\na,1,1,1", ["line 4", "'a' is empty or stands there already"]),
        (f"{NEEDED}\na,fast,1,1", ["line 2", "`slowdown` must be a finite number", "'fast'"]),
        (f"{NEEDED}\na,inf,1,1", ["line 2", "`slowdown` must be a finite number"]),
        (f"{NEEDED}\na,0,1,1", ["line 2", "`slowdown > 0`"]),
        (f"{NEEDED},active_watts\na,1,1,1,-2", ["line 2", "`active_watts`", "-2"]),
        (f"{NEEDED},online\na,1,1,1,9-17", ["line 2", "`online` must be", "'9-17'"]),
        (f"{NEEDED},slowdowns\na,1,1,1,qat-w9a9=2", ["line 2", "weight_bits=9"]),
        (f"{NEEDED},slowdowns\na,1,1,1,fp32=0", ["line 2", "`slowdowns`", "fp32 has 0"]),
    ],
)
def test_faults_of_a_csv_are_told_with_their_line(tmp_path, text, parts) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"t\.csv") as error:
        read_trace(str(path))
    for part in parts:
        assert part in str(error.value)


GOOD = dict.fromkeys(NEEDED.split(","), 1)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[", ["valid JSON", "line 1"]),
        ("[" * 100_000, ["valid JSON"]),
        ("3", ["list of clients, but is a int"]),
        ("[3]", ["client 1 of the list", "object"]),
        (json.dumps([GOOD, GOOD | {"client": 2, "slowdown": True}]), ["client 2 of", "True"]),
        (json.dumps([GOOD | {"slowdown": math.nan}]), ["NaN is no number"]),
        (json.dumps([GOOD | {"slowdown": [1]}]), ["`slowdown` must be a number or a text"]),
        ("{}", ["must be a device profile"]),
    ],
)
def test_faults_of_a_json_are_told_with_their_client(tmp_path, text, parts) -> None:
    path = tmp_path / "t.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"t\.json") as error:
        read_trace(str(path))
    for part in parts:
        assert part in str(error.value)


def test_files_that_are_no_traces_are_refused(tmp_path, monkeypatch) -> None:
    for path in (tmp_path / "t.pkl", tmp_path / "t"):
        with pytest.raises(ValueError, match=r"must end in \.csv or \.json"):
            read_trace(str(path))
        with pytest.raises(ValueError, match=r"must end in \.csv or \.json"):
            write_trace(path, FLEET)
    path = tmp_path / "t.csv"
    path.write_bytes(NEEDED.encode() + b"\na,1,1,1\nb\xff,1,1,1")
    with pytest.raises(ValueError, match="line 3: the file must be text in UTF-8"):
        read_trace(str(path))
    monkeypatch.setattr(trace, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match="size <= 0 MiB"):
        read_trace(str(path))


def test_device_profiles_are_read_as_a_folder_a_pattern_or_one_file(tmp_path) -> None:
    for name, device in zip("cab", FLEET.devices, strict=True):
        device.save(tmp_path / f"{name}.json")
    wanted = tuple(FLEET.devices[i] for i in (1, 2, 0))
    assert read_trace(str(tmp_path)).devices == wanted
    assert read_trace(str(tmp_path / "*.json")).devices == wanted
    assert read_trace(str(tmp_path / "b.json")).devices == wanted[1:2]
    (tmp_path / "d.json").write_bytes((tmp_path / "a.json").read_bytes() + b" " * 2**20)
    for path in (tmp_path, tmp_path / "*.json", tmp_path / "d.json"):
        with pytest.raises(ValueError, match=r"d\.json must be .*`size <= 1 MiB`"):
            read_trace(str(path))
    with pytest.raises(ValueError, match=r"none. Write one .*fedhq profile --device"):
        read_trace(str(tmp_path / "x*.json"))
