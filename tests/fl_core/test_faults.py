"""Faults that whole runs survive, with real processes and files; `fl_core/faults.md` lists them."""

import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from fedhq.allocator import Uniform
from fedhq.allocator.errors import CheckpointError, FedHQError
from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.callbacks import Callback
from fedhq.fl_core.data.clients import PartitionedClients
from fedhq.fl_core.federation import Federation
from fedhq.fl_core.records.lock import RunLock
from fedhq.fl_core.records.recorder import RunRecorder, read_clients, read_rounds
from fedhq.fl_core.settings import ParticipationSettings, PartitionSettings, ServerSettings
from fedhq.fl_core.trainer import Trainer
from fedhq.fl_core.weights import read_weights

sys.path.insert(0, str(Path(__file__).parent))  # other processes import them by these names
import faulty_runs as runs
import hostile
from odd_clients import let_time_fly

CHECKPOINT = "checkpoint.safetensors"


class Killed(BaseException):
    """The process ends here, as far as files are concerned."""


class Stop(Callback):
    """Stops a run after a round, as Ctrl-C does."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_round(self, record, clients, wall) -> None:
        if record.round == self.after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> str:
    """What an undisturbed run leaves."""
    folder = tmp_path_factory.mktemp("calm")
    runs.make(folder).run()
    return runs.fingerprint(folder)


def statuses(folder: Path, number: int = 1) -> list[str]:
    return [c.status for c in read_clients(folder) if c.round == number]


# --- Workers and clients ---


class KillWorkers(Callback):
    """Kills a worker after every round."""

    def __init__(self) -> None:
        self.killed: list[int] = []

    def on_round(self, record, clients, wall) -> None:
        worker = multiprocessing.active_children()[record.round % 2]
        os.kill(worker.pid, signal.SIGKILL)
        self.killed.append(worker.pid)


def test_workers_killed_after_every_round_change_no_byte(tmp_path, calm) -> None:
    killer = KillWorkers()
    runs.make(tmp_path, workers=2, callbacks=[killer]).run()
    assert len(set(killer.killed)) == 4
    assert runs.fingerprint(tmp_path) == calm


def test_a_client_that_raises_fails_alone_and_alike_with_and_without_workers(tmp_path) -> None:
    federation = runs.with_clients(runs.federation(), raises=(0, 3))
    for workers in (1, 2):
        runs.make(tmp_path / str(workers), federation, workers=workers).run()
        assert statuses(tmp_path / str(workers)) == ["failed", *["ok"] * 2, "failed", *["ok"] * 2]
    failed = read_clients(tmp_path / "1")[3]
    assert failed.reason.startswith("OSError: the disk of client 3 is gone: ä")
    assert len(failed.reason) == 2000
    assert runs.fingerprint(tmp_path / "1") == runs.fingerprint(tmp_path / "2")


@pytest.mark.parametrize("together", [1, 6])
def test_clients_that_kill_their_worker_or_never_answer_fail_alone(
    tmp_path, monkeypatch, together
) -> None:
    training = replace(runs.CALM.training, rounds=1, clients_together=together)
    marker = tmp_path / "hangs"
    let_time_fly(monkeypatch, marker)
    federation = runs.with_clients(
        runs.federation(replace(runs.CALM, training=training)),
        dies=(1,),
        hangs=(4,),
        marker=str(marker),
    )
    runs.make(tmp_path, federation, workers=2, patience_seconds=60.0).run()
    assert statuses(tmp_path) == ["ok", "failed", "ok", "ok", "failed", "ok"]
    reasons = {c.client: c.reason for c in read_clients(tmp_path) if c.status == "failed"}
    assert reasons == {
        1: "its worker died 2 times (exit code -9)",
        4: "no answer in 60 s",
    }


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, "2", None])
def test_a_number_of_workers_that_cannot_be_is_named(tmp_path, workers) -> None:
    with pytest.raises(ValueError, match=r"`workers >= 1` must hold.*got " + repr(workers)):
        runs.make(tmp_path, workers=workers)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("workers", "patience"), [(2, 0.0), (2, float("nan")), (1, 5.0)])
def test_patience_that_cannot_be_is_named(tmp_path, workers, patience) -> None:
    with pytest.raises(ValueError, match="patience_seconds"):
        runs.make(tmp_path, workers=workers, patience_seconds=patience)


# --- The main process ---


def test_a_run_that_was_interrupted_goes_on_in_the_same_object_to_the_same_bytes(
    tmp_path, calm
) -> None:
    """Of the round that Ctrl-C hit nothing is left: no residual, no plan, no record."""
    hits = []

    def channel(round_number, client, payload):
        if (round_number, client) in {(1, 3), (3, 2)} - set(hits):
            hits.append((round_number, client))
            raise KeyboardInterrupt
        return [payload]

    federation = replace(runs.federation())
    trainer = runs.make(tmp_path / "same", federation, channel=channel)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
    trainer.run()
    assert len(hits) == 2
    assert runs.fingerprint(tmp_path / "same") == calm
    with pytest.raises(KeyboardInterrupt):
        runs.make(tmp_path / "new", federation, callbacks=[Stop(2)]).run()
    runs.make(tmp_path / "new", federation).run()
    assert runs.fingerprint(tmp_path / "new") == calm


def ends_of_writing(monkeypatch, folder: Path, rounds: int) -> Iterator[int]:
    """Runs that are killed at their first step of writing, their second, and so on.

    Steps are flushes and renames, which may be left out, and lines of records, of which half may
    be written.
    """
    left = 0
    write, fsync, replace_file = RunRecorder._write, os.fsync, os.replace

    def step() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def flush(file):
        if step():
            raise Killed
        fsync(file)

    def rename(source, target):
        if step():
            raise Killed
        replace_file(source, target)

    def append(self, name, records):
        before = (folder / name).stat().st_size
        write(self, name, records)
        if step():
            after = (folder / name).stat().st_size
            os.truncate(folder / name, (before + after) // 2)
            raise Killed

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(os, "replace", rename)
    monkeypatch.setattr(RunRecorder, "_write", append)
    for steps in range(1, 1000):
        left = steps
        try:
            runs.make_stormy(folder, rounds).run()
        except Killed:
            left = -1
            yield steps
        else:
            return


def test_killed_at_any_step_of_writing_a_run_resumes_to_the_same_bytes(
    tmp_path, monkeypatch
) -> None:
    runs.make_stormy(tmp_path / "whole", 2).run()
    expected = runs.fingerprint(tmp_path / "whole")
    folder = tmp_path / "killed"
    kills = 0
    for _ in ends_of_writing(monkeypatch, folder, 2):
        runs.make_stormy(folder, 2).run()
        assert runs.fingerprint(folder) == expected
        for path in folder.iterdir():
            path.unlink()
        kills += 1
    assert kills > 2 * 8  # 3 files and a checkpoint, written and flushed, in each round
    assert runs.fingerprint(folder) == expected


ROUNDS = 40


def start_and_kill(folder: Path, workers: int, rng: random.Random, way: int) -> bool:
    """Runs in a process of its own, killed at a random time or at a random flush; did it end so?

    By turns the time counts from the start, and from the first record that the process writes.
    """
    records = folder / "rounds.jsonl"
    before = records.stat().st_size if records.exists() else 0
    dies_at = rng.randint(4, 24) if way == 0 else None
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=runs.run_stormy, args=(folder, ROUNDS, workers, dies_at))
    process.start()
    if way == 1:
        process.join(rng.uniform(0.0, 1.0))
    elif way == 2:
        while process.is_alive() and (records.stat().st_size if records.exists() else 0) <= before:
            time.sleep(0.002)
        process.join(rng.uniform(0.0, 0.03))
    if way:
        process.kill()
    process.join()
    assert runs.all_end(process.pid), f"{runs.of_session(process.pid)} outlive their parent"
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.long
def test_killed_at_random_times_again_and_again_a_run_ends_with_the_same_bytes(
    tmp_path, workers
) -> None:
    runs.make_stormy(tmp_path / "whole", ROUNDS).run()
    expected = runs.fingerprint(tmp_path / "whole")
    multiprocessing.get_context("forkserver").set_forkserver_preload(["fedhq.fl_core.trainer"])
    rng = random.Random(workers)
    folder = tmp_path / "killed"
    kills = sum(start_and_kill(folder, workers, rng, k % 3) for k in range(6))
    assert kills >= 4
    runs.make_stormy(folder, ROUNDS).run()
    assert runs.fingerprint(folder) == expected


# --- Files ---


@contextmanager
def files_up_to(num_bytes: int) -> Iterator[None]:
    """No file may grow beyond a size, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("checkpoint_every", "name", "left"), [(1, CHECKPOINT, 1), (4, "clients.jsonl", 0)]
)
def test_a_full_disk_is_named_and_the_run_resumes_when_there_is_room(
    tmp_path, checkpoint_every, name, left
) -> None:
    training = replace(runs.CALM.training, checkpoint_every=checkpoint_every)
    federation = runs.federation(replace(runs.CALM, training=training))
    runs.make(tmp_path / "whole", federation).run()
    sizes = {p.name: p.stat().st_size for p in (tmp_path / "whole").iterdir()}
    folder = tmp_path / "full"
    with pytest.raises(KeyboardInterrupt):
        runs.make(folder, federation, callbacks=[Stop(1)]).run()
    limit = sizes["clients.jsonl"]  # less than a checkpoint
    if name != CHECKPOINT:
        limit //= 2  # of two rounds; a checkpoint would come after the fourth
    with files_up_to(limit), pytest.raises(CheckpointError, match=rf"{name} can be written.*space"):
        runs.make(folder, federation).run()
    resumed = runs.make(folder, federation)
    assert resumed.round_number == left
    resumed.run()
    assert runs.fingerprint(folder) == runs.fingerprint(tmp_path / "whole")


