"""The command `fedhq`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError
from safetensors.numpy import save_file

from ..allocator.errors import FedHQError
from ..fl_core.callbacks import ShowProgress
from ..fl_core.callbacks.meter import Meter
from ..fl_core.runtime import set_up_process
from ..fl_core.weights import Weights
from .arms import make_trainer
from .compare import CONFIG_FILE, Progress, frontier_views, run_comparison, with_share
from .config import (
    COMPARISON_KEYS,
    CompareConfig,
    CompareSettings,
    Job,
    parse_compare,
    parse_run,
    run_text,
)
from .entry import run_command
from .export import HELP as EXPORT_HELP
from .export import add_arguments as add_export_arguments
from .fleet import HELP as FLEET_HELP
from .fleet import add_arguments as add_fleet_arguments
from .flower import HELP as FLOWER_HELP
from .plan import HELP, add_arguments
from .profile import add_arguments as add_profile_arguments
from .report import write_report
from .results import Comparison, RunResult, cells, headings, summarise
from .study import HELP as STUDY_HELP
from .tables import read_config
from .watch import HELP as WATCH_HELP
from .watch import add_arguments as add_watch_arguments

_EXAMPLES = """examples:
  fedhq compare demo                        the six arms of the README on 5 000 MNIST digits
  fedhq compare demo --set 'compare.seeds=[0,1,2,3,4]'
  fedhq run my.toml --out runs/mine         one federation; run it again to resume it
  fedhq watch runs/mine                     from another terminal: how it stands
  fedhq run demo --arm all-QAT              one arm of a comparison
  fedhq profile --data digits --out digits-cnn.json
  fedhq fleet show demo                     its devices, by class
  fedhq export runs/mine                    its model as ONNX, checked in onnxruntime
  fedhq flower prepare hq --host hq.example.org --node a --node b
  fedhq plan demo                           your own tables of clients: `fedhq plan --help`
  fedhq study search demo                   policies, with Optuna: `fedhq study --help`
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, or 2 after a fault of the user's or the run's."""
    return run_command(_parser(), list(sys.argv[1:] if arguments is None else arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedhq",
        description="Decides which client of a federated fleet trains at which precision, "
        "by solving a constrained program, and trains with it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=metadata.version("fedhq"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_run(commands.add_parser("run", help="train one federation; resumes what stands in --out"))
    compare = commands.add_parser(
        "compare", help="train the arms of a comparison, print a table, write a report"
    )
    _add_config(compare, "runs/compare")
    compare.set_defaults(command=_compare, resumes=True)
    add_profile_arguments(
        commands.add_parser(
            "profile", help="measure this machine's training step for every strategy of a menu"
        )
    )
    add_export_arguments(commands.add_parser("export", help=EXPORT_HELP))
    add_fleet_arguments(commands.add_parser("fleet", help=FLEET_HELP))
    add_arguments(commands.add_parser("plan", help=HELP))
    commands.add_parser("flower", help=FLOWER_HELP)  # as is `study`
    commands.add_parser("study", help=STUDY_HELP)  # `entry` runs it, and loads only its part
    add_watch_arguments(commands.add_parser("watch", help=WATCH_HELP))
    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    run.description = (
        "Trains one federation; resumes what stands in --out. Of a comparison, `demo` among them, "
        "one arm in one scenario with the first seed."
    )
    _add_config(run, "runs/run")
    run.add_argument("--arm", help="which arm of a comparison (default: the last)")
    run.add_argument("--scenario", help="which scenario of a comparison (default: the first)")
    run.add_argument(
        "--target-accuracy",
        type=float,
        help="deployed accuracy whose first simulated time is reported (default: the "
        f"comparison's, or {CompareSettings().target_accuracy})",
    )
    run.add_argument(
        "--workers",
        type=int,
        default=1,
        help="processes that train clients; the results are the same bytes (default: %(default)s)",
    )
    run.add_argument(
        "--patience",
        type=float,
        metavar="SECONDS",
        help="end a worker that takes longer for one client, by this machine's clock; needs "
        "--workers 2 or more (default: wait)",
    )
    run.set_defaults(command=_run, resumes=True)


def _add_config(parser: argparse.ArgumentParser, folder: str) -> None:
    parser.add_argument("config", help="TOML file, or `demo` for the one that ships")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(folder),
        help="folder of the results (default: %(default)s)",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the configuration, for instance training.rounds=5 or "
        "fleet.classes.0.slowdown=7; repeatable",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _run(options: argparse.Namespace) -> None:
    job, target_accuracy = _job(options)
    config, folder = job.config, options.out
    set_up_process()
    trainer = make_trainer(
        config, folder, options.workers, options.patience, [ShowProgress(options.quiet)]
    )
    (folder / CONFIG_FILE).write_text(run_text(config), "utf-8")
    weights = trainer.run()
    _save_model(folder / "model.safetensors", weights)
    comparison = Comparison(
        name=folder.name,
        target_accuracy=target_accuracy,
        scenarios=(job.scenario,),
        arms=(job.arm,),
        results=(RunResult.read(folder, job.scenario, job.arm, job.seed),),
        frontiers=frontier_views([job], job.seed),
        command=options.given,
    )
    _finish(comparison, folder)


def _save_model(path: Path, weights: Weights) -> None:
    try:
        save_file(weights, path)
    except SafetensorError as error:
        raise FedHQError(
            f"`{path} can be written` must hold, but: {error}. Check its permissions and the free "
            "space of the disk; the same command then writes it, and trains nothing again."
        ) from error


def _job(options: argparse.Namespace) -> tuple[Job, float]:
    """The run that is asked for, and its target accuracy."""
    table = read_config(options.config, options.overrides)
    settings = CompareSettings()
    if any(key in table for key in COMPARISON_KEYS):
        comparison = parse_compare(table)
        settings, job = comparison.settings, _pick(comparison, options.arm, options.scenario)
    elif options.arm is not None or options.scenario is not None:
        raise ValueError(
            f"--arm and --scenario pick from a comparison, but {options.config} has no [[arms]]."
        )
    else:
        config = parse_run(table)
        job = Job("run", config.allocation.solver, config.federation.seed, config)
    given: float | None = options.target_accuracy
    target = settings.target_accuracy if given is None else given
    if not 0 <= target <= 1:
        raise ValueError(f"--target-accuracy {target:g}: must lie in 0 ... 1.")
    return job, target


def _pick(config: CompareConfig, arm: str | None, scenario: str | None) -> Job:
    """An arm in a scenario with the first seed."""
    arm = config.arms[-1] if arm is None else arm
    scenario = config.scenarios[0] if scenario is None else scenario
    for name, value, known in (
        ("arm", arm, config.arms),
        ("scenario", scenario, config.scenarios),
    ):
        if value not in known:
            raise ValueError(f"--{name} {value!r}: must be one of {', '.join(map(repr, known))}.")
    (job,) = (
        j
        for j in config.jobs
        if (j.scenario, j.arm, j.seed) == (scenario, arm, config.settings.seeds[0])
    )
    return with_share(job, config.jobs)


def _compare(options: argparse.Namespace) -> None:
    config = parse_compare(read_config(options.config, options.overrides))
    folder: Path = options.out
    with Meter(options.quiet) as meter:

        def show(progress: Progress) -> None:
            text = f"{progress.runs_done} of {progress.runs_total} runs"
            meter.show(text, progress.rounds_done, progress.rounds_total)

        name = "demo" if options.config == "demo" else Path(options.config).stem
        comparison = run_comparison(name, config, folder, show)
    _finish(replace(comparison, command=options.given), folder)


def _finish(comparison: Comparison, folder: Path) -> None:
    console = Console()
    rows = summarise(comparison)
    for scenario in comparison.scenarios:
        seeds = max(row.seeds for row in rows if row.scenario == scenario)
        table = Table(title=f"{scenario} ({seeds} seed{'s' if seeds > 1 else ''})")
        for k, heading in enumerate(headings(comparison.target_accuracy)):
            table.add_column(heading, justify="right" if k else "left")
        for row in rows:
            if row.scenario == scenario:
                table.add_row(*cells(row))
        console.print(table)
    report = folder / "report.html"
    write_report(report, comparison)
    console.print(f"report: {report}", soft_wrap=True)
