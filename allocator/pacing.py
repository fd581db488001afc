"""What a round may take of a total time: the schedule, worked out anew from what is left."""

from __future__ import annotations

from dataclasses import replace

from .arrays import FloatArray
from .errors import InfeasibleError
from .frontier import find_frontier
from .goal import Goal
from .infeasible import explain_infeasibility
from .over_rounds import one_of_many, spread
from .problem import AllocationProblem
from .recency import Recency

_RECENCY = Recency()
_GAP = 1e-4  # of accuracy: a hundredth of a percent


def pace(
    problem: AllocationProblem,
    goal: Goal,
    round_number: int,
    spent_seconds: float,
    taught: FloatArray,
    *,
    strict: bool = False,
) -> tuple[AllocationProblem, str]:
    """A round's program within its part of the total time, and what was given up, in words.

    The rounds to come are taken to be like this one, and the rest of the time is spread over them
    as `plan_schedule` does; what the schedule gives this round is its deadline, within which the
    loss is minimised. Later rounds make up for what this one turns out to take.

    Args:
        problem: The round's program; returned as it is where the goal has no total time.
        goal: With `total_seconds` and `rounds`.
        round_number: Counted from 1; a round after the last is planned like the last.
        spent_seconds: What earlier rounds took.
        taught: `(classes,)` share of a class's examples that taught in earlier rounds, by recency
            (see `RoundMemory.taught`); coverage that this round need not give.
        strict: Whether it raises where the limits, or before anything was spent the total time,
            cannot be kept; otherwise the round is planned as fast as can be.

    Raises:
        InfeasibleError: See `strict`.

    Example:
        >>> import numpy as np
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]])
        >>> goal, nothing = Goal(total_seconds=16.0, rounds=4), np.zeros(1)
        >>> [pace(problem, goal, t, 3.0 * (t - 1), nothing)[0].deadline_seconds for t in (1, 2, 3)]
        [3.0, 3.0, 5.0]
    """
    if goal.total_seconds is None or goal.rounds is None:
        return problem, ""
    to_come = max(goal.rounds - round_number + 1, 1)
    left = max(goal.total_seconds - spent_seconds, 0.0)
    weights = _RECENCY.weights(goal.rounds)[-to_come:]
    past = _RECENCY.left(taught, goal.rounds, to_come)
    found = spread(problem, weights, left, past, _GAP)
    if found is not None:
        return _within(problem, float(found.seconds[0])), ""
    frontier = find_frontier(one_of_many(problem), most_solved=2)
    if frontier is None:
        if strict:
            raise InfeasibleError(explain_infeasibility(problem))
        return _within(problem, left / to_come), ""
    fastest = float(frontier.round_seconds[0])
    short = (
        f"`total_seconds` is short: {to_come} rounds of at least {fastest:.6g} s are to come, but "
        f"{left:.6g} s are left. "
    )
    if strict and not spent_seconds:
        raise InfeasibleError(f"{short}Give more time or train fewer rounds.")
    return _within(problem, fastest), f"{short}Planned as fast as can be."


def _within(problem: AllocationProblem, seconds: float) -> AllocationProblem:
    deadline = problem.deadline_seconds
    within = seconds if deadline is None else min(seconds, deadline)
    return replace(one_of_many(problem), deadline_seconds=within)
