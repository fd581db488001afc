"""The course of a grid's measuring: who measures what next, and what is not worth measuring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .ledger import Identity, Ledger
from .measure import Task, unmeasured
from .problems import RECORDED
from .record import Cell
from .workers import Worker, make_workers, wait_for_news

NOT_TRIED = "not tried"
"""The outcome of a cell whose solver was in vain on smaller problems of its family."""


@dataclass(frozen=True)
class GridProgress:
    """How far a grid is.

    Args:
        done: Cells that came since the start.
        total: Cells that were missing then.
        left_seconds: Of time limits that what is left has together.
        last: The problem and the solver of the last cell; empty at the start.
    """

    done: int
    total: int
    left_seconds: float
    last: str


class Course:
    """Measures what a ledger lacks of a grid.

    Args:
        tasks: The whole grid in the order in which it is measured.
        ledger: What stands already; every cell is added to it.
        on_progress: Called at the start and after every cell.
    """

    def __init__(
        self,
        tasks: Mapping[Identity, Task],
        ledger: Ledger,
        on_progress: Callable[[GridProgress], None] | None,
    ) -> None:
        self._ledger = ledger
        self._on_progress = on_progress
        self._smaller = _next_smaller(tasks)
        self._waiting = {i: task for i, task in tasks.items() if i not in ledger}
        self._total = len(self._waiting)
        self._done = 0
        self._left_seconds = sum(task.time_limit_seconds for task in self._waiting.values())

    def run(self, workers: int) -> None:
        """Measures all of it.

        Args:
            workers: How many processes.

        Raises:
            FedHQError: If a process that measures cannot be started.
        """
        self._tell("")
        team = make_workers(min(workers, self._total))
        try:
            while self._done < self._total:
                for worker in team:
                    self._employ(worker)
                if any(worker.task is not None for worker in team):
                    wait_for_news(team)
                for worker in team:
                    if worker.task is not None and (cell := worker.poll()) is not None:
                        self._note(cell)
        finally:
            for worker in team:
                worker.end()

    def _employ(self, worker: Worker) -> None:
        if worker.task is None and (task := self._next()) is not None:
            worker.begin(task)

    def _next(self) -> Task | None:
        """What to measure next; what needs no measuring before it is written down."""
        while (found := next(filter(self._is_ready, self._waiting), None)) is not None:
            task = self._waiting.pop(found)
            smaller = [self._ledger[i] for i in self._smaller[found]]
            if task.contestant.solver is None:
                self._note(unmeasured(task, "missing", task.contestant.missing, {}))
            elif smaller and all(map(was_in_vain, smaller)):
                told = f"with {smaller[0].clients} clients its time was in vain."
                self._note(unmeasured(task, NOT_TRIED, told, {}))
            else:
                return task
        return None

    def _is_ready(self, identity: Identity) -> bool:
        """Whether it is known how the solver fared with smaller problems."""
        return all(smaller in self._ledger for smaller in self._smaller[identity])

    def _note(self, cell: Cell) -> None:
        self._ledger.add(cell)
        self._done += 1
        self._left_seconds -= cell.time_limit_seconds
        self._tell(f"{cell.problem}: {cell.solver}")

    def _tell(self, last: str) -> None:
        if self._on_progress is not None:
            left = max(0.0, self._left_seconds)
            self._on_progress(GridProgress(self._done, self._total, left, last))


def was_in_vain(cell: Cell) -> bool:
    """Whether a solver took all of its time, and more, and brought nothing."""
    if cell.outcome == "unknown":
        return cell.verified is None and cell.seconds["total"] >= cell.time_limit_seconds
    return cell.outcome in ("timeout", NOT_TRIED)


def _next_smaller(tasks: Mapping[Identity, Task]) -> dict[Identity, tuple[Identity, ...]]:
    """Of every cell those of the same family, solver and limit at the next smaller size."""
    sizes: dict[tuple[str, str, float], dict[int, list[Identity]]] = {}
    for identity, task in tasks.items():
        by_size = sizes.setdefault(_ladder(task), {})
        by_size.setdefault(task.problem.clients, []).append(identity)
    return {identity: _below(task, sizes[_ladder(task)]) for identity, task in tasks.items()}


def _below(task: Task, by_size: Mapping[int, list[Identity]]) -> tuple[Identity, ...]:
    if task.problem.family == RECORDED:  # problems of their own, whatever their size
        return ()
    smaller = [size for size in by_size if size < task.problem.clients]
    return tuple(by_size[max(smaller)]) if smaller else ()


def _ladder(task: Task) -> tuple[str, str, float]:
    return task.problem.family, task.contestant.name, task.time_limit_seconds
