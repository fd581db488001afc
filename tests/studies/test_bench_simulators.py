"""The comparison with other simulators: one task for all, and a table whatever a program does."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fedhq.allocator.errors import FedHQError
from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.data.datasets import Dataset
from fedhq.fl_core.engine.local import LocalTrainer
from fedhq.fl_core.seeds import Purpose, generator
from fedhq.fl_core.settings import TrainingSettings
from fedhq.fl_core.weights import read_weights
from fedhq.models import build_model
from fedhq.studies import bench_simulators, environments
from fedhq.studies.bench_simulators import Plan
from fedhq.studies.environments import Environment, make_environment
from fedhq.studies.simulator_runs import Repetition, read_run, table
from fedhq.studies.simulators import task
from fedhq.studies.simulators.programs import PROGRAMS, Program, count_lines
from fedhq.studies.watched import Watched, run_watched

BY_NAME = {program.name: program for program in PROGRAMS}
BARE, FEDHQ, FLOWER = (BY_NAME[name] for name in ("bare", "fedhq", "flower"))
GOOD = Repetition("", 1.5, (9.0, 0.2, 0.3, 0.25, 7.0), 0.9, 300 * 2**20)


@pytest.fixture
def small_task(tmp_path, monkeypatch):
    """A task of two clients with 8 x 8 images, saved and loaded."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(50, 1, 8, 8, generator=generator)
    labels = torch.randint(0, 3, (50,), generator=generator)
    labels[:3] = torch.arange(3)
    model = build_model("cnn", (1, 8, 8), 3, 0)
    made = task.Task(
        clients=[(inputs[:20], labels[:20]), (inputs[20:], labels[20:])],
        test=(inputs, labels),
        weights={name: p.detach() for name, p in model.named_parameters()},
        rates=[0.1, 0.05, 0.02],
        epochs=2,
        batch_size=8,
        seed=[4, int(Purpose.BATCHES)],
    )
    made.save(tmp_path / "task.npz")
    monkeypatch.setenv(task.FILE_VARIABLE, str(tmp_path / "task.npz"))
    task.load.cache_clear()
    yield made
    task.load.cache_clear()


@pytest.mark.parametrize("network", ["torch", "fedhq"])
def test_a_client_of_the_task_trains_to_what_fedhq_trains_it_to(
    network, small_task, monkeypatch
) -> None:
    monkeypatch.setenv(task.NETWORK_VARIABLE, network)
    model = task.build_model()
    first = read_weights(model)
    task.train_(model, client=1, round_number=2)

    training = TrainingSettings(local_epochs=2, batch_size=8)
    trainer = LocalTrainer(build_model("cnn", (1, 8, 8), 3, 0), training)
    data = Dataset(*small_task.clients[1], num_classes=3)
    rng = generator(4, Purpose.BATCHES, 2, 1)
    ours = trainer.train(first, data, Strategy.parse("fp32"), 0.05, rng).update
    theirs = read_weights(model)
    for name, update in ours.items():
        np.testing.assert_allclose(theirs[name] - first[name], update, rtol=1e-4, atol=1e-6)
    assert any(update.any() for update in ours.values())


def test_a_program_tells_rounds_and_accuracy_that_can_be_read(small_task, capsys) -> None:
    task.begin()
    for number in (1, 2, 3):
        task.report(number)
    task.finish(task.build_model())
    output = "some framework says hello\n{not: json\n" + capsys.readouterr().out
    run = Watched(time.monotonic() - 5, output, "", 7)
    found = read_run(run, rounds=3)
    assert found.failure == ""
    assert 0 < found.startup_seconds <= 5
    assert len(found.round_seconds) == 3
    assert 0 <= found.accuracy <= 1
    assert found.peak_bytes == 7
    assert "but got [0, 1, 2, 3]" in read_run(run, rounds=4).failure


def test_lines_are_those_with_code() -> None:
    source = '''"""What it is.

It has three lines."""

# A comment.
import sys  # and another


def main():
    """Says it."""
    text = """two
lines"""
    print(text,
          sys.argv)
'''
    assert count_lines(source) == 6


def test_the_table_sets_first_and_last_rounds_apart_and_gives_ratios() -> None:
    slow = Repetition("", 12.0, (3.0, 0.6, 0.5, 0.4, 0.5), 0.89, None)
    lines = table([BARE, FLOWER], {"bare": [GOOD, GOOD], "flower": [slow]}).splitlines()
    bare = [cell.strip() for cell in lines[2].split("|")]
    flower = [cell.strip() for cell in lines[3].split("|")]
    assert bare[2:8] == ["0.250", "1.00", "0.200", "1.00", "10.2 s", "300 MiB"]
    assert flower[2:8] == ["0.500", "2.00", "0.400", "2.00", "14.5 s", ""]
    assert flower[9:11] == ["0.890", "flwr 1.42.0"]


def test_the_table_says_who_failed_and_who_trains_something_else() -> None:
    runs = {
        "bare": [GOOD],
        "fedhq": [GOOD, GOOD, Repetition("", 1.0, GOOD.round_seconds, 0.5, 1)],
        "flower": [GOOD, Repetition("a | b")],
    }
    bare, fedhq, flower = table([BARE, FEDHQ, FLOWER], runs).splitlines()[2:]
    assert "same" not in bare
    assert "| 0.500 to 0.900 | " in fedhq
    assert "**does not train the same" in fedhq
    assert "**failed: a / b**" in flower
    assert "10.2 s" not in flower


