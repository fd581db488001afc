"""What `cvx_process` runs: a line of JSON in, [folder, backend, gap, seconds, threads], a line out.

The answer stands in the folder then.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from .cvx_apart import ANSWER, PROGRAM
from .cvx_backends import Settings, seconds_left, solve_here
from .cvx_model import load_cvxpy
from .phases import phase, recording

if TYPE_CHECKING:
    import cvxpy


def serve() -> None:
    """Answers what comes in until nothing more does."""
    # What backends print, their licences for instance, must not stand between the answers.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    load_cvxpy()
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        folder, name, gap, seconds, threads = json.loads(line)
        answer(Path(folder), name, Settings(gap, seconds, threads))
        print("answered", file=out, flush=True)


def answer(folder: Path, name: str, settings: Settings) -> None:
    """Solves the program in a folder and leaves the answer there."""
    start = time.perf_counter()
    with recording() as seconds:
        with phase("compile"):
            program, columns = read(folder / PROGRAM)
        found = solve_here(program, name, seconds_left(settings, time.perf_counter() - start))
    values = np.zeros(0) if columns.value is None else np.asarray(columns.value)
    np.savez(
        folder / ANSWER,
        status=np.array(found.status),
        bound=np.array(found.bound),
        failure=np.array(found.failure),
        values=values,
        compile_seconds=np.array(seconds.get("compile", 0.0)),
    )


def read(path: Path) -> tuple[cvxpy.Problem, cvxpy.Variable]:
    """The program in a file, and its columns."""
    cp = load_cvxpy()

    with np.load(path) as data:
        cost, limits, split = data["cost"], data["limits"], int(data["equalities"])
        places, shape = (data["row"], data["column"]), (len(limits), len(cost))
        rows = sparse.csr_array((data["value"], places), shape=shape)
        lower, upper = data["lower"], data["upper"]
        binary, whole = data["boolean"], data["integer"]
    columns = cp.Variable(
        len(cost),
        boolean=(binary,) if binary.size else False,
        integer=(whole,) if whole.size else False,
    )
    low, high = np.isfinite(lower), np.isfinite(upper)
    parts = [
        (rows[:split] @ columns == limits[:split], split),
        (rows[split:] @ columns <= limits[split:], len(limits) - split),
        (columns[low] >= lower[low], low.sum()),
        (columns[high] <= upper[high], high.sum()),
    ]
    constraints = [constraint for constraint, size in parts if size]
    return cp.Problem(cp.Minimize(cost @ columns), constraints), columns


if __name__ == "__main__":
    serve()
