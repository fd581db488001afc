"""Who works at a trial: a process, by which others can tell whether it still lives."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from optuna.trial import Trial

WORKER_KEY = "worker"
"""A trial's user attribute: who works at it."""


@dataclass(frozen=True)
class Worker:
    """A process.

    Args:
        host: The machine, and there the space of process numbers, as containers have their own.
        pid: Its number.
        started: When, in ticks of the machine; empty where the system does not say.
    """

    host: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> Worker:
        """This process."""
        return cls(_host(), os.getpid(), _started(os.getpid()))

    @classmethod
    def of(cls, attributes: Mapping[str, Any], key: str = WORKER_KEY) -> Worker | None:
        """Who signed a trial or a study, by its user attributes; None if nobody did yet."""
        table = attributes.get(key)
        return cls(**table) if isinstance(table, Mapping) else None

    @property
    def is_known_dead(self) -> bool:
        """Whether it was a process of this machine that is no more; False if that is not known."""
        if self.host != _host():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # it lives, and is somebody else's
            return False
        started = _started(self.pid)
        return bool(started and self.started) and started != self.started


def _host() -> str:
    name = socket.gethostname()
    with suppress(OSError):
        name += f" {Path('/proc/sys/kernel/random/boot_id').read_text('ascii').strip()[:8]}"
        name += f" {os.readlink('/proc/self/ns/pid')}"
    return name


def _started(pid: int) -> str:
    """Empty where the system does not say; another one's than a zombie's."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "ended" if fields[0] in (b"Z", b"X") else fields[19].decode()


def sign(trial: Trial, worker: Worker) -> None:
    """Writes down who works at a trial."""
    trial.set_user_attr(WORKER_KEY, asdict(worker))
