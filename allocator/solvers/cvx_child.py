"""The process of `cvx_apart`: `python -m ...cvx_child FOLDER BACKEND GAP SECONDS THREADS`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from .cvx_apart import ANSWER, PROGRAM
from .cvx_backends import Settings, solve_here
from .cvx_model import load_cvxpy
from .phases import recording

if TYPE_CHECKING:
    import cvxpy


def answer(folder: Path, name: str, settings: Settings) -> None:
    """Solves the program in a folder and leaves the answer there."""
    program, columns = read(folder / PROGRAM)
    print("ready", flush=True)  # the clock of `cvx_apart` starts
    with recording() as seconds:
        found = solve_here(program, name, settings)
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
    _, _folder, _name, _gap, _seconds, _threads = sys.argv
    _settings = Settings(float(_gap), float(_seconds), int(_threads) if _threads else None)
    answer(Path(_folder), _name, _settings)
