"""`plan_schedule`: when in training time pays, within a total time; one program over all rounds.

The loss of the deployed model is taken for `sum_t w_t loss(x_t)`, with w_t what round t still
weighs in the last weights (`Recency`), so that

    minimise sum_t w_t loss(x_t)   subject to   sum_t round_seconds(x_t) <= total_seconds

has one limit over the rounds. Its price of time takes the rounds apart: each solves its ordinary
program with `tradeoff_t = w_t / price`. A schedule is a rising trade-off: warm-up in PTQ, QAT at
the end, a rising share of it and finer uploads at the end all come out of the menu, unasked.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .arrays import FloatArray, IntArray, freeze
from .check import exceeds, with_tolerance
from .errors import InfeasibleError
from .frontier import Frontier, pareto_frontier
from .problem import AllocationProblem
from .recency import Recency
from .solution import Allocation, Solver
from .solvers.knapsack import pack

_GAP = 1e-4  # of accuracy: a hundredth of a percent
_RECENCY = Recency()


@dataclass(frozen=True, eq=False)
class Schedule:
    """A point of the round's frontier for every round.

    Args:
        frontier: What a round's seconds buy.
        points: `(rounds,)` the frontier's point of every round.
        weights: `(rounds,)` of the rounds' losses; their sum is 1.
        total_seconds: The budget.
        price: Loss that one more second of it would save.
        bound: No schedule within the budget has a lower predicted loss.
    """

    frontier: Frontier
    points: IntArray
    weights: FloatArray
    total_seconds: float
    price: float
    bound: float
    _kept: dict[int, Allocation] = field(default_factory=dict, repr=False)

    @property
    def round_seconds(self) -> FloatArray:
        """`(rounds,)` how long the rounds take."""
        return self.frontier.round_seconds[self.points]

    @property
    def loss(self) -> float:
        """Predicted loss of the model that the last round gives, as a fraction of accuracy."""
        return float(self.weights @ self.frontier.loss[self.points])

    @property
    def gap(self) -> float:
        """Loss by which a better schedule may at most be better."""
        return max(self.loss - self.bound, 0.0)

    @property
    def tradeoffs(self) -> FloatArray:
        """`(rounds,)` seconds per unit of loss; infinite where time is no object."""
        if self.price == 0:
            return np.full(len(self.weights), np.inf)
        return np.asarray(self.weights / self.price)

    @property
    def even_loss(self) -> float:
        """Predicted loss if every round had the same share of the time."""
        share = self.total_seconds / len(self.points)
        last = int(np.flatnonzero(self.frontier.round_seconds <= with_tolerance(share))[-1])
        return float(self.frontier.loss[last])

    def allocation(self, round_number: int) -> Allocation:
        """What everybody does in a round, counted from 1.

        Raises:
            ValueError: If there is no such round.
        """
        if not 1 <= round_number <= len(self.points):
            raise ValueError(
                f"`1 <= round_number <= {len(self.points)}` must hold, but got {round_number}."
            )
        point = int(self.points[round_number - 1])
        if point not in self._kept:
            self._kept[point] = self.frontier.allocation(point)
        return self._kept[point]

    def __str__(self) -> str:
        """The schedule in words, a line for every run of equal rounds."""
        lines = [
            f"{len(self.points)} rounds in {self.round_seconds.sum():.6g} of "
            f"{self.total_seconds:.6g} s: predicted loss {self.loss:.4f}, at most {self.gap:.1g} "
            f"above the least; with equal rounds {self.even_loss:.4f}. "
            f"A second more would save {self.price:.2g}."
        ]
        starts = np.flatnonzero(np.append(True, np.diff(self.points) != 0))
        ends = np.append(starts[1:], len(self.points))
        for first, last in zip((starts + 1).tolist(), ends.tolist(), strict=True):
            allocation = self.allocation(first)
            counts = np.bincount(allocation.choice, minlength=len(allocation.strategies))
            doing = ", ".join(
                f"{n} {s}" for n, s in zip(counts, allocation.strategies, strict=True) if n
            )
            lines.append(f"Rounds {first}-{last}: {allocation.round_seconds:.6g} s each; {doing}")
        return "\n".join(lines)


def plan_schedule(
    problem: AllocationProblem,
    total_seconds: float,
    rounds: int,
    recency: Recency = _RECENCY,
    *,
    solver: Solver | None = None,
    gap: float = _GAP,
) -> Schedule:
    """Spreads a total time over the rounds so that the last model's predicted loss is least.

    The frontier of a round is worked out once; a multiple-choice knapsack over its points then
    gives every round its own, with a bound that proves how near to the best schedule it is.

    Args:
        problem: The program of one round, alike in all; its trade-off and `switching_seconds` do
            not count. Limits, its deadline among them, hold in every round.
        total_seconds: Upper limit of all rounds' times together.
        rounds: How many there are.
        recency: What a round's loss weighs in the end.
        solver: Of the frontier's points; see `pareto_frontier`.
        gap: Predicted loss that one need not tell apart; 0 for the best schedule that there is.

    Raises:
        InfeasibleError: If no allocation keeps a round's limits, or the rounds do not fit into the
            total time.
        ValueError: If a number is out of its range.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]])
        >>> schedule = plan_schedule(problem, 16.0, 4, Recency(0.5))
        >>> schedule.round_seconds, round(schedule.loss, 3), round(schedule.even_loss, 3)
        (array([3., 3., 5., 5.]), 0.02, 0.1)
    """
    freeze("gap", gap, ())
    budget = float(freeze("total_seconds", total_seconds, ()))
    weights = recency.weights(rounds)
    frontier = pareto_frontier(problem, solver=solver)
    fastest = float(frontier.round_seconds[0])
    if exceeds(rounds * fastest, budget):
        raise InfeasibleError(
            f"`total_seconds >= {rounds * fastest:.6g}` must hold, {rounds} rounds of at least "
            f"{fastest:.6g} s, but got {budget:.6g}. Give more time or train fewer rounds."
        )
    found = pack(frontier.round_seconds, frontier.loss, weights, budget, gap)
    loss = float(weights @ frontier.loss[found.points])
    proven = min(found.bound, loss) - frontier.gap
    return Schedule(frontier, found.points, weights, budget, found.price, proven)
