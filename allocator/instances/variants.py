"""The same problem said differently: pure functions that change a problem in a known way.

What an exact solver must make of each is plain: the same objective, or one in other units. The
suite of `testing` holds solvers to it, and the instance families are built with them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..arrays import FloatArray, IntArray
from ..problem import AllocationProblem
from ..strategy import Strategy
from ..terms import Budget

_DOMINATED = Strategy.parse("qat-w8a8-u32")


def in_other_units(
    problem: AllocationProblem,
    *,
    seconds: float = 1.0,
    loss: float = 1.0,
    usage: float = 1.0,
    keep_tradeoff: bool = False,
) -> AllocationProblem:
    """The problem with its times, losses and usages (with their limits) multiplied.

    The objective is multiplied by `seconds`, or by `loss` where only the loss is minimised.

    Args:
        problem: The problem.
        seconds: Factor of all times.
        loss: Factor of all losses.
        usage: Factor of all usages.
        keep_tradeoff: Leave the trade-off as it is; then the objective is another one.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2]], [[.1, 0]], 10.0)
        >>> in_other_units(problem, seconds=1000).objective(np.array([1]))
        2000.0
    """
    term, switching = problem.coverage, problem.switching_seconds
    tradeoff, deadline, most = problem.tradeoff, problem.deadline_seconds, problem.max_loss
    if tradeoff is not None and not keep_tradeoff:
        tradeoff *= seconds / loss
    return replace(
        problem,
        seconds=problem.seconds * seconds,
        loss=problem.loss * loss,
        tradeoff=tradeoff,
        deadline_seconds=None if deadline is None else deadline * seconds,
        max_loss=None if most is None else most * loss,
        budgets=tuple(
            Budget(b.resource, b.usage * usage, b.limit * usage) for b in problem.budgets
        ),
        coverage=None
        if term is None
        else replace(
            term,
            loss_curve=term.loss_curve * np.array([1.0, loss]),
            unevenness_price=term.unevenness_price * loss,
        ),
        switching_seconds=None if switching is None else switching * seconds,
    )


def reordered(problem: AllocationProblem, order: IntArray) -> AllocationProblem:
    """The problem with its clients in another order and renamed.

    Args:
        problem: The problem.
        order: `(clients,)` a permutation.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], tradeoff=10.0)
        >>> reordered(problem, np.array([1, 0])).seconds[0]
        array([3., 5.])
    """
    term, switching = problem.coverage, problem.switching_seconds
    return replace(
        problem,
        seconds=problem.seconds[order],
        loss=problem.loss[order],
        allowed=problem.allowed[order],
        budgets=tuple(Budget(b.resource, b.usage[order], b.limit) for b in problem.budgets),
        coverage=None if term is None else replace(term, label_counts=term.label_counts[order]),
        num_examples=problem.num_examples[order],
        switching_seconds=None if switching is None else switching[order],
        groups=None if problem.groups is None else tuple(problem.groups[i] for i in order),
        members=problem.members[order],
        clients=tuple(f"device-{i}" for i in order),
    )


def with_dominated_strategy(problem: AllocationProblem) -> AllocationProblem:
    """The problem with one strategy more, which for each client is worse than any other.

    It is slower, loses more, uses and switches no less, and teaches nothing. A client that cannot
    take part, or whose group cannot, is not allowed it either.

    Raises:
        ValueError: If the problem has counts: these name strategies, and the new one would evade
            them.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2]], [[.1, 0]], 10.0)
        >>> with_dominated_strategy(problem).seconds
        array([[1., 2., 4.]])
    """
    if problem.counts:
        raise ValueError(
            f"`counts` must be empty, but got {problem.counts}. Drop them: no strategy is worse "
            "than another if it is not counted."
        )
    shared = problem.allowed.copy()
    for rows in problem.group_rows().values():
        shared[rows] = shared[rows].all(axis=0)
    able = (shared & problem.participates).any(axis=1, keepdims=True)
    term, switching = problem.coverage, problem.switching_seconds
    return replace(
        problem,
        strategies=(*problem.strategies, _DOMINATED),
        seconds=_widened(problem.seconds, 2.0),
        loss=_widened(problem.loss, 2.0),
        allowed=np.hstack([problem.allowed, able]),
        budgets=tuple(Budget(b.resource, _widened(b.usage, 1.0), b.limit) for b in problem.budgets),
        coverage=None if term is None else replace(term, teaches=np.append(term.teaches, 0.0)),
        switching_seconds=None if switching is None else _widened(switching, 1.0),
    )


def _widened(table: FloatArray, factor: float) -> FloatArray:
    """A column more: each row's maximum times a factor."""
    return np.hstack([table, factor * table.max(axis=1, keepdims=True)])


def with_limits_at(
    problem: AllocationProblem, choice: IntArray, factor: float
) -> AllocationProblem:
    """The problem with a limit of every kind, each of which a choice misses by the same factor.

    Args:
        problem: The problem; without a trade-off it gets one of 1.
        choice: `(clients,)` indices into the menu.
        factor: What the choice takes over the limit: 1 meets each exactly.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2]], [[.1, 0]], 10.0)
        >>> with_limits_at(problem, np.array([1]), 2.0).deadline_seconds
        1.0
    """
    used = problem.usage(choice)
    return replace(
        problem,
        tradeoff=problem.tradeoff or 1.0,
        deadline_seconds=problem.round_seconds(choice) / factor,
        max_loss=problem.total_loss(choice) / factor,
        min_participation=min(problem.participation(choice) * factor, 1.0),
        budgets=tuple(
            Budget(b.resource, b.usage, float(u) / factor)
            for b, u in zip(problem.budgets, used, strict=True)
        ),
    )


def with_limit_times(problem: AllocationProblem, term: str, factor: float) -> AllocationProblem:
    """The problem with one kind of limit multiplied.

    Args:
        problem: The problem, which has the limit.
        term: `budgets` (all of them), `deadline_seconds`, `max_loss` or `min_participation`.
        factor: What the limit is multiplied by.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2]], [[.1, 0]], max_loss=.1)
        >>> with_limit_times(problem, "max_loss", 2.0).max_loss
        0.2
    """
    if term != "budgets":
        return replace(problem, **{term: factor * getattr(problem, term)})
    larger = tuple(Budget(b.resource, b.usage, factor * b.limit) for b in problem.budgets)
    return replace(problem, budgets=larger)
