"""Choices so dear that no allocation as good as a known one can hold them.

One huge entry (somebody's "never") would set the scale of a whole program, and what matters would
vanish below the solvers' tolerances. An allocation that is known excludes such entries, exactly.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..check import violations, within_deadline
from ..problem import AllocationProblem
from ..solution import Answer

_WORTH_IT = 1e3  # the largest cost must fall by this factor


def without_dear(problem: AllocationProblem, answer: Answer) -> AllocationProblem | None:
    """The problem without the choices that the answer's allocation excludes.

    None where there is no allocation, or where that would hardly change the magnitudes.

    Args:
        problem: With a goal, without groups.
        answer: Of a solver; only a choice that keeps the limits tells anything.

    Example:
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 1e9], [.1, 0]], tradeoff=10.0)
        >>> from fedhq.allocator import Sweep
        >>> without_dear(problem, Sweep()(problem)).allowed[0]
        array([ True, False])
    """
    if answer.choice is None or violations(problem, answer.choice):
        return None
    usable = within_deadline(problem)
    cost = problem.loss_weight * problem.loss
    if problem.switching_seconds is not None:
        cost = cost + problem.switching_seconds
    least = np.where(usable, cost, np.inf).min(axis=1)
    excess = cost - least[:, None] + problem.time_weight * problem.seconds
    room = problem.objective(answer.choice) - float(least.sum())
    keep = usable & (excess <= room * (1 + 1e-9))
    keep[np.arange(len(keep)), answer.choice] = True
    largest = np.where(usable, excess, 0.0).max()
    if largest <= _WORTH_IT * np.where(keep, excess, 0.0).max():
        return None
    return replace(problem, allowed=keep)
