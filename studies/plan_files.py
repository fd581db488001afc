"""The files of `fedhq plan`: reads its input within bounds, puts its results into text."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..allocator import AllocationProblem, Prices, Solution
from ..fl_core.text_file import MOST_BYTES, Source, read_bounded

_STANDARD_INPUT = "-"


def read_source(place: str) -> Source:
    """Reads a text file, or standard input where the place is `-`.

    Args:
        place: Path of the file.

    Returns:
        Its text, without a byte order mark.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is empty, no UTF-8 text, or larger than `MOST_BYTES`.
    """
    if place == _STANDARD_INPUT:
        return _source("standard input", sys.stdin.buffer)
    with open(place, "rb") as file:
        return _source(place, file)


def _source(name: str, file: BinaryIO) -> Source:
    mend = "Plan a cohort of fewer clients, or call `fedhq.allocator.solve` with arrays."
    source = Source.of(name, read_bounded(name, file, MOST_BYTES, mend))
    if not source.text.strip():
        raise ValueError(f"{name}: must hold tables, but it is empty. See `fedhq plan --help`.")
    return source


def check_target(option: str, path: Path, suffixes: Sequence[str], inputs: Iterable[str]) -> None:
    """Raises a `ValueError` unless a result may be written there.

    Args:
        option: Of the command line, for messages.
        path: Where to write.
        suffixes: What its name may end in.
        inputs: Files that are read and must stay as they are.
    """
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"{option} {path}: the name must end in {' or '.join(suffixes)}, which says what is "
            "written."
        )
    if path.is_dir():
        raise ValueError(f"{option} {path}: must be a file to write, but is a folder.")
    if any(path.exists() and Path(i).exists() and path.samefile(i) for i in inputs):
        raise ValueError(
            f"{option} {path}: must not be a file that is read, but is. Choose another name."
        )


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV; a number keeps all of its digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def allocation_header(problem: AllocationProblem) -> list[str]:
    """The columns of an allocation's table: who does what, and what that takes."""
    return ["client", "strategy", "seconds", "loss", *(b.resource for b in problem.budgets)]


def allocation_rows(problem: AllocationProblem, solution: Solution) -> list[list[str | float]]:
    """One row a client, in the problem's order; see `allocation_header`."""
    choice = solution.allocation.choice
    tables = (problem.seconds, problem.loss, *(b.usage for b in problem.budgets))
    everybody = np.arange(problem.num_clients)
    numbers = np.stack([table[everybody, choice] for table in tables], axis=1).tolist()
    strategies = [str(problem.strategies[s]) for s in choice]
    return [[c, s, *n] for c, s, n in zip(problem.clients, strategies, numbers, strict=True)]


def allocation_json(problem: AllocationProblem, solution: Solution) -> str:
    """An allocation with its certificate as JSON; what is not known is null."""
    a, header = solution.allocation, allocation_header(problem)
    content = {
        "status": str(solution.status),
        "solver": solution.solver,
        "objective": a.objective,
        "bound": _finite(solution.bound),
        "gap": _finite(solution.gap),
        "round_seconds": a.round_seconds,
        "loss": a.loss,
        "bottleneck": None if a.bottleneck is None else problem.clients[a.bottleneck],
        "budgets": [
            {"resource": b.resource, "limit": b.limit, "usage": float(used)}
            for b, used in zip(problem.budgets, a.usage, strict=True)
        ],
        "prices": None if solution.prices is None else _prices(problem, solution.prices),
        "allocation": [
            dict(zip(header, row, strict=True)) for row in allocation_rows(problem, solution)
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _prices(problem: AllocationProblem, prices: Prices) -> dict[str, Any]:
    counts = dict(zip(map(str, problem.counts), prices.counts.tolist(), strict=True))
    resources = (b.resource for b in problem.budgets)
    return {
        "budgets": dict(zip(resources, prices.budgets.tolist(), strict=True)),
        "coverage": prices.coverage.tolist(),
        "max_loss": float(prices.max_loss),
        "min_participation": float(prices.min_participation),
        "counts": counts,
    }
