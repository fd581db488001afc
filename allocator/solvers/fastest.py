"""The fastest round within a maximum loss, by bisection over round times.

Without a trade-off the loss only has to stay below its limit, and prices of a limit that can be
kept are zero: they tell nothing. But the least loss within a time falls with the time, so the
smallest time whose least loss is low enough is found in a few steps, each of which minimises it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..check import exceeds, with_tolerance, within_deadline
from ..problem import AllocationProblem
from ..solution import Answer, Status

_OPEN = "whether a faster round keeps the maximum loss was not settled"
_Solve = Callable[[AllocationProblem, float], Answer]


def is_fastest(problem: AllocationProblem) -> bool:
    """Whether nothing but the round time is minimised."""
    return problem.loss_weight == 0 and problem.switching_seconds is None


def fastest(problem: AllocationProblem, least_loss: _Solve) -> Answer:
    """Answers a problem that minimises the round time.

    Args:
        problem: With a maximum loss and no trade-off.
        least_loss: Answers a problem that minimises the loss; it may stop as soon as the loss is
            known to be below, or to be above, its second argument.
    """
    assert problem.max_loss is not None
    usable = within_deadline(problem)
    if not usable.any(axis=1).all():
        return Answer(Status.INFEASIBLE)
    floor = np.where(usable, problem.seconds, np.inf).min(axis=1).max()
    times = np.unique(problem.seconds[usable & (problem.seconds >= floor)])
    low, high, proven = 0, len(times), 0
    best: Answer | None = None
    while low < high:
        # The last first: where it fails, all do.
        k = len(times) - 1 if best is None and high == len(times) else (low + high) // 2
        answer = least_loss(_within(problem, float(times[k])), with_tolerance(problem.max_loss))
        has_room = answer.choice is not None and not exceeds(
            problem.total_loss(answer.choice), problem.max_loss
        )
        if has_room and answer.choice is not None:
            best = answer
            high = int(np.searchsorted(times, problem.round_seconds(answer.choice)))
        else:
            low = k + 1
            if answer.status is Status.INFEASIBLE or exceeds(answer.bound, problem.max_loss):
                proven = max(proven, low)
    if best is None or best.choice is None:
        nothing = proven == len(times)
        if nothing:
            return Answer(Status.INFEASIBLE)
        bound = float(times[min(proven, len(times) - 1)])
        return Answer(Status.UNKNOWN, bound=bound, message=answer.message or _OPEN)
    if proven >= high:
        return Answer(Status.OPTIMAL, best.choice, float(times[high]))
    return Answer(Status.FEASIBLE, best.choice, float(times[proven]), message=_OPEN)


def _within(problem: AllocationProblem, time: float) -> AllocationProblem:
    """The least loss within a time; what ends later is forbidden to the last digit."""
    return replace(
        problem,
        max_loss=None,
        deadline_seconds=time,
        allowed=problem.allowed & (problem.seconds <= time),
    )
