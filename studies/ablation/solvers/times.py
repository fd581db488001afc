"""A heuristic for a fixed round time, tried within several of them."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ....allocator import AllocationProblem, violations
from ....allocator.arrays import BoolArray, IntArray
from ....allocator.check import possible_times, within_deadline

_LEVELS = 2  # over all times, then between the neighbours of the best


def until(time_limit_seconds: float | None) -> Callable[[], bool]:
    """Tells, from now on, whether a time limit is over; never where None."""
    end = np.inf if time_limit_seconds is None else time.perf_counter() + time_limit_seconds
    return lambda: time.perf_counter() >= end


def best_within_times(
    problem: AllocationProblem,
    attempt: Callable[[BoolArray], IntArray],
    tries: int,
    is_late: Callable[[], bool],
) -> IntArray | None:
    """The best choice that a heuristic finds within some round times; None if none keeps limits.

    Args:
        problem: With a goal; every client can do something before the deadline.
        attempt: From what is usable within a round time to a choice.
        tries: Round times, evenly among all that a choice may have; afterwards as many again
            between those next to the best.
        is_late: Whether to stop.
    """
    usable = within_deadline(problem)
    times = possible_times(problem)
    if not problem.time_weight:
        times = times[-1:]  # the others only forbid
    found: dict[int, float] = {}
    best: IntArray | None = None
    low, high = 0, len(times) - 1
    for _ in range(_LEVELS):
        places = np.unique(np.linspace(low, high, tries).round().astype(np.int64)).tolist()
        for k in places:
            if k in found or (found and is_late()):
                continue
            choice = attempt(usable & (problem.seconds <= times[k]))
            found[k] = np.inf if violations(problem, choice) else problem.objective(choice)
            if found[k] < np.inf and found[k] <= min(found.values()):
                best = choice
        at = places.index(min(places, key=lambda k: found.get(k, np.inf)))
        low, high = places[max(at - 1, 0)], places[min(at + 1, len(places) - 1)]
    return best
