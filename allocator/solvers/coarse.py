"""`CoarseRule`: the coarse initialization of a FedHQ-style allocation, without a program."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..check import exceeds, with_tolerance
from ..problem import AllocationProblem
from ..solution import Answer, Status
from ..strategy import Strategy
from .rules import place, where_free


@dataclass(frozen=True)
class CoarseRule:
    """The hardware boundary first, then clients one at a time for what their data add.

    Starts as `HardwareOnly`, then gives `strategy` to the client that lowers the objective most,
    until none lowers it. While the loss exceeds `max_loss`, the client that lowers the loss most
    comes first, the fastest of equals. A step must keep the deadline and every budget. Takes
    O(clients^2 * classes); where a client is not allowed a strategy see `rules`.

    Args:
        strategy: Of the problem's menu.
        otherwise: Of the problem's menu.

    References:
        Design section 1; Zheng et al., "FedHQ", arXiv 2505.11982 (abstract).

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 4], [3, 5]],
        ...                             [[.1, 0], [.3, 0], [.1, 0]], tradeoff=10.0)
        >>> CoarseRule("qat-w2a2", "ptq-w2a2")(problem).choice
        array([1, 1, 0])
    """

    strategy: Strategy | str
    otherwise: Strategy | str

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            ValueError: If a strategy is not in the menu, or the problem does not say what to
                minimise.
        """
        choice = where_free(problem, self.strategy, self.otherwise)
        wanted = place(problem, self.strategy)
        goal = problem.time_weight, problem.loss_weight
        while True:
            moves = _Moves.of(problem, choice, wanted)
            step = moves.best(problem, choice, goal)
            if step is None:
                return Answer(Status.FEASIBLE, choice)
            choice[step] = wanted


@dataclass(frozen=True, eq=False)
class _Moves:
    """What would follow if one more client did the strategy, for every client.

    Args:
        possible: `(clients,)` whether it is allowed, new, and keeps deadline and budgets.
        seconds: `(clients,)` round time.
        loss: `(clients,)` loss.
        switching: `(clients,)` switching price in seconds.
    """

    possible: BoolArray
    seconds: FloatArray
    loss: FloatArray
    switching: FloatArray

    @classmethod
    def of(cls, problem: AllocationProblem, choice: IntArray, wanted: int) -> _Moves:
        """Evaluates all moves at once."""
        rows = np.arange(len(choice))
        seconds = np.maximum(_others_slowest(problem, choice), problem.seconds[:, wanted])
        possible = problem.allowed[:, wanted] & (choice != wanted)
        if problem.deadline_seconds is not None:
            possible &= seconds <= with_tolerance(problem.deadline_seconds)
        for budget in problem.budgets:
            now = budget.usage[rows, choice]
            more = budget.usage[:, wanted] - now
            possible &= (more <= 0) | (now.sum() + more <= with_tolerance(budget.limit))
        switching = np.zeros(len(choice))
        if problem.switching_seconds is not None:
            table = problem.switching_seconds
            switching = problem.switching(choice) + table[:, wanted] - table[rows, choice]
        return cls(possible, seconds, _losses(problem, choice, wanted), switching)

    def best(
        self, problem: AllocationProblem, choice: IntArray, goal: tuple[float, float]
    ) -> int | None:
        """The client to move; None if no move is worth it."""
        loss = problem.total_loss(choice)
        if problem.max_loss is not None and exceeds(loss, problem.max_loss):
            value, now = self.loss, loss
        else:
            value = goal[0] * self.seconds + goal[1] * self.loss + self.switching
            now = problem.objective(choice)
        value = np.where(self.possible, value, np.inf)
        client = int(np.lexsort((self.seconds, value))[0])
        # A gain within rounding would be no gain, and must not decide between two orders of sums.
        return client if exceeds(now, float(value[client])) else None


def _others_slowest(problem: AllocationProblem, choice: IntArray) -> FloatArray:
    """`(clients,)` the round time of all others."""
    seconds = problem.seconds[np.arange(len(choice)), choice]
    if len(seconds) == 1:
        return np.zeros(1)
    order = np.argsort(seconds, kind="stable")
    slowest = np.full(len(seconds), seconds[order[-1]])
    slowest[order[-1]] = seconds[order[-2]]
    return slowest


def _losses(problem: AllocationProblem, choice: IntArray, wanted: int) -> FloatArray:
    """`(clients,)` the whole loss after each move."""
    own = problem.loss[np.arange(len(choice)), choice]
    loss = own.sum() - own + problem.loss[:, wanted]
    if (term := problem.coverage) is None:
        return np.asarray(loss)
    gained = (term.teaches[wanted] - term.teaches[choice])[:, None] * term.share
    return np.asarray(loss + term.losses(term.covered(choice) + gained))
