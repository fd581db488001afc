"""`fedhq study search`: Optuna over the policy, by as many workers as there are."""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

    from .config.settings import SearchConfig
    from .report.view import StudyView, TrialView
    from .workers.progress import Progress

_DESCRIPTION = """Searches policies: what a fleet should be told to do, which the allocator then
works out for every client. Optuna proposes trials; each is a short federation that is trained, or
the model's prediction. The uniform arms and points of the exact frontier are tried first. The same
command goes on where it was stopped, and with a larger --trials adds to what stands."""
_EPILOG = """a configuration in TOML (--print shows all keys with their defaults): that of
`fedhq run`, or a table of `fedhq plan` by [problem], and
  [search]
  evaluate = "training"                           # or "model": milliseconds a trial
  trials = 40
  objectives = ["round_seconds", "accuracy_loss"] # or "seconds_to_target" in place of the first
  # tradeoff = 30.0                               # one objective: seconds + tradeoff * loss
  seeds = [0, 1]                                  # federations of a trial
  sampler = "tpe"                                 # "nsga2", "gp", "random"
  [search.limits]
  round_seconds = 5.0
  [search.space]                                  # any key of the configuration
  "allocation.pick_loss" = { low = 0.001, high = 0.3, log = true }
  "training.local_epochs" = { low = 1, high = 3 }
  menu = { choices = [["ptq-w2a2", "qat-w2a2"], ["skip", "ptq-w2a2", "qat-w2a2"]] }

storages:
  (none)                                journal.log in --out: one machine, or a shared folder
  postgresql+psycopg://me@host/studies  many machines (pip install 'fedhq[storage]')
  mysql+pymysql://me@host/studies
  grpc://host:13000                     `fedhq study proxy` before a database: very many workers
  sqlite:///studies.db                  one worker only
A password on the command line can be read by others of the machine: set FEDHQ_STORAGE to the
address instead, or PGPASSWORD. None is written down anywhere.

several machines: give each the same command and --storage; an --out on a shared disk lets them
read each other's trained runs, one of its own is as good. Trials are counted over all. A killed
worker's trial is run again: at once on its machine, elsewhere when nothing was heard of it for
--lease seconds.

what stands in --out then: report.html, study.json (where the study is), journal.log (the study,
without --storage), trials/ (the runs that were trained), frontiers/ (what took seconds to compute)
"""
_SHOWN = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options, and what it does."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("config", help="TOML file, or `demo` for the one that ships")
    _add_places(parser)
    parser.add_argument(
        "--workers", type=int, help="trials at a time, here (default: search.workers)"
    )
    parser.add_argument(
        "--trials", type=int, help="how many the study shall have (default: search.trials)"
    )
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="change a key of the configuration, for instance search.seeds=[0,1,2]; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--lease", type=float, default=60.0, metavar="SECONDS",
        help="how long a worker may give no sign of life (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--print", dest="only_print", action="store_true",
        help="print the whole configuration with all defaults as TOML, and end",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(command=run, resumes=True)


