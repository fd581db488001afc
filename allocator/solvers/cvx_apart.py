"""A backend in a process of its own, for those that run on after their time limit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from .cvx_backends import Found, Settings, seconds_left
from .cvx_model import load_cvxpy
from .phases import phase, rebook

if TYPE_CHECKING:
    import cvxpy

PROGRAM, ANSWER = "program.npz", "answer.npz"

_LATEST, _AND_SECONDS = 1.5, 1.0
"""The process is ended at this multiple of the time limit and so many seconds after its start."""


def solve_apart(program: cvxpy.Problem, name: str, settings: Settings) -> Found:
    """Like `solve_here`, but in a process that is ended if the backend does not end by itself.

    The program travels as the arrays that cvxpy makes of it, so that nothing is pickled. It costs
    the start of Python and cvxpy, about a second, and ends a crash of the backend as well.

    Args:
        program: The program, with the user's constraints.
        name: A key of `BACKENDS`.
        settings: With a time limit.
    """
    cp, start = load_cvxpy(), time.perf_counter()
    # Any linear backend's data would do; HiGHS comes with cvxpy.
    with phase("compile"):
        data, chain, inverse = program.get_problem_data("HIGHS", ignore_dpp=True)
    with TemporaryDirectory(prefix="fedhq-") as folder:
        with phase("compile"):
            _write(Path(folder) / PROGRAM, data)
        left = seconds_left(settings, time.perf_counter() - start)
        failure = _run(folder, name, left)
        if failure:
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


def _run(folder: str, name: str, settings: Settings) -> str:
    """Runs the process; returns what failed, or nothing."""
    seconds = max(settings.seconds or 0.0, 0.0)
    told = [folder, name, str(settings.gap), str(seconds), str(settings.threads or "")]
    with subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.cvx_child", *told],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            if process.stdout is not None:
                with phase("compile"):
                    process.stdout.readline()  # its imports are done
            _, errors = process.communicate(timeout=_LATEST * seconds + _AND_SECONDS)
        except subprocess.TimeoutExpired:
            return f"did not stop at its time limit of {seconds:.3g} s and was ended."
        finally:
            process.kill()  # does nothing where it has ended
    if process.returncode:
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        return f"failed with exit status {process.returncode}: {''.join(last)}"
    return ""


def _write(path: Path, data: dict[str, Any]) -> None:
    """Writes the program `min cost x`, `rows x = limits` (the first ones) and `<=` (the rest)."""
    settings = load_cvxpy().settings
    rows = sparse.coo_array(data[settings.A])
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
