"""Whole runs in bad weather, and what to hurt them with; a module that other processes import."""

import hashlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from odd_clients import hang

from fedhq.allocator import Random
from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.data.clients import PartitionedClients
from fedhq.fl_core.data.datasets import Dataset
from fedhq.fl_core.federation import Federation
from fedhq.fl_core.settings import (
    DataSettings,
    DeviceClass,
    FederationSettings,
    FleetSettings,
    ParticipationSettings,
    PartitionSettings,
    ServerSettings,
    TrainingSettings,
)
from fedhq.fl_core.trainer import Trainer

CALM = FederationSettings(
    fleet=FleetSettings((DeviceClass("any", 1, 1.0, 1e6, 1e6),), spread=0.3),
    menu=("fp32", "fp32-u4"),
    model="mlp",
    data=DataSettings("digits", num_test=200, num_calibration=40),
    partition=PartitionSettings("iid", num_clients=6),
    training=TrainingSettings(rounds=4, local_steps=2),
)
MIXED = Random(Strategy.parse("fp32-u4"), Strategy.parse("fp32"), share=0.5, seed=1)


@dataclass(frozen=True, eq=False)
class Faulty(PartitionedClients):
    """Clients some of which raise, hang or kill their process when their data are read."""

    raises: tuple[int, ...] = ()
    hangs: tuple[int, ...] = ()
    dies: tuple[int, ...] = ()
    marker: str = ""

    def __getitem__(self, client: int) -> Dataset:
        if client in self.raises:
            raise OSError(f"the disk of client {client} is gone: {'ä' * 3000}\nfor good")
        if client in self.hangs:
            hang(self.marker)
        if client in self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(client)


@cache
def federation(settings: FederationSettings = CALM) -> Federation:
    """The same one for whoever asks."""
    return Federation.build(settings)


def with_clients(built: Federation, **faults: tuple[int, ...] | str) -> Federation:
    """The same federation with faulty clients."""
    clients = built.clients
    assert isinstance(clients, PartitionedClients)
    return replace(built, clients=Faulty(clients.dataset, clients.parts, **faults))


def make(folder: Path, built: Federation | None = None, **keywords) -> Trainer:
    """A trainer whose clients send floats and 4 bits."""
    built = built or federation()
    return Trainer(built, built.allocator(MIXED), folder, {"name": "faults"}, **keywords)


def storm(rounds: int) -> FederationSettings:
    """Lost connections, late and stale updates, sampled cohorts."""
    slow = float(federation().hardware.seconds.max())
    return replace(
        CALM,
        training=replace(CALM.training, rounds=rounds, evaluate_every=rounds),
        participation=ParticipationSettings(
            cohort=4, dropout=0.3, jitter=0.5, deadline_seconds=0.8 * slow
        ),
        server=ServerSettings(optimizer="fedadam", learning_rate=0.02, max_staleness=2),
    )


def tamper(round_number: int, client: int, payload: bytes) -> Sequence[bytes]:
    """A channel that mutilates what one client sends and doubles what another does."""
    if client == 2:
        return [np.random.default_rng(round_number).bytes(500)]
    return [payload] * (2 if client == 3 else 1)


def make_stormy(folder: Path, rounds: int, workers: int = 1) -> Trainer:
    """A trainer in a storm."""
    return make(folder, federation(storm(rounds)), workers=workers, channel=tamper)


def run_stormy(folder: Path, rounds: int, workers: int, dies_at: int | None) -> None:
    """For a process of its own: trains, and kills itself while it flushes a file if told to."""
    os.setsid()
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")
    fsync, left = os.fsync, dies_at

    def flush(file: int) -> None:
        nonlocal left
        if left is not None:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        fsync(file)

    os.fsync = flush
    make_stormy(folder, rounds, workers).run()


def fingerprint(folder: Path) -> str:
    """Of all that a run leaves but the times of the machine."""
    names = ("rounds.jsonl", "clients.jsonl", "checkpoint.safetensors")
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in names)).hexdigest()


def of_session(leader: int) -> list[int]:
    """Processes of a session that are alive, by number."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has just ended
            continue
        if int(session) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found


def all_end(leader: int, seconds: float = 60.0) -> bool:
    """Whether all processes of a session end in some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not of_session(leader):
            return True
        time.sleep(0.02)
    return False
