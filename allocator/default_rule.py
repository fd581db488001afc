"""Who decides where nobody says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .arrays import FloatArray
from .data import FittedLoss
from .frontier import PickRule
from .goal import Goal
from .picks import FastestWithin, Tradeoff
from .problem import AllocationProblem
from .recency import Recency
from .solution import Answer, Solver
from .solvers.pick import FrontierPick

GIVES_UP_NOTHING = FrontierPick(FastestWithin(0.0))
"""The fastest of the rounds with the least predicted loss."""

NOTHING_LOST: FloatArray = np.zeros((1, 2))
"""A phi by which it does not matter who teaches."""


def default_rule(goal: Goal, fitted: FittedLoss) -> Solver:
    """The fastest round whose predicted loss is within the fit's `rule_loss` of the least.

    With a tradeoff the best by that. With a total time, whose schedule says how long a round may
    be, nothing is given up for speed. Before a finish that mends what quantization costs (at least
    up to `rule_loss`, by what the weights hold of it in the end, see `Recency`) that cost does not
    count: it is the fastest round, but for what absent clients cost, with QAT where it delays
    nobody.

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
    rule = FrontierPick(default_pick(goal.tradeoff, fitted))
    return BeforeFinish(rule) if _is_mended(goal, fitted) else rule


def default_pick(tradeoff: float | None, fitted: FittedLoss) -> PickRule:
    """The point of one round's frontier: the best by a tradeoff, else as `default_rule` says.

    Args:
        tradeoff: Seconds per unit of loss.
        fitted: The loss model.
    """
    return FastestWithin(fitted.rule_loss) if tradeoff is None else Tradeoff(tradeoff)


def _is_mended(goal: Goal, fitted: FittedLoss) -> bool:
    """Whether a finish that teaches everything makes up for rounds that teach nothing."""
    last = goal.finish_rounds
    if not last or goal.rounds is None:
        return False
    held = float(Recency().weights(goal.rounds)[-last:].sum())
    return bool(np.interp(held, *np.array(fitted.loss_curve).T) <= fitted.rule_loss)


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
