"""The solvers of an ablation by name: how each is told its limit, and what it is a version of."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module, metadata
from types import MappingProxyType

from ...allocator import BlackBox, Cvx, Dual, Exact, Milp, Solver, Sweep
from . import menu_rules as rules
from .kinds import Kind

CVXPY = "cvxpy:"
"""What stands before the name of one of cvxpy's backends."""
EVERY_BACKEND = CVXPY + "*"
"""Stands for all of cvxpy's mixed-integer backends that are installed."""

_OURS = "fedhq"
_SOLVERS = "pip install 'fedhq[solvers]'"


@dataclass(frozen=True)
class Contestant:
    """A solver that takes part.

    Args:
        name: In the study.
        version: Of fedhq or the libraries behind it, for instance `highspy 1.16.0`; empty where
            one is not installed.
        solver: With its limit; None where a library is not installed.
        kind: What kind of solver it is.
        missing: What is not installed, and the mend.
    """

    name: str
    version: str
    solver: Solver | None
    kind: Kind
    missing: str = ""

    @property
    def settings(self) -> str:
        """All settings of the solver, as its `repr` tells them; empty where it is missing."""
        return "" if self.solver is None else repr(self.solver)


@dataclass(frozen=True)
class _Entry:
    """How a contestant is made.

    Args:
        kind: What kind of solver it is.
        make: From the time limit in seconds to the solver.
        modules: Of the libraries behind it.
    """

    kind: Kind
    make: Callable[[float], Solver]
    modules: tuple[str, ...]


def _late(module: str, name: str) -> Callable[[float], Solver]:
    """A solver that is imported only when it takes part."""

    def make(limit: float) -> Solver:
        solver: Solver = getattr(import_module(module, __package__), name)(time_limit_seconds=limit)
        return solver

    return make


def _cvx(backend: str, limit: float) -> Solver:
    return Cvx(backend, time_limit_seconds=limit)


def _policy_search(limit: float) -> Solver:
    """From nothing: without the policy that the problem itself says."""
    return BlackBox(own_first=False, time_limit_seconds=limit)


_BACKEND_MODULES = {
    "HIGHS": "highspy",
    "SCIPY": "scipy",
    "SCIP": "pyscipopt",
    "CBC": "cylp",
    "GLPK_MI": "cvxopt",
    "GUROBI": "gurobipy",
    "COPT": "coptpy",
    "XPRESS": "xpress",
    "CPLEX": "cplex",
    "MOSEK": "mosek",
    "KNITRO": "knitro",
    "CUOPT": "cuopt",
}
_ENTRIES: Mapping[str, _Entry] = MappingProxyType(
    {
        "sweep": _Entry(Kind.OURS, lambda limit: Sweep(), (_OURS,)),
        "dual": _Entry(Kind.OURS, lambda limit: Dual(), (_OURS,)),
        "exact": _Entry(
            Kind.OURS, lambda limit: Exact(time_limit_seconds=limit), (_OURS, "highspy")
        ),
        "highs": _Entry(Kind.LIBRARY, lambda limit: Milp(time_limit_seconds=limit), ("highspy",)),
        "scipy": _Entry(Kind.LIBRARY, _late(".solvers.scipy_milp", "ScipyMilp"), ("scipy",)),
        "cp-sat": _Entry(Kind.LIBRARY, _late(".solvers.cp_sat", "CpSat"), ("ortools",)),
        "pulp": _Entry(Kind.LIBRARY, _late(".solvers.pulp_cbc", "PuLp"), ("pulp",)),
        **{
            CVXPY + name: _Entry(Kind.MODELLER, partial(_cvx, name), ("cvxpy", module))
            for name, module in _BACKEND_MODULES.items()
        },
        "greedy": _Entry(Kind.HEURISTIC, _late(".solvers.greedy", "Greedy"), (_OURS,)),
        "lp-rounding": _Entry(
            Kind.HEURISTIC, _late(".solvers.lp_rounding", "LpRounding"), (_OURS, "highspy")
        ),
        "policy-search": _Entry(Kind.BLACK_BOX, _policy_search, (_OURS, "optuna")),
        "per-client": _Entry(
            Kind.BLACK_BOX, _late(".solvers.per_client", "PerClient"), ("optuna",)
        ),
        "coarse": _Entry(Kind.RULE, lambda limit: rules.COARSE, (_OURS,)),
        "hardware-only": _Entry(Kind.RULE, lambda limit: rules.HARDWARE_ONLY, (_OURS,)),
        "data-only": _Entry(Kind.RULE, lambda limit: rules.DATA_ONLY, (_OURS,)),
        "random": _Entry(Kind.RULE, lambda limit: rules.RANDOM, (_OURS,)),
        "uniform-qat": _Entry(Kind.RULE, lambda limit: rules.UNIFORM_QAT, (_OURS,)),
        "uniform-ptq": _Entry(Kind.RULE, lambda limit: rules.UNIFORM_PTQ, (_OURS,)),
    }
)
NAMES = tuple(_ENTRIES)
"""All solvers that can take part."""


def contestant(name: str, time_limit_seconds: float) -> Contestant:
    """A solver with its limit.

    Args:
        name: One of `NAMES`.
        time_limit_seconds: What it is given; `Sweep`, `Dual` and the rules stop by themselves.

    Raises:
        ValueError: If there is no such solver.

    Example:
        >>> contestant("highs", 2.0).settings
        'Milp(gap=0.0, time_limit_seconds=2.0, node_limit=None, with_prices=False)'
    """
    entry = _ENTRIES[check_name(name)]
    versions = {module: _version(module) for module in entry.modules}
    if lacking := [module for module, version in versions.items() if version is None]:
        missing = f"{', '.join(lacking)} is not installed; {_mend(name)}."
        return Contestant(name, "", None, entry.kind, missing)
    told = ", ".join(f"{module} {version}" for module, version in versions.items())
    return Contestant(name, told, entry.make(time_limit_seconds), entry.kind)


def check_name(name: str) -> str:
    """The name itself, if a solver has it.

    Raises:
        ValueError: If none has; it names near ones.

    Example:
        >>> check_name("cpsat")
        Traceback (most recent call last):
            ...
        ValueError: 'cpsat' is no solver of an ablation. Did you mean 'cp-sat'?
    """
    if name not in _ENTRIES:
        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(NAMES)}."
        raise ValueError(f"{name!r} is no solver of an ablation. {hint}")
    return name


def with_backends(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names with `cvxpy:*` replaced by the backends that are installed and not named already.

    Example:
        >>> "cvxpy:HIGHS" in with_backends(("exact", "cvxpy:*"))
        True
    """
    if EVERY_BACKEND not in names:
        return names
    place = names.index(EVERY_BACKEND)
    installed = (CVXPY + n for n, module in _BACKEND_MODULES.items() if _version(module))
    new = tuple(name for name in installed if name not in names)
    return (*names[:place], *new, *names[place + 1 :])


def _mend(name: str) -> str:
    return "see cvxpy's manual for it" if name.startswith(CVXPY) else f"run: {_SOLVERS}"


@cache
def _version(module: str) -> str | None:
    """That of an installed library; None where it is not installed."""
    if module == _OURS:  # also in a checkout
        return metadata.version(_OURS)
    packages = _packages().get(module)
    return None if packages is None else metadata.version(packages[0])


@cache
def _packages() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()
