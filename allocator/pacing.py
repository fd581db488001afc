"""What a round may take of a total time: the schedule, worked out anew from what is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .arrays import FloatArray, IntArray
from .errors import InfeasibleError
from .frontier import find_frontier
from .goal import Goal
from .infeasible import explain_infeasibility
from .over_rounds import one_of_many, spread
from .problem import AllocationProblem
from .recency import Recency

_RECENCY = Recency()
_GAP = 1e-4  # of accuracy: a hundredth of a percent
_LEAST_WEIGHT = 1e-3  # an early round does what is best for what it weighs, be that ever so little


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

    That is the loss in the end: the round counts by its weight there, beside what earlier rounds
    taught and what the schedule lets later ones teach: what all of them cover need not be covered
    again, so that clients may take turns.

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
        later = weights[1:] @ _covered(problem, found.choices)[found.kinds[1:]]
        return _within(problem, float(found.seconds[0]), weights, past + later), ""
    frontier = find_frontier(one_of_many(problem), most_solved=2)
    if frontier is None:
        if strict:
            raise InfeasibleError(explain_infeasibility(problem))
        return _within(problem, left / to_come, weights, past), ""
    fastest, choice = float(frontier.round_seconds[0]), frontier.allocation(0).choice
    short = (
        f"`total_seconds` is short: {to_come} rounds of at least {fastest:.6g} s are to come, but "
        f"{left:.6g} s are left. "
    )
    if strict and not spent_seconds:
        raise InfeasibleError(f"{short}Give more time or train fewer rounds.")
    later = weights[1:].sum() * _covered(problem, choice)
    return _within(problem, fastest, weights, past + later), f"{short}Planned as fast as can be."


def _covered(problem: AllocationProblem, choices: IntArray) -> FloatArray:
    """`(..., classes)` what `(..., clients)` choices cover of the classes in one round."""
    term = problem.coverage
    if term is None:
        return np.zeros((*choices.shape[:-1], 1))
    return term.teaches[choices] @ term.share


def _within(
    problem: AllocationProblem, seconds: float, weights: FloatArray, carried: FloatArray
) -> AllocationProblem:
    """The first of weighted rounds, within a time and with what the others cover in the end."""
    deadline, term = problem.deadline_seconds, problem.coverage
    weight = max(float(weights[0]), _LEAST_WEIGHT)
    if term is not None:
        term = replace(term, teaches=weight * term.teaches, carried=carried)
    return replace(
        one_of_many(problem),
        deadline_seconds=seconds if deadline is None else min(seconds, deadline),
        loss=weight * problem.loss,
        coverage=term,
    )