@contextmanager
def as_anybody() -> Iterator[None]:
    """Root may write everywhere: not as root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_read_only_folder_is_named_and_its_run_resumes_when_it_is_not(calm) -> None:
    with tempfile.TemporaryDirectory() as name:  # anybody may enter it, unlike `tmp_path`
        parent = Path(name)
        parent.chmod(0o755)
        (parent / "new").mkdir()
        with pytest.raises(KeyboardInterrupt):
            runs.make(parent / "begun", callbacks=[Stop(2)]).run()
        for folder in (parent / "new", parent / "begun"):
            folder.chmod(0o555)
            with as_anybody(), pytest.raises(CheckpointError, match=r"written.*Permission denied"):
                runs.make(folder).run()
            folder.chmod(0o755)
        assert not list((parent / "new").iterdir())
        runs.make(parent / "begun").run()
        assert runs.fingerprint(parent / "begun") == calm


def damaged(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def newer(data: bytes) -> bytes:
    assert data.count(b'format_version\\": 2') == 1
    return data.replace(b'format_version\\": 2', b'format_version\\": 9')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damaged, "its sha256 fits"),
        (lambda data: data[:-9], "Restore the file"),
        (lambda data: b"", "Restore the file"),
        (newer, r"format_version = 2.*it is 9. Update fedhq"),
    ],
    ids=["a bit", "half", "empty", "newer"],
)
def test_a_damaged_or_newer_checkpoint_is_refused_and_nothing_of_the_run_is_touched(
    tmp_path, change, message
) -> None:
    with pytest.raises(KeyboardInterrupt):
        runs.make(tmp_path, callbacks=[Stop(1)]).run()
    path = tmp_path / CHECKPOINT
    path.write_bytes(change(path.read_bytes()))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match=message):
        runs.make(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_two_processes_in_one_folder_do_not_mix(tmp_path, calm) -> None:
    early = runs.make(tmp_path)
    with RunLock(tmp_path):
        with pytest.raises(CheckpointError, match="one process works"):
            runs.make(tmp_path)
        with pytest.raises(CheckpointError, match="one process works"):
            early.run()
    with pytest.raises(KeyboardInterrupt):
        runs.make(tmp_path, callbacks=[Stop(2)]).run()
    early.run()  # goes on where the other stopped
    assert [r.round for r in read_rounds(tmp_path)] == [1, 2, 3, 4]
    assert runs.fingerprint(tmp_path) == calm


# --- Updates ---


def test_of_hostile_updates_each_is_refused_for_its_reason_and_nothing_is_learned(
    tmp_path,
) -> None:
    settings = replace(
        runs.CALM,
        partition=PartitionSettings("iid", num_clients=len(hostile.EXPECTED) + 3),
        server=ServerSettings(max_staleness=1),
    )
    federation = runs.federation(settings)
    template = read_weights(federation.model)
    weights = []
    for name in ("silent", "hostile"):
        attack = hostile.Attack(template, tmp_path, is_silent=name == "silent")
        weights.append(runs.make(tmp_path / name, federation, channel=attack).run())
    for key, values in weights[0].items():
        assert values.tobytes() == weights[1][key].tobytes()
    second, third = (
        [(c.reason or "").split(":")[0] for c in read_clients(tmp_path / "hostile") if c.round == k]
        for k in (2, 3)
    )
    assert dict(zip(hostile.EXPECTED, third, strict=False)) == hostile.EXPECTED
    assert third[-3:] == [""] * 3
    assert second[list(hostile.EXPECTED).index("of the first round")] == "replayed"
    assert not (tmp_path / "unpickled").exists()


@cache
def accuracy_under_attack(settings: ServerSettings, factor: float) -> float:
    """Of digits on ten clients, two of which send the opposite of what they learned."""
    federation = runs.federation(
        replace(
            runs.CALM,
            data=replace(runs.CALM.data, num_test=500),
            partition=PartitionSettings("iid", num_clients=10),
            server=settings,
            training=replace(
                runs.CALM.training,
                rounds=8,
                local_steps=None,
                local_epochs=4,
                learning_rate=0.2,
                evaluate_every=8,
            ),
        )
    )
    channel = hostile.flipping(read_weights(federation.model), (3, 8) if factor else (), factor)
    with tempfile.TemporaryDirectory() as folder:
        runs.make(Path(folder), federation, channel=channel).run()
        return read_rounds(Path(folder))[-1].float_accuracy


@pytest.mark.parametrize(
    "settings",
    [
        ServerSettings(aggregation="median"),
        ServerSettings(aggregation="trimmed_mean"),
        ServerSettings(outlier_factor=3.0),
    ],
    ids=["median", "trimmed mean", "outliers refused"],
)
def test_a_fifth_of_the_clients_that_flip_signs_cost_robust_runs_no_accuracy(settings) -> None:
    honest = accuracy_under_attack(ServerSettings(), 0.0)
    assert honest > 0.85
    assert accuracy_under_attack(settings, 5.0) > honest - 0.03
    assert accuracy_under_attack(ServerSettings(), 5.0) < honest - 0.3


# --- Clients without examples ---


def without_examples(*clients: int) -> Federation:
    federation = runs.federation()
    parts = list(federation.clients.parts)
    for client in clients:
        parts[client] = parts[client][:0]
    return replace(federation, clients=PartitionedClients(federation.clients.dataset, tuple(parts)))


@pytest.mark.parametrize("solver", [None, Uniform(Strategy.parse("fp32"))])
def test_clients_without_examples_are_never_asked(tmp_path, solver) -> None:
    federation = replace(
        without_examples(0, 1, 2, 4, 5), participation=ParticipationSettings(cohort=2)
    )
    Trainer(federation, federation.allocator(solver), tmp_path).run()
    assert {(c.client, c.status, c.share) for c in read_clients(tmp_path)} == {(3, "ok", 1.0)}
    with pytest.raises(ValueError, match="some client holds an example"):
        without_examples(*range(6))


def test_a_run_in_which_nobody_can_train_ends_with_the_reason(tmp_path) -> None:
    federation = runs.with_clients(runs.federation(), raises=tuple(range(6)))
    with pytest.raises(FedHQError, match=r"in 3 rounds.*the disk of client"):
        runs.make(tmp_path, federation).run()


def test_a_hopeless_run_that_is_resumed_ends_in_the_same_round(tmp_path) -> None:
    federation = runs.with_clients(runs.federation(), raises=tuple(range(6)))
    with pytest.raises(KeyboardInterrupt):
        runs.make(tmp_path, federation, callbacks=[Stop(2)]).run()
    for _ in range(2):
        with pytest.raises(FedHQError, match=r"in 3 rounds, the last of them round 3;"):
            runs.make(tmp_path, federation).run()


def test_broken_clients_that_are_drawn_again_and_again_end_no_healthy_run(tmp_path) -> None:
    settings = replace(
        runs.CALM,
        participation=ParticipationSettings(cohort=1),
        training=replace(runs.CALM.training, rounds=7),
        seed=4,
    )
    runs.make(tmp_path, runs.with_clients(runs.federation(settings), raises=(0, 1))).run()
    statuses = [c.status for c in read_clients(tmp_path)]
    assert statuses == ["ok"] * 2 + ["failed"] * 4 + ["ok"]
