"""Runs a program as a whole: with a time limit, its processes' peak of memory, none left behind.

Processes are found by a mark in their environment and by their parents, so that those of a session
of their own are found, too. Where the system has no /proc (it is Linux's) memory stays unknown, and
only the program's own process group is ended.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MARK = "FEDHQ_WATCHED"
_LEAST_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 0.2, 1.0
_PAUSES_PER_SAMPLE = 30  # reading a process' memory takes time that the program lacks
_ERROR_LINE = re.compile(r"[\w.]*(Error|Exception|Interrupt)\b")


@dataclass(frozen=True)
class Watched:
    """What came of a program.

    Args:
        started: When it was started, on the monotonic clock.
        output: What it wrote.
        failure: Why it did not end well; empty if it did.
        peak_bytes: Peak of all its processes' memory together, shared pages counted once (PSS);
            None where it is not known.
    """

    started: float
    output: str
    failure: str
    peak_bytes: int | None


def run_watched(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    timeout_seconds: float,
) -> Watched:
    """Runs a program to its end or the time limit, and ends what it leaves.

    Args:
        command: The program and its arguments.
        environment: All of its environment.
        log: Where its error stream goes, and with the suffix `.out` its output.
        timeout_seconds: How long it may take.

    Raises:
        OSError: If it cannot be started, or a log cannot be written.
    """
    mark = uuid.uuid4().hex
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.with_suffix(".out").open("wb") as output, log.open("wb") as errors:
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env={**environment, _MARK: mark},
            start_new_session=True,
        )
        tree = _Tree(f"{_MARK}={mark}".encode())
        try:
            peak_bytes = _watch(process, tree, started + timeout_seconds)
            code = process.poll()
        finally:
            _end(process, tree)
    failure = ""
    if code is None:
        failure = f"not over after {timeout_seconds:g} s"
    elif code != 0:
        failure = _last_error(log) or f"exit status {code}"
    text = log.with_suffix(".out").read_text("utf-8", "replace")
    return Watched(started, text, failure, peak_bytes)


def _watch(process: subprocess.Popen[bytes], tree: _Tree, deadline: float) -> int | None:
    """Waits for the end, and returns the peak of memory."""
    peak: int | None = None
    while True:
        start = time.monotonic()
        sample = sum(filter(None, map(_proportional_bytes, tree.alive())))
        if sample:
            peak = max(sample, peak or 0)
        now = time.monotonic()
        if now >= deadline:
            return peak
        pause = max(_LEAST_PAUSE_SECONDS, _PAUSES_PER_SAMPLE * (now - start))
        pause = min(pause, _MOST_PAUSE_SECONDS, deadline - now)
        with suppress(subprocess.TimeoutExpired):
            process.wait(pause)
            return peak


def _end(process: subprocess.Popen[bytes], tree: _Tree) -> None:
    """Kills all that is left; twice, for what was born meanwhile."""
    for _ in range(2):
        left = tree.alive()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


class _Tree:
    """All processes of a program.

    Args:
        mark: `NAME=value` in the environment of the first.
    """

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._births: dict[int, str] = {}  # of all that belong to it; a number may be used again

    def alive(self) -> list[int]:
        """Their numbers."""
        table = _process_table()
        births = self._births
        members = {p for p, (_, birth) in table.items() if births.get(p) == birth}
        members |= {p for p in table.keys() - members if self._is_marked(p)}
        grows = True
        while grows:
            children = {p for p, (parent, _) in table.items() if parent in members} - members
            members |= children
            grows = bool(children)
        self._births = {p: table[p][1] for p in members}
        return sorted(members)

    def _is_marked(self, pid: int) -> bool:
        try:
            return self._mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False


def _process_table() -> dict[int, tuple[int, str]]:
    """Parent and birth of every process that is not over."""
    table = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            if fields[0] not in "ZX":
                table[int(folder.name)] = int(fields[1]), fields[19]
    return table


def _proportional_bytes(pid: int) -> int | None:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return None


def _last_error(log: Path) -> str:
    """The last line that names an error, else the last line."""
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    named = [line for line in lines if _ERROR_LINE.match(line.partition("]: ")[2] or line)]
    return (named or lines or [""])[-1].strip()
