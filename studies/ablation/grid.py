"""The grid of an ablation: every solver on every problem within every limit, measured once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..provenance import Provenance
from .contestants import Contestant, contestant
from .course import Course, GridProgress
from .ledger import Identity, Ledger
from .measure import Task
from .problems import ProblemSource, Recorded, read_recorded
from .record import Cell
from .settings import GridSettings

_LIBRARIES = ("highspy", "cvxpy", "ortools", "PuLP", "pyscipopt", "cylp", "cvxopt", "optuna")


@dataclass(frozen=True, eq=False)
class Grid:
    """What is to be measured; nothing is written before `run`.

    Args:
        settings: Families, sizes, seeds, limits.
        tables: The recorded ones, read.
        own: Solvers of one's own that take part beside those that the settings name; their classes
            must be importable, as other processes run them.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> settings = GridSettings(("sweep",), ("ties, separable",), sizes=(5,), seeds=(0,))
        >>> with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder)) as ledger:
        ...     cells = Grid.of(settings).run(ledger)
        >>> [(cell.problem, cell.solver, cell.outcome) for cell in cells]
        [('ties, separable, 5 clients, seed 0', 'sweep', 'optimal')]
    """

    settings: GridSettings
    tables: tuple[Recorded, ...] = ()
    own: tuple[Contestant, ...] = ()

    @classmethod
    def of(cls, settings: GridSettings, own: Sequence[Contestant] = ()) -> Grid:
        """A grid, with its recorded tables read.

        Raises:
            ValueError: If a table cannot be read, or two solvers have one name.
        """
        names = [*settings.solvers, *(c.name for c in own)]
        if len(set(names)) < len(names):
            raise ValueError(f"`own` solvers must have names of their own, but there are {names}.")
        return cls(settings, read_recorded(settings.recorded), tuple(own))

    def run(
        self, ledger: Ledger, on_progress: Callable[[GridProgress], None] | None = None
    ) -> tuple[Cell, ...]:
        """Measures what the ledger lacks.

        Args:
            ledger: Of the study's folder.
            on_progress: Called at the start and after every cell.

        Returns:
            All cells of the grid, problem by problem from small to large.

        Raises:
            FedHQError: If a process that measures cannot be started.
            DataError: If a recorded table was damaged in the study's folder.
        """
        here = Provenance.here(_LIBRARIES)
        tasks = {_identity(task, here): task for task in self._tasks(ledger, ledger.sign(here))}
        Course(tasks, ledger, on_progress).run(self.settings.workers)
        return tuple(ledger[identity] for identity in tasks)

    def _tasks(self, ledger: Ledger, key: str) -> list[Task]:
        """All cells in the order in which they are measured: a grid cut short is useful, too."""
        settings = self.settings
        generated = [
            ProblemSource.of_family(family, size, seed)
            for seed in settings.seeds
            for size in settings.sizes
            for family in settings.families
        ]
        problems = [*(table.keep(ledger.folder) for table in self.tables), *generated]
        problems.sort(key=lambda problem: problem.clients)
        return [
            Task(problem, one, limit, key, settings.workers)
            for problem in problems
            for limit in settings.time_limits_seconds
            for one in (*(contestant(name, limit) for name in settings.solvers), *self.own)
        ]


def _identity(task: Task, here: Provenance) -> Identity:
    one = task.contestant
    return Identity(
        task.problem.name,
        one.name,
        one.settings,
        one.version,
        here.fedhq,
        here.speed_key,
        task.time_limit_seconds,
    )
