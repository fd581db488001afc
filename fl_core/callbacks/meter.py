"""Shows on standard error how far a command is: a bar in a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_SECONDS = 30.0


@dataclass
class Meter:
    """A context that shows progress, in rounds or whatever else is counted.

    Args:
        quiet: Shows nothing.
        line_seconds: Without a terminal: time between two lines; the last round has one of its own.
        clock: Seconds; for tests.
        unit: What is counted.
    """

    quiet: bool = False
    line_seconds: float = LINE_SECONDS
    clock: Callable[[], float] = time.monotonic
    unit: str = "rounds"
    _bar: Progress | None = field(default=None, init=False)
    _task: TaskID = field(default=TaskID(0), init=False)
    _start: float = field(default=0.0, init=False)
    _last: float = field(default=0.0, init=False)
    _is_done: bool = field(default=False, init=False)

    def __enter__(self) -> Meter:
        console = Console(stderr=True)
        self._start = self._last = self.clock()
        if console.is_terminal and not self.quiet:
            self._bar = _make_bar(console, self.unit)
            self._task = self._bar.add_task("starting", total=None)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, text: str, done: int, total: int) -> None:
        """Tells how far it is.

        Args:
            text: What else there is to say.
            done: Finished rounds, or what is counted.
            total: All of them.
        """
        if self._bar is not None:
            self._bar.update(self._task, description=text, completed=done, total=total)
        elif not self.quiet:
            self._print(text, done, total)

    def _print(self, text: str, done: int, total: int) -> None:
        now, ends = self.clock(), done >= total and not self._is_done
        if ends or now - self._last >= self.line_seconds:
            seconds = now - self._start
            told = f"fedhq: {text}, {done} of {total} {self.unit}, {seconds:.0f} s"
            print(told, file=sys.stderr)
            self._last, self._is_done = now, done >= total


def _make_bar(console: Console, unit: str) -> Progress:
    return Progress(
        TextColumn("{task.description}, " + unit),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
