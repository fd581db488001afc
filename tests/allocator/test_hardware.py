"""The time model against sums written out, and profiles that survive a file."""

import dataclasses
import json

import numpy as np
import pytest

from fedhq.allocator import DeviceProfile, StepProfile, analyse_hardware, parse_menu

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


def test_tables_carry_their_menu() -> None:
    tables = analyse_hardware([FAST, SLOW], [1, 1], PROFILE, [0, 0, 0], 0)
    assert tables.strategies == MENU
    with pytest.raises(ValueError, match=r"`seconds` must have shape \(2, 2\), but got \(2, 3\)"):
        dataclasses.replace(tables, strategies=MENU[:2])
