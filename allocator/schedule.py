"""`plan_schedule`: when in training time pays, within a total time; one program over all rounds.

What the last weights hold of round t is `w_t` (`Recency`), and the model is as good as the data
that taught it over all rounds, each by its weight:

    minimise sum_t w_t loss(x_t) + sum_c g_c phi(sum_t w_t coverage_c(x_t))
    such that sum_t round_seconds(x_t) <= total_seconds

One price of time and one for every class take the rounds apart, so that each solves its own program
with `tradeoff_t = w_t / price`. A schedule is a rising trade-off: warm-up in PTQ, QAT at the end, a
rising share of it, and finer uploads at the end all come out of the menu, unasked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import FloatArray, IntArray, freeze
from .check import with_tolerance
from .errors import InfeasibleError
from .frontier import pareto_frontier
from .over_rounds import one_of_many, spread
from .problem import AllocationProblem
from .recency import Recency
from .solution import Allocation

_GAP = 1e-4  # of accuracy: a hundredth of a percent
_RECENCY = Recency()
_PRECISION = 1e-3  # of the total time


@dataclass(frozen=True, eq=False)
class Schedule:
    """What everybody does in every round.

    Args:
        allocations: The different rounds.
        kinds: `(rounds,)` which of them a round is.
        weights: `(rounds,)` of the rounds in the last weights; their sum is 1.
        total_seconds: The budget.
        price: Loss that one more second of it would save.
        loss: Predicted loss of the model that the last round gives, as a fraction of accuracy.
        bound: No schedule within the budget has a lower predicted loss.
    """

    allocations: tuple[Allocation, ...]
    kinds: IntArray
    weights: FloatArray
    total_seconds: float
    price: float
    loss: float
    bound: float

    @property
    def round_seconds(self) -> FloatArray:
        """`(rounds,)` how long the rounds take."""
        return np.array([a.round_seconds for a in self.allocations])[self.kinds]

    @property
    def gap(self) -> float:
        """Loss by which a better schedule may at most be better."""
        return self.loss - self.bound

    @property
    def tradeoffs(self) -> FloatArray:
        """`(rounds,)` seconds per unit of loss; infinite where time is no object."""
        if self.price == 0:
            return np.full(len(self.weights), np.inf)
        return np.asarray(self.weights / self.price)

    def allocation(self, round_number: int) -> Allocation:
        """What everybody does in a round, counted from 1.

        Raises:
            ValueError: If there is no such round.
        """
        if not 1 <= round_number <= len(self.kinds):
            raise ValueError(
                f"`1 <= round_number <= {len(self.kinds)}` must hold, but got {round_number}."
            )
        return self.allocations[int(self.kinds[round_number - 1])]

    def __str__(self) -> str:
        """The schedule in words, a line for every run of equal rounds."""
        lines = [
            f"{len(self.kinds)} rounds in {self.round_seconds.sum():.6g} of "
            f"{self.total_seconds:.6g} s: predicted loss {self.loss:.4f}, at most {self.gap:.1g} "
            f"above the least. A second more would save {self.price:.2g}."
        ]
        starts = np.flatnonzero(np.append(True, np.diff(self.kinds) != 0))
        ends = np.append(starts[1:], len(self.kinds))
        for first, last in zip((starts + 1).tolist(), ends.tolist(), strict=True):
            allocation = self.allocation(first)
            counts = np.bincount(allocation.choice, minlength=len(allocation.strategies))
            each = zip(counts, allocation.strategies, strict=True)
            doing = ", ".join(f"{n} {s}" for n, s in each if n)
            lines.append(f"Rounds {first}-{last}: {allocation.round_seconds:.6g} s each; {doing}")
        return "\n".join(lines)


def plan_schedule(
    problem: AllocationProblem,
    total_seconds: float,
    rounds: int,
    recency: Recency = _RECENCY,
    *,
    gap: float = _GAP,
) -> Schedule:
    """Spreads a total time over the rounds so that the last model's predicted loss is least.

    Prices of time and of the classes' coverage take the rounds apart; each then is a sweep, or with
    budgets and counts a frontier of a few points (see `Exact`). The bound holds whoever is right.

    Args:
        problem: The program of one round, alike in all; its trade-off, `max_loss`,
            `switching_seconds` and carried coverage do not count. All other limits, its deadline
            among them, hold in every round.
        total_seconds: Upper limit of all rounds' times together.
        rounds: How many there are.
        recency: What a round weighs in the end.
        gap: Predicted loss that one need not tell apart.

    Raises:
        InfeasibleError: If no allocation keeps a round's limits, or the rounds do not fit into the
            total time.
        ValueError: If a number is out of its range.

    References:
        G. Dantzig, P. Wolfe, "Decomposition principle for linear programs", Operations Research,
        1960.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]])
        >>> schedule = plan_schedule(problem, 16.0, 4, Recency(0.5))
        >>> schedule.round_seconds, round(schedule.loss, 3)
        (array([3., 3., 5., 5.]), 0.02)
    """
    freeze("gap", gap, ())
    budget = float(freeze("total_seconds", total_seconds, ()))
    weights = recency.weights(rounds)
    found = spread(problem, weights, budget, gap=gap)
    if found is None:
        fastest = _fastest_seconds(problem)
        raise InfeasibleError(
            f"`total_seconds >= {rounds * fastest:.6g}` must hold, {rounds} rounds of at least "
            f"{fastest:.6g} s, but got {budget:.6g}. Give more time or train fewer rounds."
        )
    allocations = tuple(Allocation.of(problem, choice) for choice in found.choices)
    return Schedule(allocations, found.kinds, weights, budget, found.price, found.loss, found.bound)


def fastest_schedule(
    problem: AllocationProblem,
    rounds: int,
    within_loss: float,
    recency: Recency = _RECENCY,
    *,
    gap: float = _GAP,
) -> Schedule:
    """The fastest schedule whose predicted loss is near the least that any total time gives.

    What `FastestWithin` is for a round, for all rounds together: the least total time, to a
    thousandth, that `plan_schedule` needs.

    Args:
        problem: As for `plan_schedule`.
        rounds: How many there are.
        within_loss: Loss that may be given up for speed, as a fraction of accuracy.
        recency: What a round weighs in the end.
        gap: Predicted loss that one need not tell apart.

    Raises:
        InfeasibleError: If no allocation keeps a round's limits.
        ValueError: If a number is out of its range.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]])
        >>> schedule = fastest_schedule(problem, 4, 0.02, Recency(0.5))
        >>> schedule.round_seconds, round(schedule.loss, 3)
        (array([3., 3., 5., 5.]), 0.02)
    """
    given_up = float(freeze("within_loss", within_loss, ()))
    shortest = rounds * _fastest_seconds(problem)
    longest = rounds * float(np.where(problem.allowed, problem.seconds, 0.0).max())
    found = plan_schedule(problem, longest, rounds, recency, gap=gap)
    allowed, enough = with_tolerance(found.loss + given_up), float(found.round_seconds.sum())
    fastest = plan_schedule(problem, shortest, rounds, recency, gap=gap)
    if fastest.loss <= allowed:
        return fastest
    while enough - shortest > _PRECISION * enough:
        middle = (shortest + enough) / 2
        tried = plan_schedule(problem, middle, rounds, recency, gap=gap)
        if tried.loss <= allowed:
            found, enough = tried, float(tried.round_seconds.sum())
        else:
            shortest = middle
    return found


def _fastest_seconds(problem: AllocationProblem) -> float:
    """Of a round that keeps its limits."""
    return float(pareto_frontier(one_of_many(problem), most_solved=2).round_seconds[0])
