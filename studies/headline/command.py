"""`fedhq study headline`: fedhq against what else one could do, in simulated time."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .decisions import Decisions
    from .grid import Grid
    from .wanted import Batch

_DESCRIPTION = """Compares fedhq with what else one could do: how long it takes to a preset accuracy
of the deployed model, and how accurate it is when all have had the same time. Arms that train alike
are trained once: the clock (devices, step times, what the server is told of them) comes after
training. The same command resumes what was stopped."""
_EPILOG = """examples:
  fedhq study headline --dry-run                    cells, arms, runs and core-hours; trains nothing
  fedhq study headline --grid small --out runs/headline-small
  fedhq study headline --train-only --out runs/headline --workers 8

what stands in --out then: decisions.jsonl (a line a cell and arm: what its clients do, and how long
its rounds take) and runs.jsonl (a line a trained run: its accuracies after every round)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds all options of the command, and what it does."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "--grid",
        choices=("whole", "small"),
        default="small",
        help="whole: what is judged, hours; small: ten minutes on two cores (default)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/headline"),
        help="folder of decisions and runs (default: %(default)s)",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument(
        "--dry-run", action="store_true", help="decide and count what is to be trained; then end"
    )
    parser.add_argument("--train-only", action="store_true", help="train, write no report")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(command=run, resumes=True)


def run(options: argparse.Namespace) -> None:
    """Runs the command.

    Raises:
        ValueError: If an option is out of its range.
        FedHQError: If a run fails; those that were done before are kept.
    """
    if options.workers < 1:
        raise ValueError(f"`--workers >= 1` must hold, but got {options.workers}.")
    from .decisions import Decisions
    from .grid import GRIDS
    from .wanted import batches

    grid, decisions = GRIDS[options.grid], Decisions(options.out)
    _decide(grid, decisions, options.workers, options.quiet)
    wanted = batches(grid, decisions)
    if options.dry_run:
        _tell(grid, decisions, wanted, options.out)
        return
    _train(wanted, options.out, options.workers, options.quiet)


def _decide(grid: Grid, decisions: Decisions, workers: int, quiet: bool) -> None:
    from ...fl_core.callbacks.meter import Meter

    with Meter(quiet, unit="grounds") as meter:

        def show(done: int, total: int) -> None:
            meter.show("deciding", done, total)

        decisions.make(grid, grid.grounds(grid.seeds), workers, show)


def _train(wanted: Sequence[Batch], folder: Path, workers: int, quiet: bool) -> None:
    from ...fl_core.callbacks.meter import Meter
    from ..runs import RunStore

    store = RunStore(folder)
    left = [(batch, missing) for batch in wanted if (missing := store.missing(batch.specs))]
    total, done = sum(len(missing) for _, missing in left), 0
    with Meter(quiet, unit="runs") as meter:
        for batch, missing in left:

            def show(now: int, _: int, name: str = batch.name, before: int = done) -> None:
                meter.show(name, before + now, total)

            store.train(missing, workers, show)
            done += len(missing)


def _tell(grid: Grid, decisions: Decisions, wanted: Sequence[Batch], folder: Path) -> None:
    """Prints what there is to do."""
    from rich.console import Console
    from rich.table import Table

    from ..runs import RunStore

    store, table = RunStore(folder), Table("runs", "distinct", "to train", "core-hours, about")
    hours = 0.0
    for batch in wanted:
        missing = len(store.missing(batch.specs))
        needed = batch.core_seconds * missing / len(batch.specs) / 3600
        hours += needed
        table.add_row(batch.name, str(len(batch.specs)), str(missing), f"{needed:.2f}")
    cells = [c for ground in grid.grounds(grid.seeds) for c in grid.cells(ground)]
    made = sum(len(decisions.of(cell)) for cell in cells)
    runs = sum(len(batch.specs) for batch in wanted)
    Console().print(table)
    Console().print(
        f"{len(cells)} cells, {made} decisions of arms, {runs} distinct runs; "
        f"{hours:.2f} core-hours to train"
    )
