"""Arms that decide by what training showed: followed round by round, by runs that anyone may share.

What a round trains depends on the rounds before it alone. So an allocator that learns accuracy
needs no loop of its own: a run that has done as it decided so far tells what the server saw, and
where the next decision differs, another run is trained. At the end it is a plan like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from ...allocator import ServerAccuracy
from ..runs import RunSpec, RunStore, TrainedRun
from .arms import FOLLOWED
from .decisions import Decision, Decisions
from .grid import EXACT, Cell, Grid
from .plans import Plan, learner, outcomes_of, round_seconds
from .situation import Situation, ground_settings

Walk = Generator[RunSpec, TrainedRun, Plan]
"""Asks for runs, is sent them, and returns the plan."""


def walk(situation: Situation) -> Walk:
    """Follows the allocator of a cell through training.

    It yields the run that does as was decided so far, and the last row for the rest; that run's
    accuracies until then are those of the decided rows.
    """
    allocator, settings = learner(situation), ground_settings(situation.cell.ground)
    num_examples, rounds = len(situation.federation.calibration), situation.rounds
    rows: list[tuple[str, ...]] = []
    run: TrainedRun | None = None
    for number in range(1, rounds + 1):
        allocation = allocator.plan(number)
        row = tuple(str(allocation.strategy(i)) for i in range(len(allocation.choice)))
        if run is None or row != rows[-1]:
            run = yield RunSpec(settings, (*rows, *(row,) * (rounds - len(rows))))
        rows.append(row)
        seen = run.server_deployed[number - 1], run.server_in_float[number - 1]
        told = outcomes_of(situation, number, allocation)
        allocator.observe(told, ServerAccuracy(*seen, num_examples))
    return tuple(rows)


def followed_cells(grid: Grid) -> list[Cell]:
    """Where the arm is compared: where effects are kept apart, by the told clock."""
    grounds = grid.grounds(grid.seeds)
    every = (cell for ground in grounds for cell in grid.cells(ground))
    return [cell for cell in every if cell.clock == EXACT and grid.is_apart(cell)]


def follow(
    cells: Sequence[Cell],
    decisions: Decisions,
    store: RunStore,
    workers: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Follows the arm in all cells at once, and keeps its decisions.

    Args:
        cells: Those that are decided already are left as they are.
        decisions: Takes them up.
        store: Trains what is asked for.
        workers: Processes.
        on_progress: Told how many of the cells are done, and of how many.
    """
    left = [cell for cell in cells if decisions.find(cell, FOLLOWED) is None]
    situations = {cell: Situation.of(cell) for cell in left}
    walks = {cell: walk(situation) for cell, situation in situations.items()}
    asked = {cell: next(steps) for cell, steps in walks.items()}
    while asked:
        runs = store.train(list(asked.values()), workers)
        for cell, run in zip(list(asked), runs, strict=True):
            try:
                asked[cell] = walks[cell].send(run)
            except StopIteration as done:
                del asked[cell]
                _keep(situations[cell], done.value, decisions)
        if on_progress is not None:
            on_progress(len(left) - len(asked), len(left))


def follow_trained(cells: Sequence[Cell], decisions: Decisions, store: RunStore) -> None:
    """Keeps the arm's decisions in the cells for which all runs are there, and trains none.

    Args:
        cells: Those that are decided already are left as they are.
        decisions: Takes them up.
        store: Of runs.
    """
    for cell in cells:
        if decisions.find(cell, FOLLOWED) is None:
            situation = Situation.of(cell)
            steps = walk(situation)
            try:
                asked = next(steps)
                while (run := store.find(asked)) is not None:
                    asked = steps.send(run)
            except StopIteration as done:
                _keep(situation, done.value, decisions)


def _keep(situation: Situation, plan: Plan, decisions: Decisions) -> None:
    seconds = round_seconds(situation, plan)
    decisions.keep([Decision.of(situation.cell, FOLLOWED, plan, seconds)])
