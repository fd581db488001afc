"""Checks a choice against every limit of a problem; nobody else decides what is feasible."""

from __future__ import annotations

import numpy as np

from .arrays import BoolArray, FloatArray, IntArray
from .problem import AllocationProblem

FEASIBILITY_TOLERANCE = 1e-6
"""By how much a limit may be missed, relative to it: what MIP solvers promise for a row."""

_LEAST_SCALE = 1e-9  # a limit of 0 has rounding errors too


def with_tolerance(limit: float) -> float:
    """The largest value that still counts as keeping a limit.

    Example:
        >>> with_tolerance(2.0)
        2.000002
    """
    return limit + FEASIBILITY_TOLERANCE * max(abs(limit), _LEAST_SCALE)


def least_with_tolerance(limit: float) -> float:
    """The smallest value that still counts as keeping a lower limit.

    Example:
        >>> exceeds(0.5, least_with_tolerance(0.5)), exceeds(0.5, 0.4999)
        (False, True)
    """
    return min(limit / (1 + FEASIBILITY_TOLERANCE), limit - FEASIBILITY_TOLERANCE * _LEAST_SCALE)


def exceeds(value: float, limit: float) -> bool:
    """Whether a value is above a limit by more than the tolerance.

    Example:
        >>> exceeds(1.0 + 1e-9, 1.0), exceeds(1.01, 1.0)
        (False, True)
    """
    return value > with_tolerance(limit)


def within_deadline(problem: AllocationProblem) -> BoolArray:
    """`(clients, strategies)` what is allowed and ends before the deadline."""
    if problem.deadline_seconds is None:
        return problem.allowed
    return problem.allowed & (problem.seconds <= with_tolerance(problem.deadline_seconds))


def possible_times(problem: AllocationProblem) -> FloatArray:
    """`(times,)` the round times in seconds that an allocation may have, rising.

    Args:
        problem: Every client of which can do something before the deadline.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             np.zeros((2, 2)))
        >>> possible_times(problem)
        array([3., 5.])
    """
    usable = within_deadline(problem)
    floor = np.where(usable, problem.seconds, np.inf).min(axis=1).max()
    return np.unique(problem.seconds[usable & (problem.seconds >= floor)])


def violations(problem: AllocationProblem, choice: IntArray) -> tuple[str, ...]:
    """Every limit that a choice breaks, in words; empty if it keeps them all.

    Args:
        problem: The problem.
        choice: `(clients,)` indices into the menu.

    Example:
        >>> problem = AllocationProblem(("skip", "fp32"), [[0, 2]], [[1, 0]], 1.0,
        ...                             deadline_seconds=1.0, clients=["phone"])
        >>> violations(problem, np.array([1]))
        ("round time 2 s exceeds the deadline of 1 s (slowest: client 'phone')",)
    """
    found = []
    rows = np.arange(problem.num_clients)
    names = problem.clients
    for i in np.flatnonzero(~problem.allowed[rows, choice])[:3]:
        found.append(f"client {names[i]!r} is not allowed {problem.strategies[choice[i]]}")
    time, deadline = problem.round_seconds(choice), problem.deadline_seconds
    if deadline is not None and exceeds(time, deadline):
        slowest = names[int(problem.seconds[rows, choice].argmax())]
        found.append(
            f"round time {time:.6g} s exceeds the deadline of {deadline:.6g} s "
            f"(slowest: client {slowest!r})"
        )
    loss = problem.total_loss(choice)
    if problem.max_loss is not None and exceeds(loss, problem.max_loss):
        found.append(f"loss {loss:.6g} exceeds max_loss {problem.max_loss:.6g}")
    for budget, used in zip(problem.budgets, problem.usage(choice), strict=True):
        if exceeds(used, budget.limit):
            found.append(f"{budget.resource} {used:.6g} exceeds its limit {budget.limit:.6g}")
    for count in problem.counts:
        done, most = problem.count(count, choice), count.at_most
        if exceeds(count.at_least, done):
            found.append(f"{count} {done:g} is below at_least {count.at_least}")
        if most is not None and exceeds(done, most):
            found.append(f"{count} {done:g} exceeds at_most {most}")
    for name, members in problem.group_rows().items():
        done_by = sorted({str(problem.strategies[choice[i]]) for i in members})
        if len(done_by) > 1:
            found.append(f"the clients of group {name!r} must agree, but do {done_by}")
    if not problem.participates[choice].any():
        found.append("every client skips, but at least one must take part")
    share = problem.participation(choice)
    if exceeds(problem.min_participation, share):
        found.append(
            f"participation {share:.6g} is below min_participation {problem.min_participation:.6g}"
        )
    return tuple(found)
