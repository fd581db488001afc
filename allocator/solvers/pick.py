"""`FrontierPick`: computes the frontier and lets a rule pick the point."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InfeasibleError
from ..frontier import PickRule, pareto_frontier
from ..problem import AllocationProblem
from ..solution import Answer, Status


@dataclass(frozen=True)
class FrontierPick:
    """Decides by a rule on the exact frontier instead of a trade-off.

    Args:
        rule: For instance `FastestWithin(0.01)`: the fastest point within a point of the best.

    Example:
        >>> from fedhq.allocator import FastestWithin
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.01, 0]])
        >>> FrontierPick(FastestWithin(loss=0.02))(problem).choice
        array([1, 0])
    """

    rule: PickRule

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem."""
        try:
            frontier = pareto_frontier(problem)
        except InfeasibleError:
            return Answer(Status.INFEASIBLE)
        return Answer(Status.FEASIBLE, frontier.allocation(frontier.pick(self.rule)).choice)
