"""A point of one frontier for every round, within a total time: a multiple-choice knapsack.

With one price of time the rounds are apart: each takes the point of least `weight * loss + price *
seconds`. The best price gives a bound that all but one round reach; what the price leaves open is
settled by dynamic programming over those points that the bound does not rule out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray, IntArray
from ..check import with_tolerance

_MOST_EXTENSIONS = 200_000  # states times points of a round
_ROUNDING = 1e-12
_EQUAL = 1e-9


@dataclass(frozen=True, eq=False)
class Packing:
    """The points chosen, and what is proven of them.

    Args:
        points: `(rounds,)` a point for every round.
        price: Loss that one more second would save, >= 0.
        bound: No choice within the budget has a lower sum of weighted losses.
    """

    points: IntArray
    price: float
    bound: float


def pack(
    seconds: FloatArray,
    loss: FloatArray,
    weights: FloatArray,
    budget_seconds: float,
    gap: float = 0.0,
) -> Packing:
    """Minimises the rounds' weighted loss within a total time.

    Args:
        seconds: `(points,)` rising, of one frontier.
        loss: `(points,)` falling.
        weights: `(rounds,)` of every round's loss, >= 0.
        budget_seconds: At least the fastest point's time in every round.
        gap: Weighted loss above the bound that need not be searched for.

    References:
        P. Sinha, A. Zoltners, "The multiple-choice knapsack problem", Operations Research, 1979.

    Example:
        >>> found = pack(np.array([1., 2., 4.]), np.array([.4, .1, 0.]), np.array([.2, .8]), 5.0)
        >>> found.points, round(found.bound, 3)
        (array([0, 2]), 0.06)
    """
    price = _price(seconds, loss, weights, budget_seconds)
    costs = np.outer(weights, loss) + price * seconds
    extra = costs - costs.min(axis=1, keepdims=True)
    bound = float(costs.min(axis=1).sum()) - price * budget_seconds
    greedy = _filled(seconds, loss, weights, budget_seconds, price)
    if price == 0:
        return Packing(greedy, 0.0, bound)
    rounds = np.arange(len(weights))
    missing = extra[rounds, greedy].sum() + price * (budget_seconds - seconds[greedy].sum())
    found = _Search(seconds, extra, price, with_tolerance(budget_seconds)).below(
        float(missing) - gap
    )
    return Packing(greedy if found is None else found, price, bound)


def _price(
    seconds: FloatArray, loss: FloatArray, weights: FloatArray, budget_seconds: float
) -> float:
    """The best price: that of the last step that the budget pays, the dearest steps first."""
    hull = lower_hull(seconds, loss)
    more = np.diff(seconds[hull])
    rates = np.outer(weights, -np.diff(loss[hull]) / more).ravel()
    order = np.argsort(-rates, kind="stable")
    spent = np.cumsum(np.tile(more, len(weights))[order])
    over = np.flatnonzero(spent > with_tolerance(budget_seconds - len(weights) * seconds[0]))
    return float(rates[order][over[0]]) if len(over) else 0.0


def lower_hull(seconds: FloatArray, loss: FloatArray) -> IntArray:
    """The points that some price picks; of rising seconds and falling losses.

    Example:
        >>> lower_hull(np.array([1., 2., 3.]), np.array([.4, .3, 0.]))
        array([0, 2])
    """
    hull: list[int] = []
    for k, (x, y) in enumerate(zip(seconds.tolist(), loss.tolist(), strict=True)):
        while len(hull) > 1:
            i, j = hull[-2:]
            if (loss[j] - loss[i]) * (x - seconds[i]) < (y - loss[i]) * (seconds[j] - seconds[i]):
                break
            hull.pop()
        hull.append(k)
    return np.array(hull, dtype=np.int64)


def _filled(
    seconds: FloatArray, loss: FloatArray, weights: FloatArray, budget_seconds: float, price: float
) -> IntArray:
    """The price's cheapest points, those of most weight made slower while the budget lasts."""
    costs = np.outer(weights, loss) + price * seconds
    points = np.asarray(costs.argmin(axis=1))
    if price == 0:
        points = np.where(weights > 0, len(seconds) - 1, 0)
    left = with_tolerance(budget_seconds) - float(seconds[points].sum())
    for t in np.argsort(weights, kind="stable").tolist():  # a tie at the price may exceed it
        if left >= 0:
            break
        left += float(seconds[points[t]] - seconds[0])
        points[t] = 0
    for t in np.argsort(-weights, kind="stable").tolist():
        best = int(np.searchsorted(seconds, seconds[points[t]] + left, side="right")) - 1
        if weights[t] > 0 and best > points[t]:
            left -= float(seconds[best] - seconds[points[t]])
            points[t] = best
    return points


class _Search:
    """Dynamic programming over the rounds; a state is what was spent, and lost to the bound."""

    def __init__(
        self, seconds: FloatArray, extra: FloatArray, price: float, budget_seconds: float
    ) -> None:
        self._seconds, self._extra = seconds, extra
        self._price, self._budget = price, budget_seconds

    def below(self, missing: float) -> IntArray | None:
        """`(rounds,)` points nearest to the bound; None if none is nearer than `missing`."""
        limit = missing * (1 - _EQUAL)
        if limit <= 0:
            return None
        spent, lost = np.zeros(1), np.zeros(1)
        steps: list[tuple[IntArray, IntArray]] = []
        least = self._seconds[0] * np.arange(len(self._extra))[::-1]  # of the rounds to come
        for row, rest in zip(self._extra, least, strict=True):
            points = np.flatnonzero(row <= limit)
            kept = max(1, _MOST_EXTENSIONS // len(points))
            if len(lost) > kept:
                best = np.sort(np.argsort(lost, kind="stable")[:kept])
                spent, lost = spent[best], lost[best]
                steps[-1] = (steps[-1][0][best], steps[-1][1][best])
            after = np.add.outer(spent, self._seconds[points]).ravel()
            worse = np.add.outer(lost, row[points]).ravel()
            # what is lost grows by the price of what stays unspent, once the rounds are over
            keep = np.flatnonzero((worse <= limit) & (after + rest <= self._budget))
            if not len(keep):
                return None
            keep = keep[_undominated(after[keep], worse[keep] - self._price * after[keep])]
            steps.append((keep // len(points), points[keep % len(points)]))
            spent, lost = after[keep], worse[keep]
        last = lost + self._price * (self._budget - spent)
        return self._traced(steps, int(last.argmin())) if last.min() < limit else None

    def _traced(self, steps: list[tuple[IntArray, IntArray]], state: int) -> IntArray:
        points = np.empty(len(steps), dtype=np.int64)
        for t in range(len(steps) - 1, -1, -1):
            parents, chosen = steps[t]
            points[t] = chosen[state]
            state = int(parents[state])
        return points


def _undominated(spent: FloatArray, loss: FloatArray) -> IntArray:
    """States that no other has spent less than and lost less."""
    order = np.lexsort((loss, spent))
    best = np.minimum.accumulate(loss[order])
    first = np.append(True, best[1:] < best[:-1] - _ROUNDING)
    kept: IntArray = order[first]
    return kept
