"""The mixed-integer backends of cvxpy: how each takes its settings, and where its bound lies.

Names of settings are those of cvxpy 1.9.3's interfaces and of the backends' manuals. Tested against
enumeration: HIGHS, SCIPY, SCIP, CBC, GLPK_MI, and the size-limited GUROBI, COPT, XPRESS and CPLEX.
By documentation only (a licence or an NVIDIA GPU is needed): MOSEK, KNITRO, CUOPT. ECOS_BB is left
out: it takes no time limit.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from .cvx_model import load_cvxpy
from .phases import phase

if TYPE_CHECKING:
    import cvxpy

_TIGHT = 1e-9  # how far rows and binaries may be off: far below what a limit may be missed by
_INFINITE = 1e20  # what the first of the backends calls infinite
_LEAST_SECONDS = 1e-3  # some backends read 0 as no limit


@dataclass(frozen=True)
class Settings:
    """What every backend is told.

    Args:
        gap: Relative gap at which the search stops.
        seconds: Time limit, or None.
        threads: Threads, or None for what the backend does by itself.
    """

    gap: float
    seconds: float | None
    threads: int | None


@dataclass(frozen=True)
class Found:
    """What a backend says of a program; the values are in the program's variables.

    Args:
        status: cvxpy's word for it; empty if the backend failed.
        bound: Lower bound of the program's (scaled) objective; -inf where none is given.
        failure: What failed; empty if nothing did.
    """

    status: str
    bound: float = -np.inf
    failure: str = ""

    @property
    def is_infeasible(self) -> bool:
        """Whether infeasibility is claimed; the objective is >= 0, so it cannot be unbounded."""
        return self.status in ("infeasible", "infeasible_or_unbounded")

    @property
    def is_optimal(self) -> bool:
        """Whether an optimum is claimed."""
        return self.status == "optimal"


def _no_bound(raw: Any) -> float:
    return -np.inf


@dataclass(frozen=True)
class Backend:
    """How a backend is told its settings.

    Args:
        gap: What it calls the relative gap.
        seconds: What it calls the time limit.
        threads: What it calls the number of threads; empty where that cannot be set.
        fixed: Further settings, for instance tolerances.
        group: The keyword around all of these; empty where they are keywords themselves.
        milliseconds: Whether the time limit is a whole number of milliseconds.
        keeps_time: Whether it stops at its time limit: HIGHS measured to 180 000 binaries, the
            commercial ones to their free licences' 2 000; where not, at 30 000 at the latest.
        gives_up: Whether at its time limit it may call a program infeasible that is not.
        bound: From what its interface in cvxpy returns to the dual bound, if that gives one.
        errors: `package:Error` that it raises instead of cvxpy's `SolverError`.
    """

    gap: str
    seconds: str
    threads: str = ""
    fixed: Mapping[str, object] = field(default_factory=dict)
    group: str = ""
    milliseconds: bool = False
    keeps_time: bool = True
    gives_up: bool = False
    bound: Callable[[Any], float | None] = _no_bound
    errors: tuple[str, ...] = ()

    def options(self, settings: Settings) -> dict[str, Any]:
        """The settings under the backend's own names."""
        named: dict[str, Any] = {self.gap: settings.gap, **self.fixed}
        if settings.seconds is not None:
            seconds = max(settings.seconds, _LEAST_SECONDS)
            named[self.seconds] = math.ceil(seconds * 1e3) if self.milliseconds else seconds
        if settings.threads is not None:
            named[self.threads] = settings.threads
        return {self.group: named} if self.group else named

    def raises(self) -> tuple[type[Exception], ...]:
        """What a failing run may raise."""
        pairs = [name.split(":") for name in self.errors]
        own = tuple(getattr(import_module(package), error) for package, error in pairs)
        return (load_cvxpy().error.SolverError, *own)


def _mosek_bound(raw: Any) -> float:
    task = raw.get("task")
    return float(task.getdouinf(import_module("mosek").dinfitem.mio_obj_bound)) if task else -np.inf


def _knitro_bound(raw: Any) -> float:
    context = raw.get("context")
    known = import_module("knitro").KN_get_mip_relaxation_bnd
    return float(known(context)) if context else -np.inf


