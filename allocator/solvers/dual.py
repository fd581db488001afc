"""`Dual`: prices and their bound for the whole program, and an allocation recovered from them."""

from __future__ import annotations

from dataclasses import dataclass

from ..problem import AllocationProblem
from ..solution import Answer, Status
from .fastest import fastest, is_fastest
from .milp import check_settings
from .prune import without_dear
from .search import Search

_KICKS = 20  # where evenness counts: few single moves keep it


@dataclass(frozen=True)
class Dual:
    """A proven bound, a near-optimal allocation and prices in milliseconds, at any scale.

    Lagrangian relaxation with the sweep as its oracle (design section 3): for cohorts of hundreds
    the gap is some thousandths, for thousands of clients and more it vanishes. Deterministic; stops
    by itself. `Exact` closes the gap that is left.

    Args:
        gap: Relative gap at which it stops looking for better.

    Raises:
        ValueError: If the gap is out of range.

    Example:
        >>> from fedhq.allocator import Budget
        >>> problem = AllocationProblem(("skip", "qat-w2a2"), [[0, 2], [0, 3], [0, 9]],
        ...     [[.1, 0], [.2, 0], [.3, 0]], tradeoff=20.0,
        ...     budgets=[Budget("uplink_bytes", [[0, 10]] * 3, 25)])
        >>> answer = Dual()(problem)
        >>> answer.choice, answer.bound <= problem.objective(answer.choice)
        (array([1, 1, 0]), True)
    """

    gap: float = 1e-5

    def __post_init__(self) -> None:
        check_settings(self.gap, None)

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            ValueError: If the problem does not say what to minimise.
        """
        if problem.has_goal and is_fastest(problem):
            return fastest(problem, lambda least_loss, _: self(least_loss))
        search = Search.of(problem, self.gap)
        if search is None:
            return Answer(Status.INFEASIBLE)
        uneven = search.bounds.relaxation.curves.has_leads
        search.run(kicks=_KICKS if uneven else 0)
        answer = search.answer("prices and recovery, without a search among allocations")
        narrower = without_dear(problem, answer)
        return answer if narrower is None else self(narrower)
