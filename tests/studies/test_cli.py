"""The command as a person uses it: real runs on real data, and clear words when it cannot."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedhq.fl_core.recorder import read_rounds
from fedhq.studies.cli import main

TINY = """
menu = ["skip", "ptq-w2a2", "qat-w2a2"]
[data]
name = "digits"
num_test = 200
num_calibration = 50
[partition]
num_clients = 4
[[fleet.classes]]
name = "fast"
share = 1
slowdown = 1
uplink_bytes_per_second = 1e6
downlink_bytes_per_second = 1e6
[[fleet.classes]]
name = "slow"
share = 1
slowdown = 3
uplink_bytes_per_second = 1e5
downlink_bytes_per_second = 1e5
[training]
rounds = 3
"""
ARMS = """
[compare]
seeds = [0, 1]
[[scenarios]]
name = "independent"
[[scenarios]]
name = "tied"
fleet.skew_correlation = 1.0
[[arms]]
name = "all-QAT"
allocation = { solver = "uniform" }
[[arms]]
name = "random"
allocation = { solver = "random", share = "fedhq" }
[[arms]]
name = "fedhq"
"""


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


def test_run_trains_records_saves_and_reports(config, tmp_path, capsys) -> None:
    folder = tmp_path / "out"
    assert main(["run", str(config), "--out", str(folder)]) == 0
    assert len(read_rounds(folder)) == 3
    assert json.loads((folder / "config.json").read_text("utf-8"))["training"]["rounds"] == 3
    assert (folder / "model.safetensors").stat().st_size > 1000
    assert "<html" in (folder / "report.html").read_text("utf-8")
    printed = capsys.readouterr().out
    assert "deployed accuracy" in printed
    assert "report.html" in printed


def test_compare_pairs_arms_and_gives_random_as_many_qat_clients_as_fedhq(
    config, tmp_path, capsys
) -> None:
    config.write_text(TINY + ARMS, encoding="utf-8")
    folder = tmp_path / "out"
    assert main(["compare", str(config), "--out", str(folder)]) == 0
    runs = sorted(p.parent.relative_to(folder) for p in folder.rglob("rounds.jsonl"))
    assert len(runs) == 2 * 3 * 2
    for scenario in ("independent", "tied"):
        for seed in ("seed-0", "seed-1"):
            shares = [
                (folder / scenario / arm / seed / "clients.jsonl").read_text("utf-8").count("qat")
                for arm in ("random", "fedhq")
            ]
            assert shares[0] == shares[1]
    printed = capsys.readouterr().out
    assert printed.count("all-QAT") == 2
    assert "±" in printed
    before = {run: (folder / run / "wall.jsonl").read_bytes() for run in runs}
    assert main(["compare", str(config), "--out", str(folder)]) == 0
    assert {run: (folder / run / "wall.jsonl").read_bytes() for run in runs} == before


def test_profile_writes_what_run_can_read(config, tmp_path, capsys) -> None:
    path = tmp_path / "mine.json"
    arguments = ["--data", "digits", "--samples", "2", "--out", str(path)]
    assert main(["profile", *arguments]) == 0
    assert "ms a step" in capsys.readouterr().out
    changes = ["--set", f"profile={path}", "--set", "training.rounds=1"]
    assert main(["run", str(config), "--out", str(tmp_path / "out"), *changes]) == 0


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "nowhere.toml"], ["cannot read nowhere.toml"]),
        (["run", "CONFIG", "--set", "training.rounds=0"], ["training.rounds = 0", "equal to 1"]),
        (["run", "CONFIG", "--set", "menu=['qat-w9a9']"], ["weight_bits", "9"]),
        (["run", "CONFIG", "--set", "menu=['magic']"], ["'magic'", "qat-w2a2"]),
        (["run", "CONFIG", "--set", "profile=gone.json"], ["gone.json", "fedhq profile"]),
        (["run", "CONFIG", "--set", "menu=['qat-w5a5']"], ["qat-w5a5", "not measured"]),
        (
            [
                "run",
                "CONFIG",
                "--set",
                "menu=['ptq-w2a2', 'qat-w2a2']",
                "--set",
                "allocation.deadline_seconds=1e-4",
            ],
            ["deadline_seconds = 0.0001", "deadline_seconds >= ", "'3' "],
        ),
        (["run", "CONFIG", "--set", "allocation.solver=milp"], ["tradeoff", "max_loss"]),
        (["compare", "CONFIG"], ["[[arms]]"]),
    ],
)
def test_faults_are_told_in_one_message_that_names_value_and_rule(
    config, tmp_path, capsys, arguments, parts
) -> None:
    arguments = [str(config) if a == "CONFIG" else a for a in arguments]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("fedhq: error: ")
    for part in parts:
        assert part in told


def test_a_damaged_checkpoint_is_named(config, tmp_path, capsys) -> None:
    folder = tmp_path / "out"
    assert main(["run", str(config), "--out", str(folder)]) == 0
    checkpoint = folder / "checkpoint.safetensors"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    assert main(["run", str(config), "--out", str(folder)]) == 2
    assert "checkpoint.safetensors" in capsys.readouterr().err


def test_help_teaches(capsys) -> None:
    for arguments in (["--help"], ["compare", "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "fedhq compare demo" in printed
    assert "training.rounds=5" in printed


@pytest.mark.slow
def test_a_killed_comparison_takes_its_workers_along_and_resumes_to_the_same_records(
    config, tmp_path
) -> None:
    config.write_text(TINY + ARMS, encoding="utf-8")
    changes = ["--set", "training.rounds=12", "--set", "compare.seeds=[0]"]

    def command(folder: Path) -> list[str]:
        code = "import sys; from fedhq.studies.cli import main; sys.exit(main(sys.argv[1:]))"
        return [sys.executable, "-c", code, "compare", str(config), "--out", str(folder), *changes]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole), check=True, capture_output=True)
    process = subprocess.Popen(
        command(killed),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and sum(1 for _ in killed.rglob("checkpoint.safetensors")) < 3:
        time.sleep(0.02)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii").split()
    assert len(workers) >= 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "the workers outlive the command"
        time.sleep(0.05)
    subprocess.run(command(killed), check=True, capture_output=True)
    for name in ("rounds.jsonl", "clients.jsonl"):
        first = {p.relative_to(whole): p.read_bytes() for p in whole.rglob(name)}
        again = {p.relative_to(killed): p.read_bytes() for p in killed.rglob(name)}
        assert first == again
        assert len(first) == 6
