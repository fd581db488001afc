"""`fedhq fleet` and `fedhq profile --device` as a person uses them; energy in a configuration."""

import csv
import json
import os
import pickle

import numpy as np
import pytest

from fedhq.allocator import DeviceProfile, StepProfile, parse_menu, solve
from fedhq.fl_core.federation import Federation
from fedhq.fl_core.fleet.trace import read_trace
from fedhq.studies.arms import make_allocator, make_trainer
from fedhq.studies.cli import main
from fedhq.studies.config import parse_run, run_text
from fedhq.studies.device import device_of
from fedhq.studies.tables import read_table

TRACE = """client,slowdown,uplink_bytes_per_second,downlink_bytes_per_second,memory_bytes,\
active_watts,device_class,online
a,2,1e6,4e6,2e9,3,phone,0:6 per 10
b,6,2e5,1e6,1e9,5,phone,always
c,1,1e6,4e6,,,tablet,
d,8,1e5,1e5,,,phone,never
"""


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(TRACE, encoding="utf-8")
    return path


def test_a_trace_is_shown_by_class_and_written_as_a_table(trace, tmp_path, capsys) -> None:
    table = tmp_path / "table.csv"
    assert main(["fleet", "show", str(trace), "--csv", str(table)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 clients by class of devices:"
    phone = ["phone", "3", "6", "2", "8", "200", "kB", "1", "MB", "1", "GB"]
    assert lines[2].split()[: len(phone)] == phone
    assert lines[3].split() == ["tablet", *"1 1 1 1 1 MB 4 MB - - 100 %".split()]
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["phone", "tablet"]
    assert float(rows[0]["online_share_mean"]) == pytest.approx(1.6 / 3)
    assert (rows[0]["memory_bytes_min"], rows[1]["memory_bytes_min"]) == ("1000000000.0", "")


def test_the_fleet_of_a_configuration_is_the_one_that_trains(config, tmp_path, capsys) -> None:
    out = tmp_path / "out.json"
    changes = ["fleet.kind=lognormal", "fleet.availability={online_share=0.5}"]
    overrides = [part for change in changes for part in ("--set", change)]
    assert main(["fleet", "show", str(config), *overrides, "--trace", str(out)]) == 0
    assert "50 %" in capsys.readouterr().out
    settings = parse_run(read_table(config, changes)).federation
    federation = Federation.build(settings)
    written = read_trace(str(out))
    assert written.devices == federation.fleet.devices
    assert written.windows == federation.fleet.windows


def test_the_fleet_of_a_comparison_is_its_first(comparison_config, capsys) -> None:
    assert main(["fleet", "show", str(comparison_config)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("4 clients")
    assert "fast" in printed


def test_a_fleet_that_was_written_trains_the_same(config, tmp_path) -> None:
    out = tmp_path / "frozen.csv"
    main(["fleet", "show", str(config), "--trace", str(out)])
    frozen = read_table(config, ["fleet.kind=trace", f"fleet.path={out}"])
    tables = [
        Federation.build(parse_run(t).federation).hardware for t in (read_table(config), frozen)
    ]
    assert tables[0].seconds.tobytes() == tables[1].seconds.tobytes()
    assert parse_run(json.loads(run_text(parse_run(frozen)))) == parse_run(frozen)


def test_a_run_is_not_resumed_with_another_trace(config, trace, tmp_path, capsys) -> None:
    command = ["run", str(config), "--out", str(tmp_path / "out"), "--set", "training.rounds=1"]
    command += ["--set", "fleet.kind=trace", "--set", f"fleet.path={trace}"]
    assert main(command) == 0
    trace.write_text(TRACE.replace("never", "0:1"), encoding="utf-8")
    assert main(command) == 2
    assert "digests.fleet" in capsys.readouterr().err


def test_fedscales_pickles_become_a_trace(tmp_path, capsys) -> None:
    speeds, sessions, out = (tmp_path / name for name in ("speeds", "sessions", "t.csv"))
    rows = {k: {"computation": 10.0 * k, "communication": 800.0} for k in (1, 2, 3)}
    speeds.write_bytes(pickle.dumps(rows))
    one = {"active": [2], "inactive": [5], "finish_time": 10, "model": "X", "duration": 3}
    sessions.write_bytes(pickle.dumps({7: one}))
    command = ["fleet", "convert", str(speeds), "--out", str(out)]
    assert main([*command, "--availability", str(sessions), "--median-slowdown", "4"]) == 0
    assert capsys.readouterr().out == f"3 clients\ntrace: {out}\n"
    assert out.read_text("utf-8").splitlines()[2] == "1,4.0,100000.0,100000.0,,,X,2:5 per 10"
    assert main([*command, "--clients", "2"]) == 0
    assert len(out.read_text("utf-8").splitlines()) == 3


class MakesFolder:
    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_faults_are_told_in_one_message(config, trace, tmp_path, capsys) -> None:
    bad, text = tmp_path / "bad", str(trace)
    bad.write_bytes(pickle.dumps({1: MakesFolder(tmp_path / "made")}))
    device = ["profile", "--data", "digits", "--out", str(tmp_path / "d.json")]
    both = ["--device", "x", "--uplink", "1e6", "--downlink", "1e6"]
    for arguments, part in (
        (["fleet", "show", text, "--set", "a=1"], "is a trace, which has no keys"),
        (["fleet", "show", text, "--trace", text], "must not be a file that is read"),
        (["fleet", "show", text, "--csv", "x.json"], "must end in .csv"),
        (["fleet", "show", str(config), "--set", "fleet.kind=trace"], "`fleet.path` must name"),
        (["fleet", "show", str(tmp_path / "no.csv")], "No such file"),
        (["fleet", "convert", str(bad), "--out", str(tmp_path / "t.csv")], "mkdir, which is no"),
        (["fleet", "convert", str(bad), "--out", str(bad)], "must end in .csv or .json"),
        ([*device, "--watts", "3"], "--watts: belongs to a device profile"),
        ([*device, "--device", "x", "--uplink", "1e6"], "--downlink lacks"),
        ([*device, *both[:-1], "-1"], "`downlink_bytes_per_second > 0`"),
        ([*device, *both, "--menu", "qat-w8a7"], "qat-w8a7 was not measured"),
        ([*device, *both, "--model", "resnet20"], "resnet20.json to ship"),
    ):
        assert main(arguments) == 2, arguments
        told = capsys.readouterr().err
        assert told.startswith("fedhq: error: ")
        assert part in told
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "d.json").exists()


def step_profile(**seconds) -> StepProfile:
    menu = parse_menu(name.replace("_", "-") for name in seconds)
    times = np.array(list(seconds.values()))
    return StepProfile("toy", 32, menu, times, np.zeros(len(times)), "by hand")


def test_a_devices_slowdowns_are_its_steps_over_the_references() -> None:
    mine = step_profile(skip=0, fp32=0.03, ptq_w2a2=0.05, qat_w2a2=0.12)
    reference = step_profile(qat_w2a2=0.02, fp32=0.01, ptq_w2a2=0.01)
    device = device_of(
        "pi", mine, reference, uplink_bytes_per_second=1e6, downlink_bytes_per_second=2e6
    )
    assert {str(s): v for s, v in device.slowdowns} == pytest.approx(
        {"fp32": 3, "ptq-w2a2": 5, "qat-w2a2": 6}
    )
    assert device.slowdown == pytest.approx(5)
    with pytest.raises(ValueError, match="was not measured"):
        device_of(
            "pi", reference, step_profile(fp32=1),
            uplink_bytes_per_second=1, downlink_bytes_per_second=1,
        )  # fmt: skip


def test_this_machine_becomes_a_device_of_a_fleet(config, tmp_path, capsys) -> None:
    folder = tmp_path / "devices"
    step = ["profile", "--data", "digits", "--samples", "1", "--menu", "fp32,qat-w2a2"]
    command = [*step, "--device", "laptop", "--uplink", "5e6", "--downlink", "2e7", "--watts", "30"]
    assert main([*command, "--out", str(folder / "a.json")]) == 0
    device = DeviceProfile.load(folder / "a.json")
    assert (device.device_class, device.active_watts) == ("laptop", 30)
    assert [str(s) for s, _ in device.slowdowns] == ["fp32", "qat-w2a2"]
    assert device.memory_bytes > 1e8
    own = tmp_path / "own.json"
    assert main([*step, "--out", str(own)]) == 0
    assert main([*command, "--reference", str(own), "--out", str(folder / "b.json")]) == 0
    changes = ["fleet.kind=trace", f"fleet.path={folder}/*.json"]
    federation = Federation.build(parse_run(read_table(config, changes)).federation)
    assert {d.device_class for d in federation.fleet.devices} == {"laptop"}
    assert np.isfinite(federation.hardware.energy_joules).all()


def test_energy_is_limited_by_a_configuration(config, tmp_path) -> None:
    watts = [f"fleet.classes.{k}.active_watts={w}" for k, w in enumerate((2.0, 4.0))]
    free = parse_run(read_table(config, [*watts, "allocation.tradeoff=1.0"]))
    joules = Federation.build(free.federation).hardware.energy_joules
    limit = joules.max(axis=1).sum() * 0.7
    changes = ["allocation.solver=exact", "allocation.tradeoff=50.0"]
    table = read_table(config, [*watts, *changes, f"allocation.energy_joules={limit}"])
    run = parse_run(table)
    allocator = make_allocator(run, Federation.build(run.federation))
    solution = solve(allocator.problem(), allocator.solver)
    assert 0 < joules[np.arange(4), solution.allocation.choice].sum() <= limit
    assert "energy_joules" in str(solution.explain())
    unknown = parse_run(read_table(config, [f"allocation.energy_joules={limit}"]))
    with pytest.raises(ValueError, match="`active_watts`"):
        make_trainer(unknown, tmp_path)
