"""`FrontierPick`: computes the frontier, lets a rule pick the point, and uses the slack left there.

At a point of the frontier many allocations are equal in round time and predicted loss: once
coverage suffices, the program does not care whether a fast client trains with QAT or not. More
coverage hurts by unevenness at most, which is predicted, and the prediction of what it is good for
may be wrong: what is free is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import IntArray
from ..check import violations, within_deadline
from ..frontier import PickRule, find_frontier
from ..picks import FastestWithin
from ..problem import AllocationProblem
from ..solution import Answer, Solver, Status

_ROUNDING = 1e-12  # of the loss


@dataclass(frozen=True)
class FrontierPick:
    """Decides by a rule on the exact frontier instead of a trade-off.

    Args:
        rule: For instance `FastestWithin(0.01)`: the fastest point within a point of the best.
        solver: Who finds the frontier's points; see `pareto_frontier`.

    Example:
        >>> from fedhq.allocator import FastestWithin
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.01, 0]])
        >>> FrontierPick(FastestWithin(loss=0.02))(problem).choice
        array([1, 0])
    """

    rule: PickRule
    solver: Solver | None = None

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem."""
        uneven = problem.coverage is not None and problem.coverage.has_unevenness
        within = self.rule.loss if uneven and isinstance(self.rule, FastestWithin) else np.inf
        frontier = find_frontier(problem, solver=self.solver, within=within)
        if frontier is None:
            return Answer(Status.INFEASIBLE)
        try:
            point = frontier.pick(self.rule)
        except ValueError as error:  # the rule is right, but this round has no such point
            return Answer(Status.UNKNOWN, message=str(error))
        picked = frontier.allocation(point)
        return Answer(Status.FEASIBLE, use_slack(problem, picked.choice))


def use_slack(problem: AllocationProblem, choice: IntArray) -> IntArray:
    """Lets every client teach more where that costs nothing.

    A client takes the strategy that teaches most among those that end within the round time, have
    no more loss and switching price of their own, keep every limit and do not raise the whole loss;
    of equals the fastest. Round time and loss do not rise.

    Args:
        problem: The problem.
        choice: `(clients,)` a choice that keeps its limits.

    Returns:
        `(clients,)` the new choice.

    Example:
        >>> from fedhq.allocator import Coverage
        >>> coverage = Coverage([[5], [5]], (0, 1), ((0, .4), (.5, 0)))
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[0, 0], [0, 0]], coverage=coverage)
        >>> use_slack(problem, np.array([0, 0]))
        array([1, 0])
    """
    if problem.coverage is None:
        return choice
    teaches, uneven = problem.coverage.teaches, problem.coverage.has_unevenness
    most = problem.total_loss(choice) * (1 + _ROUNDING)
    used, rows = choice.copy(), np.arange(problem.num_clients)
    free = within_deadline(problem) & (problem.seconds <= problem.round_seconds(choice))
    free &= problem.loss <= problem.loss[rows, choice][:, None]
    if problem.switching_seconds is not None:
        free &= problem.switching_seconds <= problem.switching_seconds[rows, choice][:, None]
    free &= teaches > teaches[choice][:, None]
    for client in np.flatnonzero(free.any(axis=1)):
        now = int(used[client])
        order = np.lexsort((problem.seconds[client], -teaches))
        for strategy in order[free[client, order]]:
            used[client] = strategy
            if not (uneven and problem.total_loss(used) > most) and not violations(problem, used):
                break
            used[client] = now
    return used
