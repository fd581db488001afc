"""`Cvx`: the whole program in cvxpy, for other MIP solvers and for constraints of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..arrays import IntArray
from ..check import violations, within_deadline
from ..problem import AllocationProblem
from ..solution import Answer, Status
from .cvx_apart import solve_apart
from .cvx_backends import BACKENDS, Found, Settings, solve_here
from .cvx_constraints import function_name
from .cvx_model import CvxModel, CvxVariables, load_cvxpy
from .milp import check_settings
from .phases import phase
from .program import COST_RANGE

if TYPE_CHECKING:
    import cvxpy

_PROOF_TOLERANCE = 1e-6  # how far an optimum may be from its bound, relative to the objective ...
_SMALL = 1e-2  # ... or to this part of the largest term: no looser than what `solve` asks for


@dataclass(frozen=True, eq=False)
class Cvx:
    """Exact for the whole program and whatever mixed-integer linear constraints the user adds.

    A reference and a home for constraints, not the fast way: `Milp` hands HiGHS the same program
    without cvxpy. Whoever found it, an answer counts only if every client has exactly one strategy
    and the limits and the user's constraints hold; it is `OPTIMAL` only if the backend's own bound
    proves it. CBC, GLPK_MI and XPRESS hand over no bound, so that theirs are `FEASIBLE`.

    The time limit holds for cvxpy's work and the backend's. HIGHS and the commercial backends stop
    at it; SCIPY, SCIP, CBC and GLPK_MI may run on, CBC for ten times as long: with a limit they
    run in a process of their own, which takes a second or two to start, beyond the limit, and is
    ended, without an answer, 1 s after one and a half times the limit.

    Some backends print a line on their licence, HiGHS two on its version, the first time that a
    process uses them; no option prevents that.

    Args:
        backend: A mixed-integer solver that cvxpy knows and that is installed; HIGHS where None.
        gap: Relative gap at which the search stops; 0 proves the optimum.
        time_limit_seconds: Stop after this time with the best allocation so far; unlimited if None.
        threads: Threads of the backend; what it does by itself where None.
        constraints: From the variables to a list of further constraints, linear by pieces and
            convex; they may bring variables of their own, also whole ones.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], tradeoff=10.0,
        ...                             num_examples=[30, 70], clients=["phone", "watch"])
        >>> Cvx()(problem).choice
        array([1, 0])

        One client must do a strategy; not both of two may:

        >>> Cvx(constraints=lambda v: [v.of("watch", "qat-w2a2") == 1])(problem).choice
        array([1, 1])
        >>> def not_both(v):
        ...     return [v.of("phone", "qat-w2a2") + v.of("watch", "ptq-w2a2") <= 1]
        >>> Cvx(constraints=not_both)(problem).choice
        array([0, 0])

        At most 30 % of the data with ptq:

        >>> def taught(v):
        ...     return [problem.example_shares @ v.strategy("ptq-w2a2") <= 0.3]
        >>> Cvx(constraints=taught)(problem).choice
        array([1, 1])

        The mean time of those who take part is at most 2 s (times their number, it is linear):

        >>> def brisk(v):
        ...     beyond = (problem.seconds - 2.0) * problem.participates
        ...     return [(beyond.ravel() @ v.choice.flatten(order="C")) <= 0]
        >>> Cvx(constraints=brisk)(problem).choice
        array([0, 0])
    """

    backend: str | None = None
    gap: float = 0.0
    time_limit_seconds: float | None = None
    threads: int | None = None
    constraints: Callable[[CvxVariables], Sequence[cvxpy.Constraint]] | None = None

    def __post_init__(self) -> None:
        check_settings(self.gap, self.time_limit_seconds)
        if self.threads is not None and not self.threads >= 1:
            raise ValueError(
                f"`threads >= 1` must hold, but got {self.threads}. None leaves it to the backend."
            )

    def __repr__(self) -> str:
        names = ("gap", "time_limit_seconds", "threads")
        settings = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        own = "" if self.constraints is None else f", constraints={function_name(self.constraints)}"
        return f"Cvx(backend={self.backend!r}, {settings}{own})"

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            SolverError: If cvxpy is not installed.
            ValueError: If the backend is not installed or cannot take the settings, if
                `constraints` returns anything but mixed-integer linear constraints, or if the
                problem does not say what to minimise.
        """
        backend = self._installed_backend()
        if not within_deadline(problem).any(axis=1).all():
            return Answer(Status.INFEASIBLE)
        with phase("build"):
            model = CvxModel.of(problem, self.constraints)
        found = self._run(model.program, backend)
        bound = found.bound * model.unit
        if found.is_infeasible:
            return Answer(Status.INFEASIBLE, message=self._blame(problem))
        choice = None if found.failure else model.decode(problem)
        if choice is None:
            without = f"{backend} stopped ({found.status}) without a whole allocation that keeps "
            without += "every constraint"
            return Answer(Status.UNKNOWN, bound=bound, message=found.failure or without)
        if broken := violations(problem, choice):
            message = f"{backend}'s choice breaks a limit: {'; '.join(broken)}"
            return Answer(Status.UNKNOWN, bound=bound, message=message)
        claimed = found.is_optimal and self.gap == 0
        proven = claimed and bound >= problem.objective(choice) - _tolerance(problem, choice, model)
        doubt = ", but it gives no bound that proves it" if claimed and not proven else ""
        status = Status.OPTIMAL if proven else Status.FEASIBLE
        return Answer(status, choice, bound, message=f"{backend}: {found.status}{doubt}")

    def _installed_backend(self) -> str:
        installed = load_cvxpy().reductions.solvers.defines.INSTALLED_MI_SOLVERS
        able = [name for name in BACKENDS if name in installed]
        backend = "HIGHS" if self.backend is None else self.backend
        if backend not in able:
            raise ValueError(
                f"`backend` must be an installed mixed-integer solver, {able}, but got "
                f"{backend!r}. Of those that cvxpy knows, {list(BACKENDS)} can be used."
            )
        if self.threads is not None and not BACKENDS[backend].threads:
            able = [name for name in able if BACKENDS[name].threads]
            raise ValueError(
                f"`threads=None` must hold for {backend}, which cannot be told, but got "
                f"{self.threads}. {able} can."
            )
        return backend

    def _run(self, program: cvxpy.Problem, backend: str) -> Found:
        settings = Settings(self.gap, self.time_limit_seconds, self.threads)
        if self.time_limit_seconds is None or BACKENDS[backend].keeps_time:
            return solve_here(program, backend, settings)
        return solve_apart(program, backend, settings)

    def _blame(self, problem: AllocationProblem) -> str:
        """Words if it is the user's constraints; empty if the problem itself is infeasible."""
        if self.constraints is None:
            return ""
        alone = replace(self, constraints=None)(problem)
        if alone.status is Status.INFEASIBLE:
            return ""
        kept = "can be kept" if alone.choice is not None else "may be possible to keep"
        return (
            f"The limits of the problem {kept}, but not together with the constraints of "
            f"{function_name(self.constraints)}, given to Cvx(constraints=...): relax one of these."
        )


def _tolerance(problem: AllocationProblem, choice: IntArray, model: CvxModel) -> float:
    """How far a bound may be from an objective that it proves."""
    largest = model.unit * COST_RANGE
    return _PROOF_TOLERANCE * max(abs(problem.objective(choice)), _SMALL * largest)
