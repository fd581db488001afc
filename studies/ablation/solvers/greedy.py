"""`Greedy`: what saves most for what it takes comes first, within several round times."""

from __future__ import annotations

from dataclasses import dataclass

from ....allocator import AllocationProblem, Answer, Status
from ....allocator.arrays import BoolArray, IntArray
from ....allocator.check import within_deadline
from ....allocator.solvers.milp import check_settings
from .times import best_within_times, until
from .walk import Walk


@dataclass(frozen=True)
class Greedy:
    """The ratio greedy of knapsacks with several limits, for the whole program.

    Within a round time everybody begins with what takes least of the limits, the fastest of equals.
    Limits that are missed are repaired first; then changes are made by the ratio of what they save
    to what they take of all limits together. Nothing is ever taken back.

    Args:
        tries: Round times that it is run within, and again as many around the best.
        time_limit_seconds: Stop after this time with the best allocation so far; unlimited if None.

    Raises:
        ValueError: If a setting is out of range.

    References:
        Y. Toyoda, "A simplified algorithm for obtaining approximate solutions to zero-one
        programming problems", Management Science, 1975.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], tradeoff=10.0)
        >>> Greedy()(problem).choice
        array([1, 0])
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
        is_late = until(self.time_limit_seconds)
        if not within_deadline(problem).any(axis=1).all():
            return Answer(Status.INFEASIBLE)

        def attempt(usable: BoolArray) -> IntArray:
            walk = Walk(problem, usable)
            walk.repair(is_late)
            walk.improve(is_late)
            return walk.choice

        choice = best_within_times(problem, attempt, self.tries, is_late)
        if choice is None:
            return Answer(Status.UNKNOWN, message="no allocation on its way kept every limit")
        return Answer(Status.FEASIBLE, choice)
