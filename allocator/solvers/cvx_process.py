"""The process of `cvx_apart`: it answers one program after the other until it is ended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO

from .phases import phase


@dataclass(eq=False)
class CvxProcess:
    """Python with cvxpy, `python -m ...cvx_child`: a line in, a line out.

    Args:
        process: The process.
        errors: What it writes there is read when it has failed.
    """

    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    @classmethod
    def start(cls) -> CvxProcess:
        """Starts one; its imports are done when this returns, or it has ended."""
        errors = TemporaryFile(prefix="fedhq-")
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.cvx_child"],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        started = cls(process, errors)
        started._read()
        return started

    @property
    def lives(self) -> bool:
        """Whether it can be asked."""
        return self.process.poll() is None

    def ask(self, line: str, seconds: float) -> str:
        """Hands it a line and waits for its answer.

        Args:
            line: The request, without a line's end.
            seconds: After which it is ended if it has not answered.

        Returns:
            What failed; empty if it answered.
        """
        late = threading.Event()

        def end_it() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(seconds, end_it)
        timer.start()
        try:
            answered = self._write(line) and self._read()
        finally:
            timer.cancel()
        if late.is_set():
            self.process.wait()
        if answered:
            return ""
        if late.is_set():
            return f"did not stop at its time limit and was ended after {seconds:.3g} s."
        code = self.process.wait()
        self.errors.seek(0)
        last = self.errors.read().decode(errors="replace").strip().splitlines()[-1:]
        return f"failed with exit status {code}: {''.join(last)}"

    def end(self) -> None:
        """Ends it, whatever it does."""
        self.process.kill()
        self.process.communicate()  # closes its pipes
        self.errors.close()

    def _write(self, line: str) -> bool:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def _read(self) -> bool:
        assert self.process.stdout is not None
        return self.process.stdout.readline().endswith(b"\n")


_kept: ContextVar[list[CvxProcess] | None] = ContextVar("kept", default=None)


@contextmanager
def process_kept() -> Iterator[None]:
    """Inside, in this thread or task, a process is kept for the next program: it starts once.

    Example:
        >>> from fedhq.allocator import AllocationProblem, Cvx
        >>> problem = AllocationProblem(("ptq-w2a2",), [[1]], [[.1]], tradeoff=10.0)
        >>> with process_kept():
        ...     answers = [Cvx("SCIPY", time_limit_seconds=10)(problem) for _ in range(2)]
        >>> [answer.status.value for answer in answers]
        ['optimal', 'optimal']
    """
    kept: list[CvxProcess] = []
    token = _kept.set(kept)
    try:
        yield
    finally:
        _kept.reset(token)
        for process in kept:
            process.end()


@contextmanager
def process_lent() -> Iterator[CvxProcess]:
    """A process for one program: the one that is kept, or a new one, booked as `"start"`."""
    kept = _kept.get()
    process = kept.pop() if kept else None
    if process is None or not process.lives:
        if process is not None:
            process.end()
        with phase("start"):
            process = CvxProcess.start()
    try:
        yield process
    except BaseException:
        process.end()
        raise
    if kept is None or not process.lives:
        process.end()
    else:
        kept.append(process)
