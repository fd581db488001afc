"""Clients that misbehave when their data are read; a module of its own, for workers to import."""

import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from fedhq.fl_core.data.datasets import Dataset
from fedhq.fl_core.engine import pool


def hang(marker: str) -> None:
    """Never answers, and leaves a file that says so."""
    if marker:
        Path(marker).touch()
    time.sleep(600)


def let_time_fly(monkeypatch, marker: Path) -> None:
    """A pool's clock goes a day ahead when the only worker that is busy hangs.

    So a patience that no honest client can use up, however busy the machine, takes no time.
    """
    days = 0

    def wait_a_little(pipes, seconds):
        nonlocal days
        if len(pipes) == 1 and marker.exists():
            marker.unlink()
            days += 1
        return wait(pipes, 0.02)

    def now() -> float:
        return time.monotonic() + 86_400.0 * days

    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=now))
    monkeypatch.setattr(pool, "wait", wait_a_little)


@dataclass(frozen=True)
class Odd:
    """Clients of digits, some of which do what no client should."""

    clients: tuple[Dataset, ...]
    raises: tuple[int, ...] = ()
    dies: tuple[int, ...] = ()
    hangs: tuple[int, ...] = ()
    dies_once: str = ""
    marker: str = ""

    def __len__(self) -> int:
        return len(self.clients)

    def __getitem__(self, client: int) -> Dataset:
        if client in self.raises:
            raise OSError(f"the disk of client {client} is gone\nfor good")
        if client in self.dies:
            os._exit(3)
        if client in self.hangs:
            hang(self.marker)
        if self.dies_once and not os.path.exists(self.dies_once):
            open(self.dies_once, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.clients[client]

    @property
    def num_examples(self) -> np.ndarray:
        return np.array([len(data) for data in self.clients])


class Unreadable:
    """Clients that a worker cannot even unpickle."""

    num_examples = np.array([40])

    def __init__(self, killed_by: int = 0) -> None:
        self.killed_by = killed_by

    def __reduce__(self) -> tuple:
        return (signal.raise_signal, (self.killed_by,)) if self.killed_by else (os._exit, (5,))
