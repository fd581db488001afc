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
from ..check import exceeds, violations, within_deadline
from ..coverage import Coverage
from ..frontier import PickRule, find_frontier
from ..picks import FastestWithin
from ..problem import AllocationProblem
from ..solution import Answer, Solver, Status

_ROUNDING = 1e-12  # of the loss
_MOST_SOLVED = 10  # times around the fastest point, each of which halves what is left


@dataclass(frozen=True)
class FrontierPick:
    """Decides by a rule on the exact frontier instead of a trade-off.

    Where unevenness has a price, no sort finds the frontier. `FastestWithin` then solves ten times
    at most, and of a large fleet the point may be a little slower than the rule would allow; every
    other rule needs the whole frontier, which takes long.

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
        most_solved, within = None, np.inf
        uneven = problem.coverage is not None and problem.coverage.has_unevenness
        if uneven and isinstance(self.rule, FastestWithin):
            most_solved, within = _MOST_SOLVED, self.rule.loss
        frontier = find_frontier(
            problem, solver=self.solver, most_solved=most_solved, within=within
        )
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
    teaches, room = problem.coverage.teaches, _Room(problem, problem.coverage, choice)
    rows = np.arange(problem.num_clients)
    free = within_deadline(problem) & (problem.seconds <= problem.round_seconds(choice))
    free &= problem.loss <= problem.loss[rows, choice][:, None]
    if problem.switching_seconds is not None:
        free &= problem.switching_seconds <= problem.switching_seconds[rows, choice][:, None]
    free &= teaches > teaches[choice][:, None]
    for client in np.flatnonzero(free.any(axis=1)):
        order = np.lexsort((problem.seconds[client], -teaches))
        for strategy in order[free[client, order]]:
            if room.takes(int(client), int(strategy)):
                break
    return room.choice


class _Room:
    """A choice that is changed client by client, and what its limits leave; sums are kept."""

    def __init__(self, problem: AllocationProblem, term: Coverage, choice: IntArray) -> None:
        self.choice = choice.copy()
        self._problem, self._term, self._share = problem, term, term.share
        self._covered, self._usage = term.covered(choice), list(problem.usage(choice))
        self._own = float(problem.loss[np.arange(problem.num_clients), choice].sum())
        self._most = (self._own + term.loss(self._covered)) * (1 + _ROUNDING)
        absent = ~problem.participates & (term.teaches > 0)
        self._is_bound = bool(problem.counts) or problem.groups is not None or bool(absent.any())

    def takes(self, client: int, strategy: int) -> bool:
        """Takes a strategy of a client that teaches more, if every limit and the loss allow it."""
        now, term, loss = self.choice[client], self._term, self._problem.loss[client]
        covered = self._covered + (term.teaches[strategy] - term.teaches[now]) * self._share[client]
        own = self._own + float(loss[strategy] - loss[now])
        if term.has_unevenness and own + term.loss(covered) > self._most:
            return False
        usage = []
        for budget, used in zip(self._problem.budgets, self._usage, strict=True):
            usage.append(used + float(budget.usage[client, strategy] - budget.usage[client, now]))
            if exceeds(usage[-1], budget.limit):
                return False
        self.choice[client] = strategy
        if self._is_bound and violations(self._problem, self.choice):
            self.choice[client] = now
            return False
        self._covered, self._own, self._usage = covered, own, usage
        return True