def _add_places(parser: argparse.ArgumentParser) -> None:
    """Options of where the search and its study are."""
    parser.add_argument(
        "--out", type=Path, default=Path("runs/search"),
        help="folder of the search (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--name", help="of the study in its storage (default: the folder's)")
    parser.add_argument(
        "--storage", metavar="PLACE",
        help="where the study is (default: where --out says; else $FEDHQ_STORAGE; else a journal)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Runs the command.

    Raises:
        ValueError: If the configuration or an option has faults.
        FedHQError: If the study is another, its storage is not there, or workers cannot go on.
    """
    from ..toml_text import toml_text
    from .config.settings import resolved_search

    config = _config(options)
    if options.only_print:
        print(toml_text(resolved_search(config)), end="")
        return
    _check(options, config)
    view = _search(options, config)
    _print_front(view)
    place = shlex.quote(str(options.out))
    print(f"report: {options.out / 'report.html'}")
    print(f"dashboard: fedhq study dashboard {place}")


def _check(options: argparse.Namespace, config: SearchConfig) -> None:
    """Refuses what cannot be done, before anything is made."""
    from ..document import check_plotly
    from .storage.study_file import settle
    from .workers.pool import check_workers

    check_plotly()  # says now, not after all is searched, that it lacks
    if not 0 < options.lease < float("inf"):
        raise ValueError(f"--lease {options.lease:g}: must be above 0 and finite.")
    check_workers(settle(options.out, options.storage, options.name)[0], config.search.workers)


def _search(options: argparse.Namespace, config: SearchConfig) -> StudyView:
    """Makes or opens the study, evaluates its trials and writes the report; returns its records."""
    import optuna

    from ...fl_core.callbacks.meter import Meter
    from ...fl_core.runtime import set_up_process
    from .report.view import StudyView
    from .run import open_search, run_search
    from .storage.places import close_storage, without_secrets

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    set_up_process()
    place, folder = options.storage, options.out
    command = without_secrets(options.given, [place])
    with Meter(options.quiet, unit="trials") as meter:

        def show(progress: Progress) -> None:
            meter.show(_told(progress, config), progress.done, progress.total)

        study = open_search(
            config,
            folder,
            place,
            options.name,
            command,
            lambda text: meter.show(text, 0, config.search.trials),
        )
        try:
            run_search(
                config, study, folder, place=place, lease_seconds=options.lease, on_progress=show
            )
            _write_report(study, folder)
            return StudyView.of(study)
        finally:
            close_storage(study._storage)


def _config(options: argparse.Namespace) -> SearchConfig:
    from .config.settings import read_search_config

    changes = [
        f"search.{name}={value}"
        for name, value in (("workers", options.workers), ("trials", options.trials))
        if value is not None
    ]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        config = read_search_config(options.config, [*options.overrides, *changes])
    for warning in told:
        print(f"fedhq: warning: {warning.message}", file=sys.stderr)
    return config


def _told(progress: Progress, config: SearchConfig) -> str:
    least = zip(config.objectives, progress.least, strict=False)
    parts = [f"least {name} {value:.4g}" for name, value in least]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    return ", ".join(parts) or "nothing feasible yet"


def _write_report(study: optuna.Study, folder: Path) -> None:
    from .report.parts import place_text
    from .report.report import report_studies

    place = place_text(str(folder))
    command = f"fedhq study report {place}"
    report_studies(folder / "report.html", [study], [place], command, folders=[folder])


def _print_front(view: StudyView) -> None:
    """The trials that none beats, or the best."""
    from rich.console import Console
    from rich.table import Table

    from .report.view import State

    trials = [view.trials[k] for k in view.front]
    if (best := view.least()) is not None:
        trials = [best]
    done = view.count(State.COMPLETE) + view.count(State.PRUNED)
    title = "the best" if view.has_one_objective else f"front of {len(trials)}"
    table = Table(title=f"{view.name}: {title} of {done} trials")
    keys = list(dict.fromkeys(key for trial in trials for key in trial.params))
    names = [key.rpartition(".")[2] for key in keys]
    for heading in ("trial", *view.record.objectives, "proposed by", *names):
        table.add_column(heading, justify="right", overflow="fold")
    step = max(1.0, (len(trials) - 1) / (_SHOWN - 1))  # both ends, and evenly between
    shown = [trials[round(k * step)] for k in range(min(len(trials), _SHOWN))]
    for trial in shown:
        table.add_row(*_cells(trial, keys))
    console = Console()
    if trials:
        console.print(table)
    else:
        console.print(f"none of {done} trials keeps every limit; the report says what they break")
    if len(trials) > len(shown):
        console.print(f"... and {len(trials) - len(shown)} between them in the report")


def _cells(trial: TrialView, keys: list[str]) -> list[str]:
    values = [*trial.values, *(trial.params.get(key, "") for key in keys)]
    shown = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
    objectives = len(trial.values)
    return [str(trial.number), *shown[:objectives], trial.source, *shown[objectives:]]
