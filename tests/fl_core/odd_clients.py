"""Clients that misbehave when their data are read; a module of its own, for workers to import."""

import os
import signal
import time
from dataclasses import dataclass

import numpy as np

from fedhq.fl_core.data.datasets import Dataset


@dataclass(frozen=True)
class Odd:
    """Clients of digits, some of which do what no client should."""

    clients: tuple[Dataset, ...]
    raises: tuple[int, ...] = ()
    dies: tuple[int, ...] = ()
    hangs: tuple[int, ...] = ()
    dies_once: str = ""

    def __len__(self) -> int:
        return len(self.clients)

    def __getitem__(self, client: int) -> Dataset:
        if client in self.raises:
            raise OSError(f"the disk of client {client} is gone\nfor good")
        if client in self.dies:
            os._exit(3)
        if client in self.hangs:
            time.sleep(60)
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
