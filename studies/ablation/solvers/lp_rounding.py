"""`LpRounding`: the linear relaxation, rounded and repaired."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....allocator import AllocationProblem, Answer, Status
from ....allocator.arrays import BoolArray, FloatArray, IntArray
from ....allocator.solvers.highs import HighsSettings, Outcome
from ....allocator.solvers.milp import check_settings
from ....allocator.solvers.phases import phase
from ....allocator.solvers.program import Program
from .narrowing import narrowing
from .times import best_within_times, until
from .walk import Walk

_TIED = 1e-6  # shares as near as this are equal to HiGHS


@dataclass(frozen=True)
class LpRounding:
    """Everybody's largest share in the linear relaxation; its optimum is a proven bound.

    The relaxation, which HiGHS solves, spreads a client over strategies and so hides what a round
    costs; it is therefore rounded within several round times. What limits a rounded choice misses
    is repaired, client by client; otherwise nothing is improved.

    Args:
        tries: Round times within which it is rounded, and again as many around the best.
        time_limit_seconds: Stop after this time with the best allocation so far; unlimited if None.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], tradeoff=10.0)
        >>> answer = LpRounding()(problem)
        >>> answer.status, answer.choice, round(answer.bound, 6)
        (<Status.FEASIBLE: 'feasible'>, array([1, 0]), 4.0)
    """

    tries: int = 8
    time_limit_seconds: float | None = None

    def __post_init__(self) -> None:
        check_settings(0.0, self.time_limit_seconds)
        if self.tries < 1:
            raise ValueError(f"`tries >= 1` must hold, but got {self.tries}.")

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            ValueError: If the problem does not say what to minimise.
        """
        return narrowing(problem, self._once, self.time_limit_seconds)

    def _once(self, problem: AllocationProblem, seconds: float | None) -> Answer:
        is_late = until(seconds)
        with phase("build"):
            program = Program.of(problem)
        if program is None:
            return Answer(Status.INFEASIBLE)
        found = program.relaxed().minimise(HighsSettings(time_limit_seconds=seconds))
        if found.outcome is Outcome.INFEASIBLE:
            return Answer(Status.INFEASIBLE)
        if found.values is None:
            return Answer(Status.UNKNOWN, message=f"the relaxation: {found.message}")
        share = found.values[: problem.seconds.size].reshape(problem.seconds.shape)

        def attempt(usable: BoolArray) -> IntArray:
            walk = Walk(problem, usable, _largest(share, usable, problem))
            walk.repair(is_late)
            return walk.choice

        choice = best_within_times(problem, attempt, self.tries, is_late)
        if choice is None:
            message = "no rounding of the relaxation could be made to keep every limit"
            return Answer(Status.UNKNOWN, bound=found.bound, message=message)
        return Answer(Status.FEASIBLE, choice, found.bound)


def _largest(share: FloatArray, usable: BoolArray, problem: AllocationProblem) -> IntArray:
    """`(clients,)` the largest usable share; of equals, as zeros are, the least loss."""
    largest = np.where(usable, share, -np.inf).max(axis=1, keepdims=True)
    tied = usable & (share >= largest - _TIED)
    return np.asarray(np.where(tied, problem.loss, np.inf).argmin(axis=1), dtype=np.int64)
