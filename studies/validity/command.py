"""`fedhq study validity`: trains the grid, compares loss models, writes a record and a page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..document import check_plotly
from ..writing import check_file, write_at_once

if TYPE_CHECKING:
    from ..runs import RunStore
    from .grid import Trial

_DESCRIPTION = """Which data must take part in QAT? Trains federations with random allocations over
data sets, networks, skews and bits, and compares models of the loss by how well they predict
settings that they were not fitted to. The same command resumes what was stopped."""
_EPILOG = """
what stands in --out then: validity.md (the record), report.html and runs.jsonl, a line a
federation, unless --runs names another folder. Every cell, a setting and a seed, counts once
all of its 27 federations are trained; the whole grid takes about three core-hours.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds all options of the command, and what it does."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/validity"),
        help="folder of the study (default: %(default)s)",
    )
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="FOLDER",
        help="where trained runs are kept, which other studies may share (default: --out)",
    )
    parser.add_argument(
        "--recorded",
        action="store_true",
        help="take up the runs that ship, from which fedhq's own records were made",
    )
    parser.add_argument(
        "--tasks", help="only these, separated by commas, for instance digits-mlp,digits-cnn"
    )
    parser.add_argument("--seeds", help="only these, separated by commas (default: 100,101,102)")
    parser.add_argument(
        "--workers", type=int, default=2, help="processes that train (default: %(default)s)"
    )
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--train-only", action="store_true", help="train, and analyse nothing")
    either.add_argument(
        "--no-training", action="store_true", help="analyse what is trained, and say what is not"
    )
    parser.add_argument(
        "--fit",
        type=Path,
        metavar="FILE",
        help="also write the loss model fitted to all settings, as allocator/fitted.json",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(command=run, resumes=True)


def run(options: argparse.Namespace) -> None:
    """Runs the command.

    Raises:
        ValueError: If an option breaks its rule.
        FedHQError: If a run fails.
    """
    from ..runs import RECORDED, TASKS, RunStore
    from .grid import SEEDS, batches

    if options.fit is not None:
        check_file("--fit", options.fit)
    if options.workers < 1:
        raise ValueError(f"--workers {options.workers}: must be at least 1.")
    tasks = tuple(TASKS) if options.tasks is None else options.tasks.split(",")
    wanted = batches(tasks, SEEDS if options.seeds is None else _seeds(options.seeds))
    store = RunStore(options.runs or options.out, [RECORDED] if options.recorded else [])
    if not options.train_only:
        check_plotly()
    if not options.no_training:
        train(store, wanted, options.workers, options.quiet)
    if not options.train_only:
        _analyse(store, wanted, options.out, options.fit)


def _analyse(
    store: RunStore, wanted: Sequence[Sequence[Trial]], folder: Path, fit: Path | None
) -> None:
    """Judges all models, prints what it says, and writes the files."""
    from .analysis import analyse
    from .evidence import gather
    from .findings import findings
    from .page import write_page
    from .record import record, size
    from .refit import fitted_text, refit

    analysis = analyse(*gather(store, wanted))
    write_at_once(folder / "validity.md", record(analysis))
    write_page(folder / "report.html", analysis)
    if fit is not None:
        write_at_once(fit, fitted_text(refit(analysis)))
    for lacking in analysis.missing:
        print(f"fedhq: not trained: {lacking}", file=sys.stderr)
    print(size(analysis))
    for text in findings(analysis):
        print(f"- {text}")
    print(f"record: {folder / 'validity.md'}\nreport: {folder / 'report.html'}")


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise ValueError(f"--seeds {text}: must be whole numbers, separated by commas.") from None


def train(store: RunStore, wanted: Sequence[Sequence[Trial]], workers: int, quiet: bool) -> None:
    """Trains what the store lacks, batch after batch, and shows how far it is."""
    from ...fl_core.callbacks.meter import Meter

    lacking = [store.missing([trial.spec for trial in batch]) for batch in wanted]
    total, done = sum(map(len, lacking)), 0
    with Meter(quiet, unit="runs") as meter:
        for batch, specs in zip(wanted, lacking, strict=True):
            if specs:
                name = f"{batch[0].setting.task}, seed {batch[0].seed}"
                before = done

                def show(number: int, _: int, name: str = name, before: int = before) -> None:
                    meter.show(name, before + number, total)

                store.train(specs, workers, show)
                done += len(specs)
