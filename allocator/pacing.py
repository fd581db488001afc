"""What a round may take of a total time: the schedule, worked out anew from what is left."""

from __future__ import annotations

from dataclasses import replace

from .check import exceeds
from .errors import InfeasibleError
from .frontier import Frontier, find_frontier
from .goal import Goal
from .infeasible import explain_infeasibility
from .problem import AllocationProblem
from .solvers.knapsack import pack

_GAP = 1e-4  # of accuracy: a hundredth of a percent
_MOST_SOLVED = 16  # points of a frontier that no sort finds: a round must not wait for its plan


def pace(
    problem: AllocationProblem,
    goal: Goal,
    round_number: int,
    spent_seconds: float,
    *,
    strict: bool = False,
) -> tuple[AllocationProblem, str]:
    """A round's program within its part of the total time, and what was given up, in words.

    The rounds to come are taken to be like this one, and the rest of the time is spread over them
    as `plan_schedule` does; what the schedule gives this round is its deadline, within which the
    loss is minimised. Later rounds make up for what this one turns out to take.

    Args:
        problem: The round's program; returned as it is where the goal has no total time.
        goal: With `total_seconds`, `rounds` and `recency`.
        round_number: Counted from 1; a round after the last is planned like the last.
        spent_seconds: What earlier rounds took.
        strict: Whether it raises where the limits, or before anything was spent the total time,
            cannot be kept; otherwise the round is planned as fast as can be.

    Raises:
        InfeasibleError: See `strict`.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]])
        >>> goal = Goal(total_seconds=16.0, rounds=4)
        >>> [pace(problem, goal, t, 3.0 * (t - 1))[0].deadline_seconds for t in (1, 2, 3)]
        [3.0, 3.0, 5.0]
    """
    if goal.total_seconds is None or goal.rounds is None:
        return problem, ""
    frontier = find_frontier(problem, _GAP, most_solved=_MOST_SOLVED)
    to_come = max(goal.rounds - round_number + 1, 1)
    left = max(goal.total_seconds - spent_seconds, 0.0)
    if frontier is None:
        if strict:
            raise InfeasibleError(explain_infeasibility(problem))
        return _within(problem, left / to_come), ""
    fastest = float(frontier.round_seconds[0])
    if not exceeds(to_come * fastest, left):
        return _within(problem, _share(frontier, goal, to_come, left)), ""
    short = (
        f"`total_seconds` is short: {to_come} rounds of at least {fastest:.6g} s are to come, but "
        f"{left:.6g} s are left. "
    )
    if strict and not spent_seconds:
        raise InfeasibleError(f"{short}Give more time or train fewer rounds.")
    return _within(problem, fastest), f"{short}Planned as fast as can be."


def _share(frontier: Frontier, goal: Goal, to_come: int, left: float) -> float:
    """The seconds that the schedule gives the first of the rounds to come."""
    assert goal.rounds is not None
    weights = goal.recency.weights(goal.rounds)[-to_come:]
    points = pack(frontier.round_seconds, frontier.loss, weights, left, _GAP).points
    return float(frontier.round_seconds[points[0]])


def _within(problem: AllocationProblem, seconds: float) -> AllocationProblem:
    deadline = problem.deadline_seconds
    return replace(
        problem,
        deadline_seconds=seconds if deadline is None else min(seconds, deadline),
        tradeoff=None,
        max_loss=None,
        switching_seconds=None,
    )
