"""Speed against the alternatives and the physical limits: `python -m fedhq.studies.benchmark`.

Every number is taken in one run, candidates in turn, the best of many samples. `--quick` takes
fewer and smaller ones; `--only Rounds` measures that section alone; `--out FILE.md` writes the
table instead of printing it.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path

import torch
from rich.console import Console
from rich.status import Status

from ..fl_core.runtime import set_up_process
from .bench_codec import codec_rows
from .bench_rounds import round_rows
from .bench_search import search_rows
from .bench_steps import step_rows
from .bench_sweep import sweep_rows
from .bench_tensors import tensor_rows
from .bench_whole import gap_rows, whole_rows
from .timing import FULL, QUICK, Bench, Role, Row, Scale

SECTIONS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "Separable program": sweep_rows,
    "Whole program": whole_rows,
    "How the gap of the prices' bound falls with the clients": gap_rows,
    "Fake quantization": tensor_rows,
    "Wire codec": codec_rows,
    "Training": step_rows,
    "Rounds": round_rows,
    "Policy search": search_rows,
}
COLUMNS = ("case", "what", "best", "median", "worst", "over fedhq", "over the limit", "note")
GOAL_COLUMNS = ("case", "what", "figure", "asked", "median", "worst", "outcome")

_PACKAGES = ("numpy", "scipy", "torch", "cvxpy", "highspy", "optuna", "brevitas", "torchao")
_HOW_TO_READ = """Best and median over samples that the candidates of a case take in turn, per call.
Where a worst time is given, a case has several problems (seeds): the times are those of the
problems and the ratio is the median of theirs; building a problem never counts. **Bold** is what
fedhq uses; *italic* is what no implementation can do without, the first of a case is "the limit".
The other ratios are of best times. HiGHS chooses its own number of threads."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs all benchmarks and prints or writes their table.

    Args:
        arguments: Of the command line; those of the process where None.
    """
    parser = argparse.ArgumentParser(prog="python -m fedhq.studies.benchmark", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller measurements")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=SECTIONS, metavar="SECTION",
        help=f"of {', '.join(map(repr, SECTIONS))} (default: all)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the table to a file")
    options = parser.parse_args(arguments)
    set_up_process(1)
    text = run(QUICK if options.quick else FULL, options.only)
    if options.out is None:
        print(text, end="")
    else:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, "utf-8")


def run(scale: Scale, only: Iterable[str] = SECTIONS) -> str:
    """Runs benchmarks, tells on the error stream how far it is, and returns Markdown.

    Args:
        scale: How large and how long to measure.
        only: Titles of sections.
    """
    sections = {title: rows for title, rows in SECTIONS.items() if title in set(only)}
    console = Console(stderr=True)
    head = f"# Benchmarks\n\n{machine_line()}\n\n{_HOW_TO_READ}\n"
    parts, measured = [], list[Row]()
    with console.status("") as status:
        for number, (title, rows) in enumerate(sections.items(), start=1):
            place = f"{number} of {len(sections)}, {title}"
            bench = Bench(scale, partial(_show, status, place))
            found = list(rows(bench))
            measured += found
            parts.append(f"## {title}\n\n{table(found)}")
            console.print(f"{place}: done")
    return "\n".join([head, f"## Goals\n\n{goal_table(measured)}", *parts])


def _show(status: Status, place: str, text: str) -> None:
    status.update(f"{place}: {text}")


def machine_line() -> str:
    """Processor, threads, load and versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    versions = []
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    return (
        f"{_processor()}, {cores} cores{load}; torch on {torch.get_num_threads()} thread(s), "
        f"{torch.backends.cpu.get_cpu_capability()}; Python {platform.python_version()}, "
        f"{', '.join(versions)}; fedhq {metadata.version('fedhq')}, {datetime.now(UTC):%Y-%m-%d}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(rows: Iterable[Row]) -> str:
    """A Markdown table; a case is named in its first row.

    Example:
        >>> row = Row("sort", "np.sort", Role.OURS, 0.002, 0.0021, 1.0, None, "")
        >>> print(table([row]).splitlines()[-1])
        | sort | **np.sort** | 2.00 ms | 2.10 ms |  | 1.00 |  |  |
    """
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|" + "---:|" * 5 + "---|"]
    case = ""
    for row in rows:
        mark = {Role.OURS: "**", Role.LIMIT: "*"}.get(row.role, "")
        cells = (
            row.case if row.case != case else "",
            f"{mark}{row.name}{mark}",
            _time(row.best_seconds),
            _time(row.median_seconds),
            _time(row.worst_seconds),
            _ratio(row.over_ours),
            _ratio(row.over_limit),
            "; ".join(filter(None, [row.note, *(f"goal {v}" for v in row.verdicts)])),
        )
        lines.append(f"| {' | '.join(cells)} |")
        case = row.case
    return "\n".join(lines) + "\n"


def goal_table(rows: Iterable[Row]) -> str:
    """A Markdown table of all that was asked, and whether it is reached.

    Example:
        >>> from fedhq.studies.goals import Goal
        >>> verdict = Goal("over a sort", 2.0, "x").judge(3.0)
        >>> row = Row("1 client", "ours", Role.OURS, 1, 1, 1, None, "", verdicts=(verdict,))
        >>> print(goal_table([row]).splitlines()[-1])
        | 1 client | ours | over a sort | at most 2 x | 3 x |  | **missed** |
    """
    lines = [f"| {' | '.join(GOAL_COLUMNS)} |", "|---|---|---|---|---:|---:|---|"]
    for row in rows:
        for verdict in row.verdicts:
            goal = verdict.goal
            worst = goal.say(verdict.worst) if len(verdict.figures) > 1 else ""
            mark = "" if verdict.outcome == "reached" else "**"
            outcome = f"{mark}{verdict.outcome}{mark}"
            cells = goal.figure, goal.ask, goal.say(verdict.median), worst, outcome
            lines.append(f"| {' | '.join([row.case, row.name, *cells])} |")
    return "\n".join(lines) + "\n"


def _time(seconds: float | None) -> str:
    """Three digits and a unit."""
    if seconds is None:
        return ""
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{_digits(seconds * factor)} {unit}"
    return f"{_digits(seconds * 1e6)} µs"


def _ratio(value: float | None) -> str:
    return "" if value is None else _digits(value)


def _digits(value: float) -> str:
    """Three digits, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


if __name__ == "__main__":
    main()
