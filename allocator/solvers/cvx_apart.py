"""A backend in a process of its own, for those that run on after their time limit."""

from __future__ import annotations

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy  # loads `scipy.sparse`, which takes 100 ms, when it is first used

from .cvx_backends import Found, Settings, seconds_left
from .cvx_model import load_cvxpy
from .cvx_process import process_lent
from .phases import phase, rebook

if TYPE_CHECKING:
    import cvxpy

PROGRAM, ANSWER = "program.npz", "answer.npz"

_LATEST, _AND_SECONDS = 1.5, 1.0
"""The process is ended at this multiple of the time limit and so many seconds after it is asked."""


def solve_apart(program: cvxpy.Problem, name: str, settings: Settings) -> Found:
    """Like `solve_here`, but in a process that is ended if the backend does not end by itself.

    The program travels as the arrays that cvxpy makes of it, so that nothing is pickled. The start
    of Python and cvxpy takes a second or two, which `process_kept` saves; a crash of the backend
    ends the process only.

    Args:
        program: The program, with the user's constraints.
        name: A key of `BACKENDS`.
        settings: With a time limit, in which the start of the process does not count.
    """
    cp, start = load_cvxpy(), time.perf_counter()
    # Any linear backend's data would do; HiGHS comes with cvxpy.
    with phase("compile"):
        data, chain, inverse = program.get_problem_data("HIGHS", ignore_dpp=True)
    with TemporaryDirectory(prefix="fedhq-") as folder:
        with phase("compile"):
            _write(Path(folder) / PROGRAM, data)
        left = seconds_left(settings, time.perf_counter() - start)
        if failure := _ask(folder, name, left):
            return Found("", failure=f"{name} {failure}")
        with np.load(Path(folder) / ANSWER) as answer:
            status, failure = str(answer["status"]), str(answer["failure"])
            bound, values = float(answer["bound"]), answer["values"]
            rebook("compile", float(answer["compile_seconds"]))
    if status in cp.settings.SOLUTION_PRESENT:
        keys = {cp.settings.PRIMAL: values}
        solution = cp.reductions.solution.Solution(status, np.nan, keys, None, {})
        for reduction, known in reversed(list(zip(chain.reductions, inverse, strict=True))[:-1]):
            solution = reduction.invert(solution, known)
        program.unpack(solution)
    return Found(status, bound + inverse[-1].get(cp.settings.OFFSET, 0.0), failure)


def _ask(folder: str, name: str, settings: Settings) -> str:
    """Has the program in a folder answered there; returns what failed, or nothing."""
    seconds = max(settings.seconds or 0.0, 0.0)
    request = json.dumps([folder, name, settings.gap, seconds, settings.threads])
    with process_lent() as process:
        return process.ask(request, _LATEST * seconds + _AND_SECONDS)


def _write(path: Path, data: dict[str, Any]) -> None:
    """Writes the program `min cost x`, `rows x = limits` (the first ones) and `<=` (the rest)."""
    settings = load_cvxpy().settings
    rows = scipy.sparse.coo_array(data[settings.A])
    lower, upper = data[settings.LOWER_BOUNDS], data[settings.UPPER_BOUNDS]
    free = np.full(rows.shape[1], np.inf)
    np.savez(
        path,
        cost=np.asarray(data[settings.C]),
        row=rows.row,
        column=rows.col,
        value=rows.data,
        limits=np.asarray(data[settings.B]),
        equalities=np.array(data[settings.DIMS].zero),
        lower=-free if lower is None else np.asarray(lower),
        upper=free if upper is None else np.asarray(upper),
        boolean=np.array(data[settings.BOOL_IDX], dtype=np.int64),
        integer=np.array(data[settings.INT_IDX], dtype=np.int64),
    )
