"""One long run in a fresh process, for its peak of memory: `python -m fedhq.studies.apart`."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..allocator import Dual, Status
from ..allocator.instances import FAMILIES
from .races import Run, timed

_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


@dataclass(frozen=True)
class RunApart:
    """A run and what its process took.

    Args:
        run: The run.
        peak_bytes: Peak of the process' memory, with interpreter, tables and their building.
    """

    run: Run
    peak_bytes: int


def run_apart(family: str, seed: int, num_clients: int, gap: float) -> RunApart:
    """Solves a problem by `Dual` in a fresh process.

    Args:
        family: A key of `FAMILIES`.
        seed: Of the problem.
        num_clients: Its size.
        gap: At which to stop.

    Raises:
        subprocess.CalledProcessError: If the process fails.
    """
    command = [sys.executable, "-m", __name__, family, str(seed), str(num_clients), str(gap)]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, status, objective, found_gap, peak = json.loads(text)
    return RunApart(Run(seconds, Status(status), objective, found_gap), peak)


def _answer(family: str, seed: int, num_clients: int, gap: float) -> str:
    """What the process says: the run and the peak as JSON."""
    run = timed(FAMILIES[family](seed, num_clients), Dual(gap))
    return json.dumps([run.seconds, run.status, run.objective, run.gap, peak_bytes()])


def peak_bytes() -> int:
    """Peak of this process' memory, as the system reports it.

    `ru_maxrss` is never less than the peak of the process that started it: on Linux the kernel
    tells a process' own.
    """
    status = Path("/proc/self/status")
    for line in status.read_text("utf-8").splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT


if __name__ == "__main__":
    print(_answer(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
