"""The program of one round: of what is known of a fleet, what was learned of it, and the goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .adjust.loss_model import KEPT, LossModel
from .adjust.model import TimeModel
from .adjust.predicted import quantile_seconds
from .arrays import FloatArray, IntArray, freeze
from .check_fleet import check_deployed
from .coverage import Coverage
from .data import FittedLoss, separable_loss
from .default_rule import NOTHING_LOST
from .fleet import FleetTables
from .goal import Goal
from .knowledge import FleetKnowledge
from .memory import RoundMemory
from .problem import AllocationProblem
from .strategy import Strategy, parse_menu, parse_strategy, teaches

_NAMED_CLIENTS = 5


@dataclass(frozen=True)
class RoundRules:
    """What stays the same over all rounds; the fields are those of `HybridAllocator`.

    Raises:
        ValueError: If the menu does not serve the deployment, or a number is negative.
    """

    menu: tuple[Strategy, ...]
    deployed: Strategy
    fitted: FittedLoss
    switching_seconds: float
    explore: float
    probe: int
    strict: bool

    @classmethod
    def of(
        cls,
        menu: Sequence[Strategy | str],
        deployed: Strategy | str,
        fitted: FittedLoss,
        switching_seconds: float,
        explore: float,
        probe: int,
        strict: bool,
    ) -> RoundRules:
        """Reads texts and checks."""
        strategies, target = parse_menu(menu), parse_strategy(deployed)
        check_deployed(strategies, target)
        price = float(freeze("switching_seconds", switching_seconds, ()))
        if not 0 <= 2 * probe <= KEPT:
            raise ValueError(
                f"`0 <= probe <= {KEPT // 2}` must hold (rounds), but got {probe}. Five show what "
                "quantization costs; 0 is without."
            )
        tries = float(freeze("explore", explore, ()))
        return cls(strategies, target, fitted, price, tries, probe, strict)


def round_problem(
    rules: RoundRules,
    goal: Goal,
    known: FleetKnowledge,
    rows: IntArray,
    *,
    is_finish: bool = False,
) -> AllocationProblem:
    """The program of the next round of a cohort.

    Args:
        rules: What stays the same.
        goal: What is minimised, and what the round must keep.
        known: Of all clients.
        rows: `(cohort,)` numbers of those that are there.
        is_finish: Whether the round gives nothing up, and so shows nothing.

    Raises:
        ValueError: With `strict`, if the cohort holds no example.
    """
    fleet, memory = known.fleet, known.memory
    examples, population = _examples(rules, fleet, rows), fleet.population
    return AllocationProblem(
        rules.menu,
        _seconds(rules, goal, known.times, rows),
        separable_loss(
            rules.menu, examples / examples.sum(), rules.fitted, memory.absent_rounds(rows)
        ),
        goal.tradeoff,
        deadline_seconds=goal.deadline_seconds,
        max_loss=goal.max_loss,
        allowed=fleet.allowed[rows],
        budgets=goal.budgets(fleet.hardware, rows),
        coverage=Coverage(
            fleet.label_counts[rows],
            teaches(rules.menu, rules.deployed),
            _loss_curve(rules, goal, known.loss, is_finish=is_finish),
            population=population if population.any() else np.ones(len(population)),
            carried=memory.carried(fleet),
            unevenness_price=rules.fitted.unevenness_price,
        ),
        num_examples=examples,
        min_participation=goal.min_participation,
        switching_seconds=_switching(rules, goal, memory, rows),
        counts=goal.counts,
        groups=None if fleet.groups is None else [fleet.groups[i] for i in rows],
        clients=[str(i) for i in rows],
    )


def _loss_curve(
    rules: RoundRules, goal: Goal, loss: LossModel | None, *, is_finish: bool
) -> ArrayLike:
    """`(points, 2)` phi to plan with: that of nothing lost while it is measured what is."""
    if loss is None:
        return rules.fitted.loss_curve
    is_timed = goal.counts_time or (goal.deadline_seconds, goal.total_seconds) == (None, None)
    if is_timed and not is_finish and loss.wants_probe(rules.probe):
        return NOTHING_LOST
    return loss.curve()


def _examples(rules: RoundRules, fleet: FleetTables, rows: IntArray) -> FloatArray:
    """`(cohort,)` examples; those of a cohort without any count alike, unless strict."""
    examples = fleet.num_examples[rows]
    if examples.any():
        return examples
    if rules.strict:
        raise ValueError(
            "a cohort must hold at least one example, but its clients "
            f"{rows[:_NAMED_CLIENTS].tolist()} ({len(rows)} in all) hold none. "
            "Add a client that has data, or leave the round out."
        )
    return np.ones(len(rows))


def _seconds(rules: RoundRules, goal: Goal, times: TimeModel, rows: IntArray) -> FloatArray:
    """`(cohort, strategies)` the times to plan with."""
    expected = times.predict(rows)
    seconds = expected.seconds * np.exp(-rules.explore * expected.log_error)
    if goal.holds_with is None:
        return seconds
    return quantile_seconds(seconds, expected.log_spread, goal.holds_with, len(rows))


def _switching(
    rules: RoundRules, goal: Goal, memory: RoundMemory, rows: IntArray
) -> FloatArray | None:
    """`(cohort, strategies)` the price of a change; None where it cannot count."""
    if not rules.switching_seconds or not goal.counts_time:
        return None
    return np.where(memory.changes(rows), rules.switching_seconds, 0.0)