BACKENDS: Mapping[str, Backend] = {
    "HIGHS": Backend(
        "mip_rel_gap",
        "time_limit",
        "threads",
        group="highs_options",
        bound=lambda raw: raw["info"].mip_dual_bound,
    ),
    "SCIPY": Backend(
        "mip_rel_gap",
        "time_limit",
        group="scipy_options",
        keeps_time=False,
        bound=lambda raw: raw.get("mip_dual_bound"),
    ),
    "SCIP": Backend(
        "limits/gap",
        "limits/time",
        fixed={"numerics/feastol": _TIGHT},
        group="scip_params",
        keeps_time=False,
        bound=lambda raw: raw["model"].getDualbound(),
    ),
    "CBC": Backend(
        "allowableFractionGap",
        "maximumSeconds",
        "numberThreads",
        fixed={"integerTolerance": _TIGHT, "primalTolerance": _TIGHT},
        keeps_time=False,
        gives_up=True,
        errors=("builtins:KeyError",),  # of a status that the interface does not know
    ),
    "GLPK_MI": Backend(
        "mip_gap",
        "tm_lim",
        fixed={"tol_bnd": _TIGHT, "tol_int": _TIGHT},
        milliseconds=True,
        keeps_time=False,
        errors=("builtins:KeyError",),
    ),
    "GUROBI": Backend(
        "MIPGap",
        "TimeLimit",
        "Threads",
        fixed={"FeasibilityTol": _TIGHT, "IntFeasTol": _TIGHT, "reoptimize": True},
        bound=lambda raw: raw["model"].ObjBound,
        errors=("gurobipy:GurobiError",),
    ),
    "COPT": Backend(
        "RelGap",
        "TimeLimit",
        "Threads",
        fixed={"FeasTol": _TIGHT, "IntTol": _TIGHT},
        bound=lambda raw: raw["model"].BestBnd,
        errors=("coptpy:CoptError",),
    ),
    "XPRESS": Backend(
        "miprelstop",
        "timelimit",
        "threads",
        fixed={"feastol": _TIGHT, "miptol": _TIGHT},
        errors=("xpress:SolverError", "xpress:ModelError", "xpress:InterfaceError"),
    ),
    "CPLEX": Backend(
        "mip.tolerances.mipgap",
        "timelimit",
        "threads",
        fixed={"simplex.tolerances.feasibility": _TIGHT, "mip.tolerances.integrality": 0.0},
        group="cplex_params",
        bound=lambda raw: raw["model"].solution.MIP.get_best_objective(),
        errors=("cplex.exceptions:CplexError",),
    ),
    "MOSEK": Backend(
        "MSK_DPAR_MIO_TOL_REL_GAP",
        "MSK_DPAR_MIO_MAX_TIME",
        "MSK_IPAR_NUM_THREADS",
        fixed={"MSK_DPAR_MIO_TOL_FEAS": _TIGHT, "MSK_DPAR_MIO_TOL_ABS_RELAX_INT": _TIGHT},
        group="mosek_params",
        bound=_mosek_bound,
        errors=("mosek:Error",),
    ),
    "KNITRO": Backend(
        "mip_opt_gap_rel",
        "mip_maxtime_real",
        "numthreads",
        fixed={"feastol_abs": _TIGHT, "mip_integer_tol": _TIGHT},
        bound=_knitro_bound,
    ),
    "CUOPT": Backend(
        "mip_relative_gap",
        "time_limit",
        "num_cpu_threads",
        fixed={
            "mip_integrality_tolerance": _TIGHT,
            "mip_absolute_tolerance": _TIGHT,
            "mip_relative_tolerance": _TIGHT,
        },
        bound=lambda raw: raw.attr[load_cvxpy().settings.EXTRA_STATS].get("solution_bound"),
    ),
}
"""By cvxpy's names."""


def solve_here(program: cvxpy.Problem, name: str, settings: Settings) -> Found:
    """Runs a backend in this process; it fills the variables if it has values for them.

    The time limit holds for cvxpy's work and the backend's together.
    """
    cp, backend, start = load_cvxpy(), BACKENDS[name], time.perf_counter()
    with phase("compile"):
        data, chain, inverse = program.get_problem_data(name, ignore_dpp=True)
    left = seconds_left(settings, time.perf_counter() - start)
    try:
        _end_threads(name)
        with warnings.catch_warnings():
            # Inaccurate or no solution: the status says so, and the answer is checked. Licences.
            warnings.simplefilter("ignore")
            raw = chain.solve_via_data(program, data, False, False, backend.options(left))
            bound = _finite(backend.bound(raw))  # before `invert`, which some backends free with
            solution = chain.invert(raw, inverse)
    except backend.raises() as error:
        return Found("", failure=f"{name} failed or stopped without an answer: {error}")
    finally:
        _end_threads(name)
    if solution.status in cp.settings.ERROR:
        return Found("", bound, f"{name} failed or stopped without an answer.")
    if solution.status in cp.settings.INF_OR_UNB and backend.gives_up and left.seconds is not None:
        return Found("", failure=f"{name} says infeasible, no proof where time may have run out.")
    if solution.status in cp.settings.SOLUTION_PRESENT:
        program.unpack(solution)
    return Found(solution.status, bound + inverse[-1].get(cp.settings.OFFSET, 0.0))


def _end_threads(name: str) -> None:
    """Ends HiGHS' threads, which a process shares: the next run may ask for another number."""
    if name == "HIGHS":
        import_module("highspy").Highs.resetGlobalScheduler(True)


def seconds_left(settings: Settings, spent: float) -> Settings:
    """The settings for what comes after some seconds have been spent."""
    if settings.seconds is None:
        return settings
    return Settings(settings.gap, settings.seconds - spent, settings.threads)


def _finite(bound: float | None) -> float:
    return -np.inf if bound is None or not abs(bound) < _INFINITE else float(bound)
