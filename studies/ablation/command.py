"""`fedhq study ablation`: solvers against each other over families of problems."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from .end_to_end import EndToEnd
    from .grid import Grid
    from .ledger import Ledger
    from .record import Cell
    from .settings import AblationSettings
    from .summary import Summary

_DESCRIPTION = """Measures solvers against each other: objective, bound, gap, time, memory, whether
answers hold, and what they make of a short federation. Every cell (a solver, a problem, a time
limit) is measured once in a process of one core: the same command resumes what was stopped, and
measures only what a changed configuration or a new version of a library adds. Within one version
of fedhq cells stand; a changed solver of your own needs another --out."""
_EPILOG = """a configuration in TOML (--print shows the default, with every key):
  [grid]
  solvers = ["exact", "highs", "cvxpy:*"]         # cvxpy:* are all of its backends installed
  families = ["federated", "ties, separable"]     # separable: without what couples clients
  recorded = ["digits", "fleet.json", "run.toml"] # one that ships, for fedhq plan, for fedhq run
  sizes = [10, 100, 1000]
  seeds = [0, 1, 2]
  time_limits_seconds = [2.0]
  workers = 2
  [end_to_end]                                    # leave it out, or give --no-end-to-end
  solvers = ["exact", "uniform-qat"]

what stands in --out then: report.html, cells.csv, table.tex, cells.jsonl (a line a cell),
provenance.json, ablation.json (the configuration) and problems/ (the recorded tables)
"""
_SHOWN = ("near", "proven", "mean time", "excess", "agrees")  # on a terminal; the report has all
_TAKEN = 0.55  # of their time limits, by the cells of the default grid on average


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds all options of the command, and what it does."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "config",
        nargs="?",
        default="default",
        help="TOML file (default: the one that ships, about ten minutes on two cores)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/ablation"),
        help="folder of the study (default: %(default)s)",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the configuration, for instance 'grid.sizes=[10,100]'; repeatable",
    )
    parser.add_argument(
        "--workers", type=int, help="processes that measure (default: grid.workers)"
    )
    parser.add_argument(
        "--no-end-to-end", action="store_true", help="measure the grid only, train no federation"
    )
    parser.add_argument(
        "--print",
        dest="only_print",
        action="store_true",
        help="print the whole configuration with all defaults, and end",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(command=run, resumes=True)


def run(options: argparse.Namespace) -> None:
    """Runs the command.

    Raises:
        ValueError: If the configuration has faults, or something else stands in the folder.
        FedHQError: If the folder is in use or cannot be written, or a process cannot be started.
    """
    from .settings import read_ablation, resolved_ablation

    workers = [] if options.workers is None else [f"grid.workers={options.workers}"]
    settings = read_ablation(options.config, [*options.overrides, *workers])
    if options.no_end_to_end:
        settings = replace(settings, end_to_end=None)
    if options.only_print:
        print(resolved_ablation(settings), end="")
        return
    from ..document import check_plotly
    from .grid import Grid
    from .ledger import Ledger

    check_plotly()  # says now, not after all is measured, that it lacks
    grid = Grid.of(settings.grid)
    with Ledger(options.out) as ledger:
        ledger.describe(resolved_ablation(settings))
        cells = _measure(grid, ledger, options.quiet)
        federations = _train(settings, options.out, options.quiet)
        _finish(ledger, cells, federations, options.given)


def _measure(grid: Grid, ledger: Ledger, quiet: bool) -> tuple[Cell, ...]:
    from ...fl_core.callbacks.meter import Meter
    from .course import GridProgress

    with Meter(quiet, unit="cells") as meter:

        def show(progress: GridProgress) -> None:
            if progress.done:
                meter.show(progress.last, progress.done, progress.total)
            elif not quiet:
                seconds = progress.left_seconds * _TAKEN / grid.settings.workers
                told = f"{progress.total} cells to measure, about {seconds / 60:.0f} min"
                print(f"fedhq: {told}", file=sys.stderr)

        return grid.run(ledger, show)


def _train(settings: AblationSettings, folder: Path, quiet: bool) -> tuple[EndToEnd, ...]:
    """What some of the solvers make of a federation."""
    if settings.end_to_end is None:
        return ()
    from ...fl_core.callbacks.meter import Meter
    from ..compare import Progress
    from .contestants import contestant
    from .end_to_end import run_end_to_end

    limit = max(settings.grid.time_limits_seconds)
    asked = [contestant(name, limit) for name in settings.end_to_end.solvers]
    solvers = {one.name: one.solver for one in asked if one.solver is not None}
    with Meter(quiet) as meter:

        def show(progress: Progress) -> None:
            text = f"{progress.runs_done} of {progress.runs_total} federations"
            meter.show(text, progress.rounds_done, progress.rounds_total)

        return run_end_to_end(settings.end_to_end, solvers, folder, show)


def _finish(
    ledger: Ledger, cells: Sequence[Cell], federations: Sequence[EndToEnd], command: str
) -> None:
    """Prints the table, writes report, CSV and LaTeX."""
    from rich.console import Console

    from .exports import write_csv, write_latex
    from .report import write_report
    from .summary import summarise

    folder, console = ledger.folder, Console()
    summary = summarise(cells)
    for limit in summary.limits:
        _print_table(console, summary, limit)
    used = {cell.provenance for cell in cells}
    provenance = {key: here for key, here in ledger.provenance.items() if key in used}
    write_csv(folder / "cells.csv", cells)
    write_latex(folder / "table.tex", cells, provenance)
    write_report(folder / "report.html", cells, federations, provenance, command)
    for name in ("report.html", "cells.csv", "table.tex"):
        console.print(f"{Path(name).stem}: {folder / name}", soft_wrap=True, highlight=False)


def _print_table(console: Console, summary: Summary, limit: float) -> None:
    """One row a solver, over all families."""
    from rich.table import Table

    from .columns import COLUMNS

    columns = [column for column in COLUMNS if column.heading in _SHOWN]
    table = Table("solver", title=f"within {limit:g} s")
    for column in columns:
        table.add_column(column.heading, justify="right")
    for row in summary.of(limit):
        table.add_row(row.solver, *(column.text(row) for column in columns))
    console.print(table)
