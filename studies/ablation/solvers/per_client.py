"""`PerClient`: Optuna over a category for every client, the known-bad way to use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ....allocator import AllocationProblem, Answer, Status, violations
from ....allocator.arrays import IntArray
from ....allocator.check import within_deadline
from ....allocator.solvers.milp import check_settings
from ....allocator.solvers.optuna_study import SamplerName, study_in_memory
from .times import until
from .walk import Walk

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class PerClient:
    """Every client's strategy is a parameter of Optuna's; for comparison with `BlackBox`.

    What a strategy of one client is worth drowns in what all others do: hundreds of trials hardly
    beat chance from some tens of clients on. Limits are told as a constraint.

    Args:
        trials: Allocations that are tried.
        sampler: "tpe", "nsga2" or "random".
        seed: Of the sampler.
        time_limit_seconds: Start no further trial after this time; unlimited if None.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], tradeoff=10.0)
        >>> PerClient(trials=20)(problem).choice
        array([1, 0])
    """

    trials: int = 300
    sampler: SamplerName = "tpe"
    seed: int = 0
    time_limit_seconds: float | None = None

    def __post_init__(self) -> None:
        check_settings(0.0, self.time_limit_seconds)
        if self.trials < 1:
            raise ValueError(f"`trials >= 1` must hold, but got {self.trials}.")

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            SolverError: If Optuna is not installed.
            ValueError: If there is no such sampler, or the problem does not say what to minimise.
        """
        is_late = until(self.time_limit_seconds)
        usable = within_deadline(problem)
        if not usable.any(axis=1).all():
            return Answer(Status.INFEASIBLE)
        study = study_in_memory(self, self.sampler, self.seed)
        options = [[int(s) for s in np.flatnonzero(row)] for row in usable]
        best, least = None, np.inf
        for _ in range(self.trials):
            trial = study.ask()
            choice = _suggested(trial, problem, options)
            objective = problem.objective(choice)
            trial.set_constraint("limits", Walk(problem, usable, choice).missed)
            study.tell(trial, objective)
            if objective < least and not violations(problem, choice):
                best, least = choice, objective
            if is_late():
                break
        if best is None:
            return Answer(Status.UNKNOWN, message=f"none of {len(study.trials)} kept every limit")
        return Answer(Status.FEASIBLE, best, message=f"best of {len(study.trials)} allocations")


def _suggested(
    trial: optuna.Trial, problem: AllocationProblem, options: list[list[int]]
) -> IntArray:
    """`(clients,)` what Optuna proposes that everybody does."""
    names = zip(problem.clients, options, strict=True)
    return np.array([trial.suggest_categorical(name, usable) for name, usable in names])
