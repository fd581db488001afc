"""The command `fedhq`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import metadata, resources
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from safetensors.numpy import save_file

from ..allocator import FedHQError
from ..fl_core.records import RoundRecord
from ..fl_core.runtime import set_up_process
from .arms import make_trainer
from .compare import Progress as Advance
from .compare import frontier_views, run_comparison
from .config import CompareSettings, Job, parse_compare, parse_run, read_table, resolved
from .profile import measure_profile
from .report import write_report
from .results import Comparison, RunResult, cells, headings, summarise

_EXAMPLES = """examples:
  fedhq compare demo                        the six arms of the README on 5 000 MNIST digits
  fedhq compare demo --set 'compare.seeds=[0,1,2,3,4]'
  fedhq run my.toml --out runs/mine         one federation; run it again to resume it
  fedhq profile --data digits --out digits-cnn.json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, or 2 after a fault of the user's or the run's."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (ValueError, FedHQError) as error:
        print(f"fedhq: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fedhq: stopped; the same command resumes where it was.", file=sys.stderr)
        return 130
    return 0


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

    run = commands.add_parser("run", help="train one federation; resumes what stands in --out")
    _add_config(run, "runs/run")
    run.add_argument(
        "--target-accuracy",
        type=float,
        default=CompareSettings().target_accuracy,
        help="deployed accuracy whose first simulated time is reported (default: %(default)s)",
    )
    run.set_defaults(command=_run)

    compare = commands.add_parser(
        "compare", help="train the arms of a comparison, print a table, write a report"
    )
    _add_config(compare, "runs/compare")
    compare.set_defaults(command=_compare)

    profile = commands.add_parser(
        "profile", help="measure this machine's training step for every strategy of a menu"
    )
    profile.add_argument("--data", default="mnist5k", help="data set (default: %(default)s)")
    profile.add_argument("--model", default="cnn", help="network (default: %(default)s)")
    profile.add_argument(
        "--menu",
        default="fp32,ptq-w2a2,qat-w2a2",
        help="strategies, separated by commas (default: %(default)s)",
    )
    profile.add_argument("--batch-size", type=int, default=32, help="(default: %(default)s)")
    profile.add_argument("--samples", type=int, default=30, help="(default: %(default)s)")
    profile.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    profile.add_argument("--out", type=Path, required=True, help="JSON file to write")
    profile.set_defaults(command=_profile)
    return parser


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
        help="change a key of the configuration, for instance training.rounds=5; repeatable",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _table(options: argparse.Namespace) -> dict[str, object]:
    if options.config != "demo":
        return read_table(Path(options.config), options.overrides)
    with resources.as_file(resources.files(__package__).joinpath("demo.toml")) as path:
        return read_table(path, options.overrides)


def _run(options: argparse.Namespace) -> None:
    config = parse_run(_table(options))
    set_up_process()
    folder: Path = options.out
    trainer = make_trainer(config, folder)
    (folder / "config.json").write_text(json.dumps(resolved(config), indent=2) + "\n", "utf-8")
    rounds = config.federation.training.rounds
    with _progress_bar(options.quiet) as bar:
        task = bar.add_task("training", total=rounds, completed=trainer.state.round_number)

        def show(record: RoundRecord) -> None:
            if record.deployed_accuracy is not None:
                bar.update(task, description=f"deployed accuracy {record.deployed_accuracy:.3f}")
            bar.advance(task)

        weights = trainer.run(show)
    save_file(weights, folder / "model.safetensors")
    arm = config.allocation.solver
    seed = config.federation.seed
    comparison = Comparison(
        name=folder.name,
        target_accuracy=options.target_accuracy,
        scenarios=("run",),
        arms=(arm,),
        results=(RunResult.read(folder, "run", arm, seed),),
        frontiers=frontier_views([Job("run", arm, seed, config)], seed),
    )
    _finish(comparison, folder)


def _compare(options: argparse.Namespace) -> None:
    config = parse_compare(_table(options))
    folder: Path = options.out
    with _progress_bar(options.quiet) as bar:
        task = bar.add_task("starting", total=None)

        def show(advance: Advance) -> None:
            bar.update(
                task,
                description=f"{advance.runs_done} of {advance.runs_total} runs, rounds",
                completed=advance.rounds_done,
                total=advance.rounds_total,
            )

        name = "demo" if options.config == "demo" else Path(options.config).stem
        comparison = run_comparison(name, config, folder, show)
    _finish(comparison, folder)


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


def _profile(options: argparse.Namespace) -> None:
    set_up_process(options.threads)
    menu = [text.strip() for text in options.menu.split(",")]
    profile = measure_profile(
        options.data, options.model, menu, options.batch_size, options.samples
    )
    profile.save(options.out)
    for strategy, seconds in zip(profile.strategies, profile.step_seconds, strict=True):
        print(f"{strategy!s:12} {seconds * 1e3:8.3f} ms a step")
    print(f"profile: {options.out}")


def _progress_bar(quiet: bool) -> Progress:
    """A bar on standard error; silent when that is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
    )


if __name__ == "__main__":
    sys.exit(main())
