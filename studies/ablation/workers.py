"""Processes that measure: each stays, has a core of its own, and is ended with what hangs in it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ...allocator.errors import FedHQError
from ...allocator.solvers.cvx_process import process_kept
from .measure import Task, measure, unmeasured, warm_up
from .record import Cell

GRACE_SECONDS = 20.0
"""What a solver may take beyond one and a half times its limit before it is ended: a process of its
own that must start first does not count against its limit."""
SETUP_SECONDS = 60.0
"""What building the problem, imports and a tiny warm-up problem may take beyond that."""
START_SECONDS = 120.0
"""What a process may take to start."""

_LATEST = 1.5
_READY, _MEASURES = "ready", "measures"
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PR_SET_PDEATHSIG = 1


def allowed_seconds(time_limit_seconds: float) -> float:
    """After how long a solver is ended that does not end by itself."""
    return _LATEST * time_limit_seconds + GRACE_SECONDS


@dataclass(eq=False)
class Worker:
    """A process, and what it measures.

    Args:
        core: The only one that it may use; any where None.
        task: What it measures now; None while it waits.
    """

    core: int | None = None
    task: Task | None = None
    _process: BaseProcess | None = field(default=None, init=False)
    _pipe: Connection | None = field(default=None, init=False)
    _since: float = field(default=0.0, init=False)
    _measures: bool = field(default=False, init=False)

    def begin(self, task: Task) -> None:
        """Hands it a task; a process is started if there is none.

        Raises:
            FedHQError: If a process cannot be started.
        """
        if self._pipe is None or self._process is None or not self._process.is_alive():
            self._start()
        assert self._pipe is not None
        self.task, self._measures, self._since = task, False, time.monotonic()
        self._pipe.send(task)

    def poll(self) -> Cell | None:
        """The cell, if it is done or will never be; else None."""
        assert self.task is not None
        assert self._pipe is not None
        try:
            while self._pipe.poll():
                message = self._pipe.recv()
                if isinstance(message, Cell):
                    self.task = None
                    return message
                self._measures, self._since = True, time.monotonic()
        except (EOFError, ConnectionError):
            return self._give_up("crashed", f"its process {self._last_words()}")
        spent = time.monotonic() - self._since
        if spent < self._allowed_seconds:
            return None
        where = "" if self._measures else " on the way to its start, with a tiny problem"
        limit = self.task.time_limit_seconds
        told = f"did not end by itself{where}: was ended after {spent:.1f} s (limit {limit:g} s)"
        return self._give_up("timeout", told)

    def end(self) -> None:
        """Ends the process, and what it has started."""
        if self._process is not None and self._process.pid is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (AttributeError, ProcessLookupError):  # no groups here, or it has none yet
                self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    @property
    def seconds_left(self) -> float:
        """After how long it is to be looked at again at the latest."""
        return max(0.0, self._since + self._allowed_seconds - time.monotonic())

    @property
    def connection(self) -> Connection:
        """Where it will be heard of."""
        assert self._pipe is not None
        return self._pipe

    @property
    def _allowed_seconds(self) -> float:
        assert self.task is not None
        allowed = allowed_seconds(self.task.time_limit_seconds)
        return allowed if self._measures else allowed + SETUP_SECONDS

    def _start(self) -> None:
        self.end()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.core), daemon=True)
        with _one_thread():
            self._process.start()
        theirs.close()
        try:
            if self._pipe.poll(START_SECONDS):
                self._pipe.recv()
                return
            told = f"did not start within {START_SECONDS:g} s"
        except (EOFError, ConnectionError):
            told = self._last_words()
        self.end()
        raise FedHQError(
            f"a process that measures {told}. Its own message stands above; nothing is lost, and "
            "the same command resumes."
        )

    def _give_up(self, outcome: str, message: str) -> Cell:
        task = self.task
        assert task is not None
        spent = time.monotonic() - self._since if self._measures else None
        self.end()
        self.task = None
        return unmeasured(task, outcome, message + ".", {} if spent is None else {"total": spent})

    def _last_words(self) -> str:
        assert self._process is not None
        self._process.join(GRACE_SECONDS)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit status {code}"


def make_workers(number: int) -> tuple[Worker, ...]:
    """Workers, each with a core of its own where there are as many; warns where there are not.

    So every solver has one core, however many threads it starts. Processes are started with the
    first task.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if number > (there := len(cores) or os.cpu_count() or 1):
        share = f"`workers` = {number} processes share {there} core{'s' * (there > 1)}"
        told = f"{share}: their times are those of a busy machine. Take {there}."
        warnings.warn(told, UserWarning, stacklevel=2)
    if number > len(cores):
        return tuple(Worker() for _ in range(number))
    first = os.getpid()  # two ablations at a time need not meet on the same cores
    return tuple(Worker(cores[(first + k) % len(cores)]) for k in range(number))


def wait_for_news(workers: Sequence[Worker]) -> None:
    """Waits until something is heard of a worker, or one has taken too long."""
    busy = [worker for worker in workers if worker.task is not None]
    wait([w.connection for w in busy], min(w.seconds_left for w in busy))


def _serve(pipe: Connection, core: int | None) -> None:
    """The life of a process: tasks in, cells out, until the pipe ends."""
    _set_up(core)
    pipe.send(_READY)
    warm: set[str] = set()
    with process_kept():  # for backends that need one: started once, on the tiny problem
        while True:
            try:
                task: Task = pipe.recv()
            except EOFError:
                return
            solver = task.contestant.solver
            if solver is not None and task.contestant.settings not in warm:
                warm_up(solver)
                warm.add(task.contestant.settings)
            task.problem.build()
            pipe.send(_MEASURES)
            pipe.send(measure(task))


def _set_up(core: int | None) -> None:
    """A group of its own, so that what it starts ends with it; a core of its own; no words."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # never outlives its parent
    if core is not None:
        os.sched_setaffinity(0, {core})
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # licences, versions


@contextmanager
def _one_thread() -> Iterator[None]:
    """What is started inside gives its libraries one thread."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
