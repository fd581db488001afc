"""Solves a program again without the choices that its first answer rules out.

One huge entry would set the scale of the whole program, and what matters would vanish below the
library's tolerances; see `allocator.solvers.prune`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ....allocator import AllocationProblem, Answer
from ....allocator.solvers.prune import without_dear

_LEAST_SECONDS = 1e-3


def narrowing(
    problem: AllocationProblem,
    once: Callable[[AllocationProblem, float | None], Answer],
    time_limit_seconds: float | None,
) -> Answer:
    """The answer to a problem, from the narrowest program that its answers leave.

    Args:
        problem: The problem.
        once: Answers a program within some seconds, or without a limit.
        time_limit_seconds: For all of them together.
    """
    start = time.perf_counter()
    answer = once(problem, time_limit_seconds)
    while (narrower := without_dear(problem, answer)) is not None:
        left = _left(time_limit_seconds, time.perf_counter() - start)
        next_one = once(narrower, left)
        if next_one.choice is None:  # out of time: what was found stands
            return answer
        problem, answer = narrower, next_one
    return answer


def _left(time_limit_seconds: float | None, spent: float) -> float | None:
    if time_limit_seconds is None:
        return None
    return max(time_limit_seconds - spent, _LEAST_SECONDS)
