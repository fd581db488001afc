"""Where a solver's time goes: starting, building a model, compiling it for a library, solving.

A solver marks what is not the search itself, `with phase("build"): ...`; `solve` marks its whole
call as `"solve"`. That costs a microsecond unless somebody listens.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["start", "build", "compile", "solve"]
"""Of another process that solves; of a library's model from the problem; of what its solver takes
from the model; all else."""


@dataclass
class _Recorder:
    """Seconds by phase; while an inner phase runs, the outer one's clock stands still."""

    seconds: dict[Phase, float] = field(default_factory=dict)
    running: list[Phase] = field(default_factory=list)
    since: float = 0.0

    def switch(self) -> None:
        """Books the time since the last switch on the phase that ran."""
        now = time.perf_counter()
        if self.running:
            self.add(self.running[-1], now - self.since)
        self.since = now

    def add(self, name: Phase, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


_recorder: ContextVar[_Recorder | None] = ContextVar("recorder", default=None)


@contextmanager
def recording() -> Iterator[dict[Phase, float]]:
    """Listens to the phases of the solvers that run inside, in this thread or task.

    Yields:
        Seconds by phase, of all runs together; a phase that did not occur is missing. Their sum is
        the time of the solvers' calls.

    Example:
        >>> from fedhq.allocator import AllocationProblem, Milp, solve
        >>> problem = AllocationProblem(("ptq-w2a2",), [[1]], [[.1]], tradeoff=10.0)
        >>> with recording() as seconds:
        ...     solution = solve(problem, Milp())
        >>> sorted(seconds), sum(seconds.values()) <= solution.solve_seconds
        (['build', 'solve'], True)
    """
    recorder = _Recorder()
    token = _recorder.set(recorder)
    try:
        yield recorder.seconds
    finally:
        _recorder.reset(token)


@contextmanager
def phase(name: Phase) -> Iterator[None]:
    """Marks what runs inside as a phase; not as one of the phase around it.

    Args:
        name: The phase.
    """
    recorder = _recorder.get()
    if recorder is None:
        yield
        return
    recorder.switch()
    recorder.running.append(name)
    try:
        yield
    finally:
        recorder.switch()
        recorder.running.pop()


def rebook(name: Phase, seconds: float) -> None:
    """Says that a part of the running phase was of another one, as another process measured it.

    Args:
        name: The other phase.
        seconds: How much of the time so far.
    """
    recorder = _recorder.get()
    if recorder is not None and recorder.running:
        recorder.add(recorder.running[-1], -seconds)
        recorder.add(name, seconds)
