"""The command as a process: without its packages, interrupted, killed."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from fedhq.studies.cli import main


def test_without_the_trainers_packages_the_command_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['rich'] = None; from fedhq.studies.entry import main\n"
        "sys.exit(main(['--help']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "fedhq: error: the command needs rich, which is not installed; "
        "run: pip install 'fedhq[all]'\n"
    )


def test_the_command_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "fedhq.studies", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+\.\d+.*\n", done.stdout)


def of_session(leader: int) -> list[str]:
    """The processes of a session, by number."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            if path.read_text("ascii").rpartition(")")[2].split()[3] == str(leader):
                found.append(path.parent.name)
    return found


@pytest.mark.slow
@pytest.mark.long
def test_a_run_with_workers_that_is_stopped_leaves_no_process_and_resumes(config, tmp_path) -> None:
    """Ctrl-C reaches the workers, too; a kill the parent alone."""

    def options(name: str, workers: int) -> list[str]:
        places = ["--out", str(tmp_path / name), "--workers", str(workers), "--quiet"]
        return ["run", str(config), *places, "--set", "training.rounds=20"]

    records = tmp_path / "stopped" / "rounds.jsonl"
    for stop in (os.killpg, os.kill):
        how = signal.SIGINT if stop is os.killpg else signal.SIGKILL
        before = records.stat().st_size if records.exists() else 0
        process = subprocess.Popen(
            [sys.executable, "-m", "fedhq.studies", *options("stopped", 2)],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        while not records.exists() or records.stat().st_size <= before:
            assert process.poll() is None
            time.sleep(0.01)
        processes = of_session(process.pid)
        assert len(processes) >= 3
        stop(process.pid, how)
        told = process.communicate(timeout=60)[1]  # half a second on an idle machine
        wait_for_end(processes)
        if how == signal.SIGINT:
            assert process.returncode == 130
            assert told == "fedhq: stopped; the same command resumes where it was.\n"
    for name, workers in (("stopped", 2), ("whole", 1)):
        assert main(options(name, workers)) == 0
    for name in ("rounds.jsonl", "clients.jsonl", "checkpoint.safetensors", "model.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (
            tmp_path / "whole" / name
        ).read_bytes()


def wait_for_end(processes: list[str]) -> None:
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in processes):
        assert time.monotonic() < deadline, "the workers outlive the command"
        time.sleep(0.05)


@pytest.mark.slow
def test_an_interrupted_comparison_ends_its_workers_at_once(comparison_config, tmp_path) -> None:
    folder = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "fedhq.studies",
        "compare",
        str(comparison_config),
        "--out",
        str(folder),
    ]
    process = subprocess.Popen(
        [*command, "--set", "training.rounds=100000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 180
    while sum(1 for _ in folder.rglob("checkpoint.safetensors")) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    processes = of_session(process.pid)
    assert len(processes) >= 5  # itself, two that multiprocessing needs, two workers
    process.send_signal(signal.SIGINT)  # to the parent alone
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert told == "fedhq: stopped; the same command resumes where it was.\n"
    wait_for_end(processes)


@pytest.mark.slow
@pytest.mark.long
def test_a_killed_comparison_takes_its_workers_along_and_resumes_to_the_same_records(
    comparison_config, tmp_path
) -> None:
    changes = ["--set", "training.rounds=6", "--set", "compare.seeds=[0]"]

    def options(folder: Path) -> list[str]:
        return ["compare", str(comparison_config), "--out", str(folder), *changes]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main([*options(whole), "--set", "compare.workers=1"]) == 0
    code = "import sys; from fedhq.studies.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *options(killed)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and sum(1 for _ in killed.rglob("checkpoint.safetensors")) < 3:
        time.sleep(0.02)
    processes = of_session(process.pid)
    assert len(processes) >= 5
    process.kill()
    process.wait()
    wait_for_end(processes)
    assert main(options(killed)) == 0
    for name in ("rounds.jsonl", "clients.jsonl"):
        first = {p.relative_to(whole): p.read_bytes() for p in whole.rglob(name)}
        again = {p.relative_to(killed): p.read_bytes() for p in killed.rglob(name)}
        assert first == again
        assert len(first) == 6
