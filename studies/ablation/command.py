"""`fedhq study ablation`: solvers against each other over families of problems."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from ..provenance import Provenance
    from .end_to_end import EndToEnd
    from .grid import Grid
    from .ledger import Ledger
    from .record import Cell
    from .summary import Summary
    from .training import Federations

_DESCRIPTION = """Measures solvers against each other: objective, bound, gap, time, memory, whether
answers hold, and what they make of a short federation. Every cell (a solver, a problem, a time
limit) is measured once in a process of one core: the same command resumes what was stopped, and
measures only what a changed configuration, another machine or a new version of a library adds.
Within one version of fedhq cells stand, also where its code was changed: then name another --out.
Federations are trained after the grid, whose report stands already by then."""
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
        help="print the whole configuration with all defaults as TOML, and end",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(command=run, resumes=True)


def run(options: argparse.Namespace) -> None:
    """Runs the command.

    Raises:
        ValueError: If the configuration has faults, or something else stands in the folder.
        FedHQError: If the folder is in use or cannot be written, or a process cannot be started.
    """
    from .settings import ablation_toml, read_ablation, resolved_ablation

    workers = [] if options.workers is None else [f"grid.workers={options.workers}"]
    settings = read_ablation(options.config, [*options.overrides, *workers])
    if options.no_end_to_end:
        settings = replace(settings, end_to_end=None)
    if options.only_print:
        print(ablation_toml(settings), end="")
        return
    from ..document import check_plotly
    from .grid import Grid
    from .ledger import Ledger
    from .training import Federations

    # What lacks is said now, not after all is measured.
    check_plotly()
    _check_installed(settings.grid.solvers)
    grid = Grid.of(settings.grid)
    wanted = settings.end_to_end
    federations = None if wanted is None else Federations.of(wanted)
    with Ledger(options.out) as ledger:
        ledger.describe(resolved_ablation(settings))
        cells = _measure(grid, ledger, options.quiet)
        _print_tables(cells)
        _write_tables(ledger, cells)
        _write_report(ledger, cells, (), options.given)
        if federations is not None:  # whatever becomes of them, the grid's report stands
            trained = _train(federations, ledger, options.quiet)
            _write_report(ledger, cells, trained, options.given)
        _print_files(options.out)


def _check_installed(solvers: Sequence[str]) -> None:
    from .contestants import contestant

    missing = [contestant(name, 1.0).missing for name in solvers]
    if all(missing):
        raise ValueError(f"grid.solvers: none is installed. {' '.join(missing)}".rstrip())


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


def _train(federations: Federations, ledger: Ledger, quiet: bool) -> tuple[EndToEnd, ...]:
    """What some of the solvers make of a federation; tells whose failed."""
    from ...fl_core.callbacks.meter import Meter
    from ..compare import Progress

    with Meter(quiet) as meter:

        def show(progress: Progress) -> None:
            text = f"{progress.runs_done} of {progress.runs_total} federations"
            meter.show(text, progress.rounds_done, progress.rounds_total)

        trained = federations.run(ledger, show)
    for failed in (record for record in trained if record.message):
        told = f"the federation of {failed.solver}, seed {failed.seed}, failed: {failed.message}"
        print(f"fedhq: {told}", file=sys.stderr)
    return trained


def _write_tables(ledger: Ledger, cells: Sequence[Cell]) -> None:
    from .exports import write_csv, write_latex

    write_csv(ledger.folder / "cells.csv", cells)
    write_latex(ledger.folder / "table.tex", cells, _provenance_of(cells, ledger))


def _write_report(
    ledger: Ledger, cells: Sequence[Cell], federations: Sequence[EndToEnd], command: str
) -> None:
    from .report import write_report

    provenance = _provenance_of((*cells, *federations), ledger)
    write_report(ledger.folder / "report.html", cells, federations, provenance, command)


def _provenance_of(records: Sequence[Cell | EndToEnd], ledger: Ledger) -> Mapping[str, Provenance]:
    used = {record.provenance for record in records}
    return {key: here for key, here in ledger.provenance.items() if key in used}


def _print_files(folder: Path) -> None:
    from rich.console import Console

    for name in ("report.html", "cells.csv", "table.tex"):
        told = f"{Path(name).stem}: {folder / name}"
        Console().print(told, soft_wrap=True, highlight=False)


def _print_tables(cells: Sequence[Cell]) -> None:
    """A table a time limit, one row a solver, over all families."""
    from rich.console import Console

    from .summary import summarise

    summary = summarise(cells)
    for limit in summary.limits:
        _print_table(Console(), summary, limit)


def _print_table(console: Console, summary: Summary, limit: float) -> None:
    from rich.table import Table

    from .columns import COLUMNS

    columns = [column for column in COLUMNS if column.heading in _SHOWN]
    table = Table("solver", title=f"within {limit:g} s")
    for column in columns:
        table.add_column(column.heading, justify="right")
    for row in summary.of(limit):
        table.add_row(row.solver, *(column.text(row) for column in columns))
    console.print(table)
