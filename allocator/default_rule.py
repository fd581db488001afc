"""Who decides where nobody says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .arrays import FloatArray
from .data import FittedLoss
from .goal import Goal
from .picks import FastestWithin
from .problem import AllocationProblem
from .solution import Answer, Solver
from .solvers.pick import FrontierPick

GIVES_UP_NOTHING = FrontierPick(FastestWithin(0.0))
"""The fastest of the rounds with the least predicted loss."""

NOTHING_LOST: FloatArray = np.zeros((1, 2))
"""A phi by which it does not matter who teaches."""


def default_rule(goal: Goal, fitted: FittedLoss) -> Solver:
    """The fastest round whose predicted loss is within the fit's `rule_loss` of the least.

    With a total time, whose schedule says how long a round may be, nothing is given up for speed.
    Before a finish, which mends what quantization costs, that loss does not count; what clients
    cost that skip does.

    Args:
        goal: What rounds must keep.
        fitted: The loss model.

    Example:
        >>> from fedhq.allocator import fitted_loss
        >>> default_rule(Goal(), fitted_loss())
        FrontierPick(rule=FastestWithin(loss=0.005), solver=None)
        >>> default_rule(Goal(rounds=20, finish=0.25), fitted_loss())
        BeforeFinish(rule=FrontierPick(rule=FastestWithin(loss=0.005), solver=None))
    """
    if goal.total_seconds is not None:
        return GIVES_UP_NOTHING
    rule = FrontierPick(FastestWithin(fitted.rule_loss))
    return BeforeFinish(rule) if goal.has_finish else rule


@dataclass(frozen=True)
class BeforeFinish:
    """Plans a round as if it did not matter who teaches; who can without delay does all the same.

    Where the loss of a round is limited, it does matter.

    Args:
        rule: Decides, and uses the slack.
    """

    rule: FrontierPick

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem."""
        if problem.coverage is None or problem.max_loss is not None:
            return self.rule(problem)
        term = replace(problem.coverage, loss_curve=NOTHING_LOST, unevenness_price=0.0)
        return self.rule(replace(problem, coverage=term))
