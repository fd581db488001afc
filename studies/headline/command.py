"""`fedhq study headline`: fedhq against what else one could do, in simulated time."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..runs import RunStore
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

what stands in --out then: report.html and headline.md (the same as text), decisions.jsonl (a line a
cell and arm: what its clients do, and how long its rounds take), targets.json (the accuracies whose
times are compared) and runs.jsonl (a line a trained run: its accuracies after every round)
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
    parser.add_argument(
        "--recorded",
        action="store_true",
        help="take up the runs that ship, from which fedhq's own records were made",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument(
        "--dry-run", action="store_true", help="decide and count what is to be trained; then end"
    )
    parser.add_argument("--train-only", action="store_true", help="train, write no report")
    parser.add_argument(
        "--no-training", action="store_true", help="report on what is trained; the rest is left out"
    )
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
    if options.train_only and options.no_training:
        raise ValueError("--train-only with --no-training leaves nothing to do. Give one of them.")
    from ..document import check_plotly
    from ..runs import RECORDED, RunStore
    from ..writing import make_folder
    from .decisions import Decisions
    from .following import follow_trained, followed_cells
    from .grid import GRIDS
    from .wanted import batches

    make_folder("--out", options.out)
    if not (options.train_only or options.dry_run):
        check_plotly()  # what lacks is said now, not after all is trained
    grid, decisions = GRIDS[options.grid], Decisions(options.out)
    _decide(grid, decisions, options.workers, options.quiet)
    wanted = batches(grid, decisions)
    store = RunStore(options.out, [RECORDED] if options.recorded else [])
    if options.dry_run:
        _tell(grid, decisions, wanted, store)
        return
    if options.no_training:
        follow_trained(followed_cells(grid), decisions, store)
    else:
        _train(wanted, store, options.workers, options.quiet)
        _follow(grid, decisions, store, options)
    if not options.train_only:
        _report(grid, decisions, store, options)


def _report(grid: Grid, decisions: Decisions, store: RunStore, options: argparse.Namespace) -> None:
    """Judges what is trained, and writes the page and the record."""
    from ..provenance import Provenance
    from ..writing import write_at_once
    from .content import left_out, sections, seeds_told
    from .failures import Evidence
    from .markdown import markdown
    from .oracle import regrets
    from .overhead import measure_overheads
    from .report import write_page
    from .results import lacking, read_settings
    from .targets import preset_targets
    from .verdicts import judge

    folder = options.out
    targets = preset_targets(grid, store, folder)
    settings = read_settings(grid, decisions, store, targets)
    evidence = Evidence(settings, regrets(grid, store), measure_overheads(grid))
    verdicts = judge(evidence)
    here, parts = Provenance.here(["torch"]), sections(evidence, targets, verdicts)
    lead = (
        f"{len(settings)} settings, {_size(grid, decisions, store)}; "
        f"seeds: {seeds_told(settings)}. {left_out(lacking(grid, decisions, store))}Written "
        f"by {options.given} on {here.started[:10]}; {here.machine}; fedhq {here.fedhq}, "
        f"torch {here.versions.get('torch', '')}, numpy {here.versions['numpy']}."
    )
    write_at_once(folder / "headline.md", markdown("The headline study", lead, parts))
    write_page(folder / "report.html", lead, parts, evidence, options.given)
    for verdict in verdicts:
        print(f"{verdict.outcome}: {verdict.claim} ({verdict.goal}): {verdict.found}")
    print(f"report: {folder / 'report.html'}\nrecord: {folder / 'headline.md'}")


def _size(grid: Grid, decisions: Decisions, store: RunStore) -> str:
    """How many runs are trained, those that an arm has followed too, and how long that took."""
    from .wanted import batches

    specs = {spec.key: spec for batch in batches(grid, decisions) for spec in batch.specs}
    hours = [run.core_seconds / 3600 for spec in specs.values() if (run := store.find(spec))]
    return f"{len(hours)} trained runs, {sum(hours):.1f} core-hours"


def _decide(grid: Grid, decisions: Decisions, workers: int, quiet: bool) -> None:
    from ...fl_core.callbacks.meter import Meter

    with Meter(quiet, unit="grounds") as meter:

        def show(done: int, total: int) -> None:
            meter.show("deciding", done, total)

        decisions.make(grid, grid.grounds(grid.seeds), workers, show)


def _train(wanted: Sequence[Batch], store: RunStore, workers: int, quiet: bool) -> None:
    from ...fl_core.callbacks.meter import Meter

    left = [(batch, missing) for batch in wanted if (missing := store.missing(batch.specs))]
    total, done = sum(len(missing) for _, missing in left), 0
    with Meter(quiet, unit="runs") as meter:
        for batch, missing in left:

            def show(now: int, _: int, name: str = batch.name, before: int = done) -> None:
                meter.show(name, before + now, total)

            store.train(missing, workers, show)
            done += len(missing)


def _follow(grid: Grid, decisions: Decisions, store: RunStore, options: argparse.Namespace) -> None:
    """Trains what decides by what training shows; each run is kept, whoever stops it."""
    from ...fl_core.callbacks.meter import Meter
    from .following import follow, followed_cells

    with Meter(options.quiet, unit="cells") as meter:

        def show(done: int, total: int) -> None:
            meter.show("following training", done, total)

        follow(followed_cells(grid), decisions, store, options.workers, show)


def _tell(grid: Grid, decisions: Decisions, wanted: Sequence[Batch], store: RunStore) -> None:
    """Prints what there is to do."""
    from rich.console import Console
    from rich.table import Table

    from .following import followed_cells

    table = Table("runs", "distinct", "to train", "core-hours, about")
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
        f"{hours:.2f} core-hours to train; then {len(followed_cells(grid))} cells in which an arm "
        "follows training, a few runs each"
    )
