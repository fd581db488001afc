"""`Cvx`: the whole program in cvxpy, for other MIP solvers and for constraints of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..check import within_deadline
from ..problem import AllocationProblem
from ..solution import Answer, Status
from .cvx_model import CvxModel, CvxVariables, load_cvxpy
from .milp import check_settings

if TYPE_CHECKING:
    import cvxpy

# What a backend calls its relative gap and time limit, and the dictionary around the two.
_SETTINGS = {
    "HIGHS": ("mip_rel_gap", "time_limit", "highs_options"),
    "SCIPY": ("mip_rel_gap", "time_limit", "scipy_options"),
    "SCIP": ("limits/gap", "limits/time", "scip_params"),
    "GUROBI": ("MIPGap", "TimeLimit", ""),
}


@dataclass(frozen=True, eq=False)
class Cvx:
    """Exact for the whole program and whatever mixed-integer linear constraints the user adds.

    A reference and a home for constraints, not the fast way: `Milp` hands HiGHS the same program
    without cvxpy. Whoever found it, an answer counts only if every client has exactly one strategy
    and the user's constraints hold. HiGHS prints a banner of two lines the first time that a
    process uses it through cvxpy; no option prevents that.

    Args:
        backend: A mixed-integer solver that cvxpy knows; HIGHS where None.
        gap: Relative gap at which the search stops; 0 proves the optimum.
        time_limit_seconds: Stop after this time with the best allocation so far; unlimited if None.
        constraints: From the variables to further constraints.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], tradeoff=10.0)
        >>> Cvx(constraints=lambda v: [v.choice[1, 1] == 1])(problem).choice
        array([1, 1])
    """

    backend: str | None = None
    gap: float = 0.0
    time_limit_seconds: float | None = None
    constraints: Callable[[CvxVariables], Sequence[cvxpy.Constraint]] | None = None

    def __post_init__(self) -> None:
        check_settings(self.gap, self.time_limit_seconds)

    def __repr__(self) -> str:
        own = "" if self.constraints is None else f", constraints={_name(self.constraints)}"
        limits = f"gap={self.gap}, time_limit_seconds={self.time_limit_seconds}"
        return f"Cvx(backend={self.backend!r}, {limits}{own})"

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            SolverError: If cvxpy is not installed.
            ValueError: If the backend is not installed or cannot take the settings, or if the
                problem does not say what to minimise.
        """
        backend = self._installed_backend()
        options = self._options(backend)
        if not within_deadline(problem).any(axis=1).all():
            return Answer(Status.INFEASIBLE)
        model = CvxModel.of(problem, self.constraints)
        failure = model.solve(backend, options)
        if failure:
            return Answer(Status.UNKNOWN, message=failure)
        if model.is_infeasible():
            return Answer(Status.INFEASIBLE, message=self._blame(problem))
        choice = model.decode(problem)
        bound = model.bound()
        if choice is None:
            message = f"{backend} stopped ({model.program.status}) without a whole allocation"
            return Answer(Status.UNKNOWN, bound=bound, message=message)
        exact = self.gap == 0 and backend in _SETTINGS and bound > -np.inf
        proven = model.is_optimal() and exact
        status = Status.OPTIMAL if proven else Status.FEASIBLE
        return Answer(status, choice, bound, message=f"{backend}: {model.program.status}")

    def _installed_backend(self) -> str:
        able = sorted(load_cvxpy().reductions.solvers.defines.INSTALLED_MI_SOLVERS)
        backend = "HIGHS" if self.backend is None else self.backend
        if backend not in able:
            raise ValueError(
                f"`backend` must be an installed mixed-integer solver, {able}, but got {backend!r}."
            )
        return backend

    def _options(self, backend: str) -> dict[str, object]:
        """The gap and the time limit under the backend's own names."""
        if backend not in _SETTINGS:
            if self.gap or self.time_limit_seconds is not None:
                raise ValueError(
                    f"`gap = 0` and `time_limit_seconds = None` must hold for {backend}: fedhq "
                    f"knows how to set these for {sorted(_SETTINGS)} only."
                )
            return {}
        gap_name, time_name, group = _SETTINGS[backend]
        named: dict[str, object] = {gap_name: self.gap}
        if self.time_limit_seconds is not None:
            named[time_name] = self.time_limit_seconds
        return {group: named} if group else named

    def _blame(self, problem: AllocationProblem) -> str:
        """Words if it is the user's constraints; empty if the problem itself is infeasible."""
        if self.constraints is None:
            return ""
        alone = replace(self, constraints=None)(problem)
        if alone.status is Status.INFEASIBLE:
            return ""
        kept = "can be kept" if alone.choice is not None else "may be possible to keep"
        return (
            f"The limits of the problem {kept}, but not together with the constraints given to "
            "Cvx(constraints=...): relax one of these."
        )


def _name(function: Callable[..., object]) -> str:
    """The name of a function, of what a `functools.partial` wraps, or of a callable's class."""
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__qualname__", type(inner).__qualname__))
