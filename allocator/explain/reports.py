"""Limits and classes at an allocation: what is used, what it holds back, what it is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray, IntArray
from ..coverage import Coverage
from ..limits import Kind, Limit
from ..problem import AllocationProblem
from ..solution import Prices
from .quantities import PERCENT, POINTS, Unit
from .uses import LimitUse, limit_uses

_EVEN = 1e-12  # of coverage: less is rounding


@dataclass(frozen=True)
class LimitReport:
    """A limit at an allocation; written as a line.

    Args:
        use: What is used of it.
        held_back: How many clients this limit alone keeps from a strategy that would be better for
            the objective if the client (or its group) alone moved.
        price: Objective units per unit that the limit is relaxed; None where the solution has none.
    """

    use: LimitUse
    held_back: int
    price: float | None

    @property
    def worth(self) -> float:
        """The price for as much again as the limit, in objective units; 0 without a price."""
        return (self.price or 0.0) * (self.use.value or 1.0)

    def __str__(self) -> str:
        use, spare = self.use, "to spare" if self.use.limit.kind.is_lower else "left"
        rest = "nothing" if use.is_tight else use.unit.text(use.slack)
        words = f"{use.limit}: {use}, {rest} {spare}"
        if n := self.held_back:
            words += f"; alone keeps {n} client{'s' * (n > 1)} from a better strategy"
        return words

    def price_words(self, objective: Unit) -> str:
        """What one more of it is worth, in the objective's unit."""
        use = self.use
        multiple, worth = use.unit.worth(self.price or 0.0, use.value, objective)
        more = "less" if use.limit.kind.is_lower else "more"
        return f"one {more} {multiple} of {use.limit} is worth {worth} of the objective"


@dataclass(frozen=True)
class ClassReport:
    """The coverage of a class at an allocation.

    Args:
        label: The class's place in the label counts.
        covered: Its coverage.
        slope: By how much the loss falls per unit of more coverage, from here on; below 0 where it
            rises, as the other classes lag behind the more.
        price: Objective units per unit of coverage; None where the solution has none.
    """

    label: int
    covered: float
    slope: float
    price: float | None

    def __str__(self) -> str:
        does = "raises" if self.slope < 0 else "lowers"
        return (
            f"class {self.label} ({PERCENT.text(self.covered)} covered): one more % of its "
            f"examples {does} the loss by {POINTS.text(abs(self.slope) / PERCENT.factor)}"
        )

    def price_words(self, objective: Unit) -> str:
        """What one more percent of its examples is worth, in the objective's unit."""
        worth = objective.text((self.price or 0.0) / PERCENT.factor)
        return f"one more % of the examples of class {self.label} is worth {worth} of the objective"


def limit_reports(
    problem: AllocationProblem, choice: IntArray, held_back: IntArray, prices: Prices | None
) -> tuple[LimitReport, ...]:
    """A report of every limit, in the order of `limit_uses`.

    Args:
        problem: The problem.
        choice: `(clients,)`.
        held_back: `(limits,)` as of `Moves.held_back`.
        prices: The solution's.
    """
    return tuple(
        LimitReport(use, int(held), None if prices is None else _price(problem, use.limit, prices))
        for use, held in zip(limit_uses(problem, choice), held_back, strict=True)
    )


def _price(problem: AllocationProblem, limit: Limit, prices: Prices) -> float | None:
    """A limit's price; None for a deadline, and where a count has two sides but one price."""
    match limit.kind:
        case Kind.DEADLINE:
            return None
        case Kind.MAX_LOSS:
            return prices.max_loss
        case Kind.MIN_PARTICIPATION:
            return prices.min_participation
        case Kind.BUDGET:
            resources = [b.resource for b in problem.budgets]
            return float(prices.budgets[resources.index(limit.of)])
        case Kind.AT_MOST | Kind.AT_LEAST:
            for count, price in zip(problem.counts, prices.counts, strict=False):
                if str(count) == limit.of and 0 in (count.at_least, count.at_most or 0):
                    return float(price)
            return None


def class_reports(
    problem: AllocationProblem, choice: IntArray, prices: Prices | None
) -> tuple[ClassReport, ...]:
    """A report of every class of the coverage term; none without one."""
    if (term := problem.coverage) is None:
        return ()
    covered, (slopes, _) = term.covered(choice), term.lines
    segment = np.searchsorted(term.loss_curve[:, 0], covered, side="right") - 1
    falls = -term.class_weights * slopes[segment] + _evened(term, covered)
    return tuple(
        ClassReport(
            c,
            float(covered[c]),
            float(falls[c]),
            None if prices is None else float(prices.coverage[c]),
        )
        for c in range(len(covered))
    )


def _evened(term: Coverage, covered: FloatArray) -> FloatArray:
    """`(classes,)` by how much the loss by unevenness falls per unit of more coverage."""
    if not term.has_unevenness:
        return np.zeros(len(covered))
    weights, lead = term.class_weights, covered - covered @ term.class_weights
    behind = lead < -_EVEN
    # More of one class raises the share, behind which the others then lag, the even ones too.
    others = weights[lead <= _EVEN].sum() - np.where(lead <= _EVEN, weights, 0.0)
    own = np.where(behind, 1.0 - weights, 0.0)
    return np.asarray(term.unevenness_price * weights * (own - others))
