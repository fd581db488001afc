"""The time model against sums written out, and profiles that survive a file."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import DeviceProfile, StepProfile, Strategy, analyse_hardware, parse_menu

MENU = parse_menu(["skip", "fp32", "qat-w2a2"])
PROFILE = StepProfile(
    "toy", 32, MENU, np.array([0, 0.01, 0.02]), np.array([0, 1e6, 3e6]), "by hand"
)
FAST = DeviceProfile("fast", 1.0, 1e6, 2e6)
SLOW = DeviceProfile("slow", 4.0, 1e5, 1e6, memory_bytes=2e6)


def test_seconds_are_download_plus_steps_plus_upload() -> None:
    tables = analyse_hardware([FAST, SLOW], [10, 5], PROFILE, [0, 4e5, 1e5], 4e5)
    for i, (device, steps) in enumerate(((FAST, 10), (SLOW, 5))):
        assert tables.seconds[i, 0] == 0
        for s, sent in ((1, 4e5), (2, 1e5)):
            down = 4e5 / device.downlink_bytes_per_second
            up = sent / device.uplink_bytes_per_second
            compute = steps * PROFILE.step_seconds[s] * device.slowdown
            assert tables.seconds[i, s] == pytest.approx(down + compute + up, rel=1e-12)
    assert tables.uplink_bytes.tolist() == [[0, 4e5, 1e5]] * 2


def test_what_does_not_fit_into_memory_is_not_allowed() -> None:
    tables = analyse_hardware([FAST, SLOW], [1, 1], PROFILE, [0, 0, 0], 0)
    assert tables.allowed.tolist() == [[True, True, True], [True, True, False]]


@pytest.mark.parametrize("field", ["slowdown", "uplink_bytes_per_second", "memory_bytes"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_impossible_devices_are_refused_by_name(field, value) -> None:
    values = {"slowdown": 1, "uplink_bytes_per_second": 1, "downlink_bytes_per_second": 1}
    with pytest.raises(ValueError, match=f"{field} > 0"):
        DeviceProfile("broken", **{**values, field: value})


def test_a_profile_survives_its_file(tmp_path) -> None:
    PROFILE.save(tmp_path / "p.json")
    again = StepProfile.load(tmp_path / "p.json")
    assert (again.model, again.batch_size, again.strategies) == ("toy", 32, MENU)
    assert again.step_seconds.tolist() == PROFILE.step_seconds.tolist()
    assert again.memory_bytes.tolist() == PROFILE.memory_bytes.tolist()
    assert again.origin == "by hand"


def test_a_menu_is_selected_whatever_its_wire_bits_and_order() -> None:
    chosen = PROFILE.select(parse_menu(["qat-w2a2-u8", "skip", "qat-w2a2"]))
    assert chosen.step_seconds.tolist() == [0.02, 0, 0.02]
    with pytest.raises(ValueError, match=r"qat-w4a4 was not measured.*fedhq profile"):
        PROFILE.select(parse_menu(["qat-w4a4"]))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        json.dumps({"version": 99}),
        json.dumps(
            {"version": 1, "model": "m", "batch_size": 1, "origin": "", "strategies": {"x": {}}}
        ),
    ],
)
def test_foreign_and_newer_files_are_refused_by_name(tmp_path, content) -> None:
    path = tmp_path / "foreign.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"foreign.json must be a step profile"):
        StepProfile.load(path)
    with pytest.raises(ValueError, match=r"gone.json must be a step profile"):
        StepProfile.load(tmp_path / "gone.json")


def test_steps_without_time_are_refused() -> None:
    with pytest.raises(ValueError, match="step_seconds > 0"):
        StepProfile("toy", 1, MENU, np.array([0, 0.0, 1.0]), np.zeros(3), "by hand")


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_impossible_downloads_are_refused(value) -> None:
    with pytest.raises(ValueError, match=f"`downlink_bytes` must be finite .* got {value}"):
        analyse_hardware([FAST], [1], PROFILE, [0, 0, 0], value)


def test_joules_are_watts_times_the_time_of_the_steps_alone() -> None:
    devices = [replace(FAST, active_watts=2.5), SLOW]
    tables = analyse_hardware(devices, [10, 5], PROFILE, [0, 4e5, 1e5], 4e5)
    assert tables.energy_joules[0].tolist() == pytest.approx([0, 2.5 * 0.1, 2.5 * 0.2])
    assert tables.energy_joules[1, 0] == 0
    assert np.isnan(tables.energy_joules[1, 1:]).all()
    with pytest.raises(ValueError, match=r"`energy_joules` must have shape \(2, 3\)"):
        replace(tables, energy_joules=np.zeros((1, 3)))


def test_a_strategys_own_slowdown_counts_whatever_its_wire_bits() -> None:
    own = replace(SLOW, slowdowns=((Strategy.parse("qat-w2a2-u8"), 7.0),), active_watts=1.0)
    plain = analyse_hardware([FAST, SLOW], [10, 5], PROFILE, [0, 0, 0], 0)
    tables = analyse_hardware([FAST, own], [10, 5], PROFILE, [0, 0, 0], 0)
    assert tables.seconds[0].tolist() == plain.seconds[0].tolist()
    assert tables.seconds[1].tolist() == pytest.approx([0, 5 * 0.01 * 4, 5 * 0.02 * 7])
    assert tables.energy_joules[1].tolist() == tables.seconds[1].tolist()


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_impossible_watts_and_slowdowns_are_refused(value) -> None:
    with pytest.raises(ValueError, match=f"`active_watts` must be finite .* got {value}"):
        replace(FAST, active_watts=value)
    with pytest.raises(ValueError, match=f"`slowdowns` must .* fp32 has {value}"):
        replace(FAST, slowdowns=((MENU[1], value),))
    for doubled in ((MENU[0],), (MENU[1], Strategy.parse("fp32-u8"))):
        with pytest.raises(ValueError, match="`slowdowns` must give different strategies"):
            replace(FAST, slowdowns=tuple((s, 1.0) for s in doubled))


def test_a_device_survives_its_file_to_the_last_digit(tmp_path) -> None:
    own = replace(FAST, slowdowns=((MENU[1], 1 / 3), (MENU[2], 2.0)), active_watts=0.1)
    for device in (own, SLOW):
        device.save(tmp_path / "d.json")
        assert DeviceProfile.load(tmp_path / "d.json") == device


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"version": 2}, "version 2 instead of"),
        ({"format": "fedhq step profile"}, "'fedhq step profile', version 1 instead of"),
        ({"slowdown": -1}, "slowdown > 0"),
        ({"slowdown": "fast"}, "could not convert"),
        ({"slowdowns": {"magic": 1}}, "a strategy must be"),
        ({"slowdowns": [1]}, "AttributeError"),
    ],
)
def test_foreign_device_files_are_refused_by_name(tmp_path, change, part) -> None:
    path = tmp_path / "d.json"
    FAST.save(path)
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), encoding="utf-8")
    with pytest.raises(ValueError, match="d.json must be a device profile, but .*" + part):
        DeviceProfile.load(path)
    for content in ("", "3", "{}"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=r"d.json must be .*`fedhq profile --device`"):
            DeviceProfile.load(path)
    path.write_bytes(b" " * (2**20 + 1))
    with pytest.raises(ValueError, match=r"d.json must be .*`size <= 1 MiB` must hold"):
        DeviceProfile.load(path)
    with pytest.raises(ValueError, match=r"gone.json must be a device profile"):
        DeviceProfile.load(tmp_path / "gone.json")


def test_tables_carry_their_menu() -> None:
    tables = analyse_hardware([FAST, SLOW], [1, 1], PROFILE, [0, 0, 0], 0)
    assert tables.strategies == MENU
    with pytest.raises(ValueError, match=r"`seconds` must have shape \(2, 2\), .* got \(2, 3\)"):
        replace(tables, strategies=MENU[:2])
