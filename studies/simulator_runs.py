"""What runs of the simulators' programs said, and the table made of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .simulators.programs import Program, count_lines
from .watched import Watched

COLUMNS = (
    "program",
    "s a round",
    "over the first",
    "least",
    "over the first",
    "start-up",
    "memory",
    "lines",
    "accuracy",
    "note",
)
LEAST_ROUNDS = 3
"""The first and the last round are set apart; one must be left."""
_NOISE = 0.04  # of an accuracy on 1000 examples: three standard deviations


@dataclass(frozen=True)
class Repetition:
    """One run of a program.

    Args:
        failure: Why it did not end well; the rest is empty then.
        startup_seconds: From the process' start to where the server begins the first round, less
            importing torch.
        round_seconds: Of every round.
        accuracy: Of the model that came out.
        peak_bytes: Most memory of all its processes; None where it is not known.
    """

    failure: str = ""
    startup_seconds: float = 0.0
    round_seconds: tuple[float, ...] = ()
    accuracy: float = 0.0
    peak_bytes: int | None = None


def read_run(run: Watched, rounds: int) -> Repetition:
    """What a run's output says; lines that are not the program's own reports are passed over.

    Args:
        run: The run.
        rounds: How many it had to train.
    """
    if run.failure:
        return Repetition(run.failure)
    lines = [line for text in run.output.splitlines() if (line := _parsed(text)) is not None]
    reports = [line for line in lines if "round" in line]
    accuracies = [line["accuracy"] for line in lines if "accuracy" in line]
    told = [line["round"] for line in reports]
    if told != list(range(rounds + 1)) or len(accuracies) != 1:
        return Repetition(
            f"rounds 0 to {rounds} and one accuracy must be told, but got {told}, {accuracies}"
        )
    times = [line["at"] for line in reports]
    return Repetition(
        startup_seconds=times[0] - run.started - reports[0]["torch_seconds"],
        round_seconds=tuple(b - a for a, b in pairwise(times)),
        accuracy=accuracies[0],
        peak_bytes=run.peak_bytes,
    )


def _parsed(text: str) -> dict[str, Any] | None:
    """A report: an object of JSON with a time."""
    if not text.startswith("{"):
        return None
    try:
        line: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError:
        return None
    return line if "at" in line else None


@dataclass(frozen=True)
class Summary:
    """A program's repetitions together; the first failure stands for all.

    Args:
        failure: Empty if every repetition ended well.
        median_seconds: Of a round, but the first and the last of a repetition.
        least_seconds: Of the same rounds.
        startup_seconds: Median of what came on top of the rounds and importing torch: from the
            process' start to the end of the first round, less a median round.
        accuracies: Least and most.
        peak_bytes: Median; None where it is not known.
    """

    failure: str
    median_seconds: float = 0.0
    least_seconds: float = 0.0
    startup_seconds: float = 0.0
    accuracies: tuple[float, float] = (0.0, 0.0)
    peak_bytes: float | None = None

    @classmethod
    def of(cls, repetitions: Sequence[Repetition]) -> Summary:
        """Sums up; without a repetition there is nothing to say but that."""
        failures = [r.failure for r in repetitions if r.failure]
        if failures or not repetitions:
            return cls(failures[0] if failures else "not run")
        middle = [s for r in repetitions for s in r.round_seconds[1:-1]]
        accuracies = [r.accuracy for r in repetitions]
        peaks = [r.peak_bytes for r in repetitions if r.peak_bytes is not None]
        return cls(
            failure="",
            median_seconds=statistics.median(middle),
            least_seconds=min(middle),
            startup_seconds=statistics.median(map(_on_top, repetitions)),
            accuracies=(min(accuracies), max(accuracies)),
            peak_bytes=statistics.median(peaks) if peaks else None,
        )


def _on_top(run: Repetition) -> float:
    """Some start their workers before the first round, some in it."""
    first, *middle, _ = run.round_seconds
    return run.startup_seconds + first - statistics.median(middle)


def table(programs: Sequence[Program], runs: Mapping[str, Sequence[Repetition]]) -> str:
    """A Markdown table; ratios are over the first program, where that ended well.

    Args:
        programs: A row each.
        runs: Repetitions by the program's name.
    """
    summaries = [Summary.of(runs[program.name]) for program in programs]
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|" + "---:|" * (len(COLUMNS) - 2) + "---|"]
    for program, summary in zip(programs, summaries, strict=True):
        lines.append(f"| {' | '.join(_cells(program, summary, summaries[0]))} |")
    return "\n".join(lines) + "\n"


def _cells(program: Program, summary: Summary, bare: Summary) -> list[str]:
    lines = str(count_lines(program.path.read_text("utf-8")))
    if summary.failure:
        failure = f"**failed: {summary.failure.replace('|', '/')}**"
        return [program.title, *[""] * 6, lines, "", failure]
    notes = [program.note] if program.note else []
    together = (*summary.accuracies, *bare.accuracies)
    if not bare.failure and max(together) - min(together) > _NOISE:
        notes.append(f"**does not train the same: accuracy differs by more than {_NOISE}**")
    peak = summary.peak_bytes
    return [
        program.title,
        f"{summary.median_seconds:.3f}",
        _ratio(summary.median_seconds, bare.median_seconds),
        f"{summary.least_seconds:.3f}",
        _ratio(summary.least_seconds, bare.least_seconds),
        f"{summary.startup_seconds:.1f} s",
        "" if peak is None else f"{peak / 2**20:,.0f} MiB",
        lines,
        " to ".join(dict.fromkeys(f"{accuracy:.3f}" for accuracy in summary.accuracies)),
        "; ".join(notes),
    ]


def _ratio(value: float, bare: float) -> str:
    return f"{value / bare:.2f}" if bare else ""
