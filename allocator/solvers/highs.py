"""HiGHS, called directly: a mixed-integer or linear program in, what is known of it out."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

import numpy as np
import scipy  # loads `scipy.sparse`, which takes 100 ms, when it is first used

from ..arrays import BoolArray, FloatArray
from ..errors import SolverError


class Outcome(Enum):
    """How HiGHS ended; with a cutoff, "infeasible" means nothing below it."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    STOPPED = "stopped"
    """At a limit, or for a reason of its own; there may be an answer all the same."""


@dataclass(frozen=True)
class HighsSettings:
    """When HiGHS stops.

    Args:
        gap: Relative gap.
        absolute_gap: In units of the cost.
        time_limit_seconds: Wall time; HiGHS checks it rarely in some phases.
        node_limit: Nodes of the search, which do not depend on the clock.
        tolerance: By how much a row or a whole number may be missed; its default where None.
        cutoff: Of the cost: answers that are no better are not looked for.
    """

    gap: float = 0.0
    absolute_gap: float = 0.0
    time_limit_seconds: float | None = None
    node_limit: int | None = None
    cutoff: float = np.inf
    tolerance: float | None = None

    def options(self) -> dict[str, bool | int | float]:
        """The settings under HiGHS' own names."""
        named: dict[str, bool | int | float] = {
            "output_flag": False,
            "threads": 1,
            "mip_rel_gap": self.gap,
            "mip_abs_gap": self.absolute_gap,
        }
        if self.time_limit_seconds is not None:
            named["time_limit"] = max(float(self.time_limit_seconds), 0.0)  # there may be none left
        if self.node_limit is not None:
            named["mip_max_nodes"] = int(self.node_limit)
        if np.isfinite(self.cutoff):
            # Whoever has a cutoff has an answer: what finds first answers is wasted on it.
            named["objective_bound"] = float(self.cutoff)
            named["mip_heuristic_effort"] = 0.01
            named["mip_heuristic_run_feasibility_jump"] = False
        if self.tolerance is not None:
            named["mip_feasibility_tolerance"] = self.tolerance
            named["primal_feasibility_tolerance"] = self.tolerance
        return named


@dataclass(frozen=True, eq=False)
class LinearProgram:
    """`min cost v` with `rows v <= limits`, `equalities v = right`, `lower <= v <= upper`.

    Args:
        cost: `(columns,)`.
        rows: `(inequalities, columns)`.
        limits: `(inequalities,)`.
        equalities: `(equalities, columns)`.
        right: `(equalities,)`.
        lower: `(columns,)`.
        upper: `(columns,)`.
        whole: `(columns,)` which columns are integers.
    """

    cost: FloatArray
    rows: scipy.sparse.csr_array
    limits: FloatArray
    equalities: scipy.sparse.csr_array
    right: FloatArray
    lower: FloatArray
    upper: FloatArray
    whole: BoolArray


@dataclass(frozen=True, eq=False)
class Found:
    """What HiGHS knows.

    Args:
        outcome: How it ended.
        values: `(columns,)` of the best answer, or None.
        bound: Proven lower bound of the cost, or -inf.
        row_prices: `(inequalities,)` of a linear program, >= 0.
        equality_prices: `(equalities,)` of a linear program.
        message: How it ended, in HiGHS' words.
    """

    outcome: Outcome
    values: FloatArray | None
    bound: float
    row_prices: FloatArray
    equality_prices: FloatArray
    message: str


def minimise(program: LinearProgram, settings: HighsSettings) -> Found:
    """Runs HiGHS on one thread.

    Args:
        program: The program; linear if no column is whole.
        settings: When to stop.

    Raises:
        SolverError: If HiGHS refuses the program or breaks down.
    """
    # One scheduler serves the whole process, with as many threads as its first user asked for.
    _core().Highs.resetGlobalScheduler(True)
    highs = _load(program, settings)
    if highs.run() == _core().HighsStatus.kError:
        raise SolverError("HiGHS broke down: scale the problem's tables to similar magnitudes.")
    return _read(highs, program, settings.cutoff)


@cache
def _core() -> Any:  # a module without types
    import highspy

    core: Any = highspy
    with _no_output():
        core.Highs()  # the first one of a process prints a banner that no option prevents
    return core


@contextmanager
def _no_output() -> Iterator[None]:
    """Shuts the standard output, for C code too, if there is one."""
    if sys.stdout is not None:
        sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # a service may run without
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
        _flush_c_streams()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _flush_c_streams() -> None:
    try:
        ctypes.CDLL(None).fflush(None)
    except (OSError, TypeError):  # where C's library has no such name the banner may show
        return


def _load(program: LinearProgram, settings: HighsSettings) -> Any:
    highspy = _core()
    highs = highspy.Highs()
    for name, value in settings.options().items():
        if highs.setOptionValue(name, value) != highspy.HighsStatus.kOk:
            raise SolverError(f"HiGHS refuses its option {name} = {value}.")
    matrix = scipy.sparse.csr_array(scipy.sparse.vstack([program.rows, program.equalities]))
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(program.cost), matrix.shape[0]
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = program.cost, program.lower, program.upper
    lp.row_lower_ = np.append(np.full(len(program.limits), -np.inf), program.right)
    lp.row_upper_ = np.append(program.limits, program.right)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = matrix.indptr, matrix.indices
    lp.a_matrix_.value_ = matrix.data
    if program.whole.any():
        kinds = highspy.HighsVarType
        lp.integrality_ = [kinds.kInteger if w else kinds.kContinuous for w in program.whole]
    if highs.passModel(lp) == highspy.HighsStatus.kError:
        raise SolverError("HiGHS refuses the program: a number in it is too large or not finite.")
    return highs


def _read(highs: Any, program: LinearProgram, cutoff: float) -> Found:
    highspy = _core()
    status, info = highs.getModelStatus(), highs.getInfo()
    statuses = highspy.HighsModelStatus
    outcome = {
        statuses.kOptimal: Outcome.OPTIMAL,
        statuses.kInfeasible: Outcome.INFEASIBLE,
        statuses.kUnboundedOrInfeasible: Outcome.INFEASIBLE,  # no cost here is unbounded
        statuses.kObjectiveBound: Outcome.INFEASIBLE,
    }.get(status, Outcome.STOPPED)
    solution = highs.getSolution()
    # 2: a feasible point. Anything less is no answer, whatever values stand there.
    has_answer = outcome is not Outcome.INFEASIBLE and info.primal_solution_status == 2
    is_whole = bool(program.whole.any())
    if is_whole:
        # What is not below the cutoff was pruned: the bound says nothing of it.
        bound = min(float(info.mip_dual_bound), cutoff)
    else:
        bound = float(info.objective_function_value) if outcome is Outcome.OPTIMAL else -np.inf
    duals = np.zeros(0) if is_whole else np.array(solution.row_dual)
    split = len(program.limits) if len(duals) else 0
    return Found(
        outcome=outcome,
        values=np.array(solution.col_value) if has_answer else None,
        bound=bound if np.isfinite(bound) else -np.inf,
        row_prices=np.maximum(-duals[:split], 0.0),
        equality_prices=-duals[split:],
        message=highs.modelStatusToString(status),
    )