def test_without_the_first_there_are_no_ratios() -> None:
    runs = {"bare": [Repetition("killed")], "fedhq": [GOOD]}
    assert "| 0.250 |  | 0.200 |  |" in table([BARE, FEDHQ], runs)


def watch(tmp_path: Path, code: str, timeout_seconds: float = 20.0) -> Watched:
    command = [sys.executable, "-c", code]
    return run_watched(command, os.environ, tmp_path / "it.log", timeout_seconds)


def test_a_failing_program_says_its_error(tmp_path) -> None:
    run = watch(tmp_path, "import sys; print('so far'); print(1 / 0)")
    assert run.failure == "ZeroDivisionError: division by zero"
    assert run.output == "so far\n"
    assert watch(tmp_path, "raise SystemExit(3)").failure == "exit status 3"


LEAVES_A_CHILD = """
import subprocess, sys, time
hold = "b = bytearray(200 << 20); import sys, time; print('held', flush=True); time.sleep(60)"
child = subprocess.Popen(
    [sys.executable, "-c", hold], env={}, start_new_session=True, stdout=subprocess.PIPE
)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(%s)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.parametrize(
    ("seconds", "limit", "failure"), [(2, 60, ""), (60, 4, "not over after 4 s")]
)
def test_no_process_is_left_and_memory_is_that_of_all(tmp_path, seconds, limit, failure) -> None:
    start = time.monotonic()
    run = watch(tmp_path, LEAVES_A_CHILD % seconds, timeout_seconds=limit)
    assert time.monotonic() - start < 55  # the process that is left would take 60
    assert run.failure == failure
    assert run.peak_bytes is not None
    assert run.peak_bytes > 200 << 20
    child = Path(f"/proc/{int(run.output)}/stat")
    deadline = time.monotonic() + 60
    while child.exists() and ") Z " not in child.read_text("ascii"):
        assert time.monotonic() < deadline, "a process of a session of its own was left"
        time.sleep(0.02)


def test_a_program_that_cannot_be_installed_or_fails_does_not_stop_the_rest(
    tmp_path, monkeypatch
) -> None:
    def refuse(environment: Environment, folder: Path, seconds: float) -> Path:
        raise FedHQError("cannot be installed: there is none.")

    good = tmp_path / "good.py"
    good.write_text(
        "import json\n"
        "for n in range(4): print(json.dumps({'at': n, 'round': n, 'torch_seconds': 0}))\n"
        "print(json.dumps({'at': 9, 'accuracy': 0.5}))\n",
        "utf-8",
    )
    bad = tmp_path / "bad.py"
    bad.write_text("raise RuntimeError('no')\n", "utf-8")
    monkeypatch.setattr(bench_simulators, "make_environment", refuse)
    monkeypatch.setattr(bench_simulators, "write_task", lambda rounds, path: None)
    programs = (
        Program("foreign", "Foreign", str(good), environment=Environment("foreign", ())),
        Program("bad", "Bad", str(bad)),
        Program("good", "Good", str(good)),
    )
    plan = Plan(programs, 3, 2, tmp_path / "cache", timeout_seconds=20)
    bench_simulators.run(plan, tmp_path / "out.md")
    foreign, failed, fine = (tmp_path / "out.md").read_text("utf-8").splitlines()[-3:]
    assert "failed: cannot be installed: there is none." in foreign
    assert "failed: RuntimeError: no" in failed
    assert "| 1.000 |" in fine
    records = (tmp_path / "out.json").read_text("utf-8")
    assert records.count('"failure": ""') == 2
    assert records.count('"failure": "RuntimeError: no"') == 1


@pytest.mark.parametrize("argument", ["--rounds=2", "--repetitions=0", "--timeout=0"])
def test_what_cannot_be_run_is_refused(argument, capsys) -> None:
    with pytest.raises(SystemExit):
        bench_simulators.main([argument])
    assert ">=" in capsys.readouterr().err


@pytest.mark.slow
def test_an_environment_without_its_packages_says_why_and_is_not_taken_for_whole(
    tmp_path, monkeypatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    monkeypatch.setattr(environments, "_PINNED", ("torch",))
    for _ in range(2):
        with pytest.raises(FedHQError, match=r"cannot be installed: .+; see .*none\.log"):
            make_environment(Environment("none", ()), tmp_path, 120.0)


@pytest.mark.slow
def test_fedhq_and_the_bare_loop_train_the_same(tmp_path) -> None:
    plan = Plan((BARE, FEDHQ), 3, 1, tmp_path, timeout_seconds=240)
    bench_simulators.write_task(plan.rounds, plan.task_file)
    bare, ours = (
        bench_simulators.run_program(p, p.command(None), plan, tmp_path / f"{p.name}.log")
        for p in plan.programs
    )
    assert bare.failure == ours.failure == ""
    assert bare.accuracy == pytest.approx(ours.accuracy, abs=0.003)
    assert bare.accuracy > 0.3
