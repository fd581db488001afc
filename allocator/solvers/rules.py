"""Rules that decide without a program: baselines to compare the solvers with.

None of them looks at budgets, maximum loss or participation, unless it says so; `solve` checks the
result. A client that is not allowed a rule's strategy takes the fastest that it is allowed and that
takes part; it skips only if nothing else is allowed to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, IntArray, freeze
from ..data import total_variation
from ..problem import AllocationProblem
from ..solution import Answer, Status
from ..strategy import Strategy


@dataclass(frozen=True)
class Uniform:
    """The same strategy for everybody.

    Args:
        strategy: Of the problem's menu.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             np.zeros((2, 2)))
        >>> Uniform("qat-w2a2")(problem).choice
        array([1, 1])
    """

    strategy: Strategy | str

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            ValueError: If the strategy is not in the menu.
        """
        return Answer(Status.FEASIBLE, everybody(problem, self.strategy))


@dataclass(frozen=True)
class Random:
    """A random `round(share * clients)` clients do one strategy, the rest another.

    Args:
        strategy: Of the problem's menu.
        otherwise: Of the problem's menu.
        share: In [0, 1].
        seed: The same clients for the same seed.

    Raises:
        ValueError: If `share` is not in [0, 1].

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), np.ones((4, 2)), np.zeros((4, 2)))
        >>> int(Random("qat-w2a2", "ptq-w2a2", share=0.5, seed=0)(problem).choice.sum())
        2
    """

    strategy: Strategy | str
    otherwise: Strategy | str
    share: float
    seed: int

    def __post_init__(self) -> None:
        _check_share(self.share)

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            ValueError: If a strategy is not in the menu.
        """
        order = np.random.default_rng(self.seed).permutation(problem.num_clients)
        chosen = _first(order, self.share)
        return Answer(Status.FEASIBLE, _split(problem, chosen, self.strategy, self.otherwise))


@dataclass(frozen=True)
class HardwareOnly:
    """A strategy exactly where it is free: it ends no later than the slowest client's other one.

    Args:
        strategy: The slower one, of the problem's menu.
        otherwise: The faster one, of the problem's menu.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             np.zeros((2, 2)))
        >>> HardwareOnly("qat-w2a2", "ptq-w2a2")(problem).choice
        array([1, 0])
    """

    strategy: Strategy | str
    otherwise: Strategy | str

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            ValueError: If a strategy is not in the menu.
        """
        return Answer(Status.FEASIBLE, where_free(problem, self.strategy, self.otherwise))


@dataclass(frozen=True)
class DataOnly:
    """A strategy for the `round(share * clients)` clients whose labels are most representative.

    Ranks by the total variation distance between a client's labels and the population's, half the
    sum of absolute differences; clients without examples come last, the first of equals first.

    Args:
        strategy: Of the problem's menu.
        otherwise: Of the problem's menu.
        share: In [0, 1].
        prefer_skewed: The least representative clients instead.

    Raises:
        ValueError: If `share` is not in [0, 1].

    Example:
        >>> from fedhq.allocator import Coverage
        >>> labels = Coverage([[4, 0], [3, 3]], (0, 1), ((0, 0.4), (1, 0)))
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), np.ones((2, 2)), np.zeros((2, 2)),
        ...                             coverage=labels)
        >>> DataOnly("qat-w2a2", "ptq-w2a2", share=0.5)(problem).choice
        array([0, 1])
    """

    strategy: Strategy | str
    otherwise: Strategy | str
    share: float
    prefer_skewed: bool = False

    def __post_init__(self) -> None:
        _check_share(self.share)

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            ValueError: If the problem has no coverage, or a strategy is not in the menu.
        """
        if (term := problem.coverage) is None:
            raise ValueError("DataOnly needs the problem's `coverage`: it ranks clients by labels.")
        distance = total_variation(term.label_counts, term.population)
        ranked = -distance if self.prefer_skewed else distance
        rank = np.where(term.label_counts.any(axis=1), ranked, np.inf)
        chosen = _first(np.argsort(rank, kind="stable"), self.share)
        return Answer(Status.FEASIBLE, _split(problem, chosen, self.strategy, self.otherwise))


def where_free(
    problem: AllocationProblem, strategy: Strategy | str, otherwise: Strategy | str
) -> IntArray:
    """The choice of `HardwareOnly`."""
    slowest = problem.round_seconds(everybody(problem, otherwise))
    column = problem.seconds[:, place(problem, strategy)]
    return _split(problem, column <= slowest, strategy, otherwise)


def everybody(problem: AllocationProblem, strategy: Strategy | str) -> IntArray:
    """The strategy for every client that is allowed it, and the rule of this file for the rest."""
    wanted = place(problem, strategy)
    seconds = np.where(problem.allowed & problem.participates, problem.seconds, np.inf)
    fastest = np.where(np.isfinite(seconds).any(axis=1), seconds.argmin(axis=1), -1)
    skip = int(np.argmin(problem.participates))
    fallback = np.where(fastest >= 0, fastest, skip)
    choice = np.where(problem.allowed[:, wanted], wanted, fallback)
    return np.asarray(choice, dtype=np.int64)


def place(problem: AllocationProblem, strategy: Strategy | str) -> int:
    """The index of a strategy in the menu.

    Raises:
        ValueError: If it is not in the menu, or its text cannot be read.
    """
    wanted = Strategy.parse(strategy) if isinstance(strategy, str) else strategy
    if wanted not in problem.strategies:
        menu = [str(s) for s in problem.strategies]
        raise ValueError(f"a rule's strategy must be in the menu {menu}, but got {str(wanted)!r}.")
    return problem.strategies.index(wanted)


def _split(
    problem: AllocationProblem,
    chosen: BoolArray,
    strategy: Strategy | str,
    otherwise: Strategy | str,
) -> IntArray:
    """One strategy for those chosen who are allowed it, the other for all the rest."""
    able = problem.allowed[:, place(problem, strategy)]
    rest = everybody(problem, otherwise)
    return np.where(chosen & able, place(problem, strategy), rest)


def _first(order: IntArray, share: float) -> BoolArray:
    """`(clients,)` true for the first `round(share * clients)` of an order."""
    chosen = np.zeros(len(order), dtype=bool)
    chosen[order[: round(share * len(order))]] = True
    return chosen


def _check_share(share: float) -> None:
    if freeze("share", share, ()) > 1:
        raise ValueError(f"`0 <= share <= 1` must hold, but got {share}.")
