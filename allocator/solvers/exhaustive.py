"""`Exhaustive`: the reference that tries every allocation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray, IntArray
from ..check import violations
from ..problem import AllocationProblem
from ..solution import Answer, Status


@dataclass(frozen=True)
class Exhaustive:
    """Tries all `strategies ** clients` allocations; for tests and tiny cohorts.

    Among equal objectives it takes the smallest round time, then the first in menu order.

    Args:
        max_allocations: Refuse problems with more allocations than this.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], tradeoff=10.0)
        >>> Exhaustive()(problem).bound
        4.0
    """

    max_allocations: int = 1_000_000

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            ValueError: If there are more than `max_allocations` allocations.
        """
        choices = enumerate_choices(problem, self.max_allocations)
        objective, seconds = _evaluate(problem, choices)
        for k in np.lexsort((seconds, objective)):
            if not violations(problem, choices[k]):
                return Answer(Status.OPTIMAL, choices[k], problem.objective(choices[k]))
        return Answer(Status.INFEASIBLE)


def enumerate_choices(problem: AllocationProblem, max_allocations: int) -> IntArray:
    """`(allocations, clients)` every combination of allowed strategies, in menu order.

    Raises:
        ValueError: If there are more than `max_allocations`.
    """
    options = [np.flatnonzero(row) for row in problem.allowed]
    total = float(np.prod([float(len(o)) for o in options]))
    if total > max_allocations:
        raise ValueError(
            f"`allocations <= {max_allocations}` must hold for Exhaustive, but {total:.3g} exist. "
            "Use Sweep() or Milp()."
        )
    grid = np.meshgrid(*options, indexing="ij")
    return np.stack([g.ravel() for g in grid], axis=1).astype(np.int64)


def _evaluate(problem: AllocationProblem, choices: IntArray) -> tuple[FloatArray, FloatArray]:
    """`(allocations,)` objectives and round times of all rows at once."""
    rows = np.arange(problem.num_clients)
    seconds = problem.seconds[rows, choices].max(axis=1)
    loss = problem.loss[rows, choices].sum(axis=1)
    if (term := problem.coverage) is not None:
        covered = term.carried + np.einsum("ki,ic->kc", term.teaches[choices], term.share)
        loss = loss + term.losses(covered)
    objective = problem.time_weight * seconds + problem.loss_weight * loss
    if problem.switching_seconds is not None:
        objective = objective + problem.switching_seconds[rows, choices].sum(axis=1)
    return objective, seconds
