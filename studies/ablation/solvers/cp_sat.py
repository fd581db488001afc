"""`CpSat`: the whole program in integers, for the CP-SAT solver of OR-tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ....allocator import AllocationProblem, Answer, SolverError, Status
from ....allocator.check import within_deadline
from ....allocator.solvers.milp import check_settings
from ....allocator.solvers.phases import phase
from .cp_sat_model import CpSatModel
from .library import load
from .narrowing import narrowing

_PROOF = 1e-6  # how far an optimum may be from its bound, relative to the objective: as in `solve`


@dataclass(frozen=True)
class CpSat:
    """Proves the optimum of the program in whole numbers, up to rounding in their last digits.

    What CP-SAT sees is rounded so that it is easier than the problem (see `CpSatModel`): its bound
    holds for the problem, too, and an allocation that keeps limits by rounding only does not pass.
    Its strategies run side by side, and which of equal allocations they find first is a race.

    Args:
        gap: Relative gap at which the search stops; 0 proves the optimum.
        time_limit_seconds: Stop after this time with the best allocation so far; unlimited if None.
        effort: Stop after so much of what CP-SAT counts as a second of work, which does not depend
            on the clock; unlimited if None.
        workers: Strategies that search; fewer than 8 leave out those that prove bounds.
        deterministic: Whether the strategies take turns, so that the same problem gets the same
            answer unless a time limit ends the search; proofs then take many times as long.
        seed: Of CP-SAT's random numbers.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], tradeoff=10.0)
        >>> answer = CpSat()(problem)
        >>> answer.status, answer.choice
        (<Status.OPTIMAL: 'optimal'>, array([1, 0]))
    """

    gap: float = 0.0
    time_limit_seconds: float | None = None
    effort: float | None = None
    workers: int = 8
    deterministic: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self.gap, self.time_limit_seconds)
        if self.effort is not None and not self.effort > 0:
            raise ValueError(f"`effort > 0` must hold, but got {self.effort}. None is no limit.")
        if self.workers < 1:
            raise ValueError(f"`workers >= 1` must hold, but got {self.workers}. 8 are enough.")

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            SolverError: If OR-tools is not installed, or CP-SAT refuses the model.
            ValueError: If the problem does not say what to minimise.
        """
        return narrowing(problem, self._once, self.time_limit_seconds)

    def _once(self, problem: AllocationProblem, seconds: float | None) -> Answer:
        cp_model = load("ortools.sat.python.cp_model", self)
        with phase("build"):
            if not within_deadline(problem).any(axis=1).all():
                return Answer(Status.INFEASIBLE)
            model = CpSatModel.of(cp_model, problem)
        solver = self._solver(cp_model, seconds)
        status = solver.solve(model.program)
        if status == cp_model.MODEL_INVALID:
            raise SolverError(f"CP-SAT refuses the model: {model.program.validate()}")
        if status == cp_model.INFEASIBLE:
            return Answer(Status.INFEASIBLE)
        bound = model.bound(float(solver.best_objective_bound))
        if status == cp_model.UNKNOWN:
            return Answer(Status.UNKNOWN, bound=bound, message="CP-SAT stopped at a limit")
        choice = model.decode(solver)
        objective = problem.objective(choice)
        claimed = status == cp_model.OPTIMAL and self.gap == 0
        proven = claimed and bound >= objective - _PROOF * abs(objective)
        doubt = ", but only of the rounded program" if claimed and not proven else ""
        return Answer(
            Status.OPTIMAL if proven else Status.FEASIBLE,
            choice,
            bound,
            message=f"CP-SAT: {solver.status_name(status)}{doubt}",
        )

    def _solver(self, cp_model: Any, seconds: float | None) -> Any:
        solver = cp_model.CpSolver()
        told = solver.parameters
        told.num_workers = self.workers
        if self.deterministic:
            told.interleave_search = True
            told.interleave_batch_size = 1  # of several, the first to prove waits for the others
        told.presolve_inclusion_work_limit = 0  # wrong optima: google/or-tools issue 5293
        told.random_seed = self.seed
        told.relative_gap_limit = self.gap
        if seconds is not None:
            told.max_time_in_seconds = seconds
        if self.effort is not None:
            told.max_deterministic_time = self.effort
        return solver
