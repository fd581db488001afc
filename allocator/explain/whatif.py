"""What would change if one client did something else and all others kept their strategies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..check import violations, with_tolerance
from ..coverage import Coverage
from ..groups import Merged
from ..limits import Limit
from ..problem import AllocationProblem
from ..rows import Rows
from ..solution import Prices
from ..strategy import Strategy
from .uses import LimitUse, limit_uses

_WORTHWHILE = 1e-6  # of the objective: less is within a solver's proof
_ROUNDING = 1e-14  # of the terms that a change is a difference or a sum of


@dataclass(frozen=True, eq=False)
class Change:
    """What a move changes, each as value after minus value before.

    Args:
        round_seconds: Of the round time.
        loss: Of the whole predicted loss, coverage included.
        switching_seconds: Of what is paid for switching.
        objective: Of what is minimised; NaN if the problem has no goal.
        usage: `(budgets,)` of what is taken of every budget.
    """

    round_seconds: float
    loss: float
    switching_seconds: float
    objective: float
    usage: FloatArray


@dataclass(frozen=True)
class Flips:
    """Single values at which a move would leave the objective as it is; None where there is none.

    Each of them alone, with everything else as it is; whether the limits are kept does not count.

    Args:
        tradeoff: Seconds per unit of loss, also where the problem gives none. Beyond it, the move
            that loses less is the better one.
        seconds: Own time of the new strategy; below it the move is better.
        loss: Own loss of the new strategy, without coverage; below it the move is better.
    """

    tradeoff: float | None
    seconds: float | None
    loss: float | None


@dataclass(frozen=True, eq=False)
class Alternative:
    """Another strategy that a client is allowed, and what it would mean.

    Args:
        strategy: The strategy.
        seconds: The client's own time with it; of a group that of its slowest.
        loss: The client's own loss with it, without coverage; of a group the sum.
        change: What it would change.
        broken: The limits that would break, in the words of `violations`.
        needed: The limits among them that a value could mend: `used` is what they would have to be.
        flips: Where it would be as good as the present strategy.
        priced: Its reduced cost: the change of the objective with budgets, counts, `max_loss`,
            participation and coverage charged at the solution's prices. None without prices, or
            where a count with both sides has a price: it does not say which side it belongs to.
    """

    strategy: Strategy
    seconds: float
    loss: float
    change: Change
    broken: tuple[str, ...]
    needed: tuple[LimitUse, ...]
    flips: Flips
    priced: float | None


def _change_of(term: Coverage, after: FloatArray, before: FloatArray) -> FloatArray:
    """`(rows,)` what the loss by coverage changes from the `(classes,)` coverages before."""
    change = (term.phi(after) - term.phi(before)) @ term.class_weights
    if term.has_unevenness:
        lags = (term.lags(after) - term.lags(before)) @ term.class_weights
        change = change + term.unevenness_price * lags
    return np.asarray(change)


_Effects = tuple[FloatArray, FloatArray, FloatArray]


@dataclass(frozen=True, eq=False)
class Moves:
    """All moves of a single client, or of a single group, away from a choice.

    Args:
        merged: The problem with one row a group; a move is one row's.
        choice: `(rows,)` the present choice.
    """

    merged: Merged
    choice: IntArray
    _round_seconds: float
    _others_seconds: FloatArray  # (rows,) the round time if the row took none
    _share: FloatArray
    _covered: FloatArray

    @classmethod
    def of(cls, problem: AllocationProblem, choice: IntArray) -> Moves:
        """Prepares the moves away from a choice in which groups agree."""
        merged = Merged.of(problem)
        _, first = np.unique(merged.row_of, return_index=True)
        rows = np.asarray(choice)[first]
        seconds = merged.problem.seconds[np.arange(len(rows)), rows]
        slowest, term = int(seconds.argmax()), merged.problem.coverage
        others = np.full(len(rows), seconds[slowest])
        others[slowest] = np.delete(seconds, slowest).max(initial=0.0)
        share = np.zeros((len(rows), 0)) if term is None else term.share
        covered = np.zeros(0) if term is None else term.covered(rows)
        time = float(seconds[slowest])
        return cls(merged, rows, time, others, share, covered)

    @property
    def _problem(self) -> AllocationProblem:
        return self.merged.problem

    def alternatives(self, row: int, prices: Prices | None) -> tuple[Alternative, ...]:
        """Every other strategy that a row is allowed, in the order of the menu."""
        others = [s for s in range(len(self._problem.strategies)) if s != self.choice[row]]
        return tuple(
            self._alternative(row, s, prices) for s in others if self._problem.allowed[row, s]
        )

    def held_back(self) -> IntArray:
        """`(limits,)` clients that each of `limit_uses` alone keeps from a better strategy.

        Better for the objective if this client (or group) alone moved; zeros without a goal.
        """
        problem, rows = self._problem, np.arange(len(self.choice))
        limits = len(Limit.given(problem))
        held = np.zeros((limits, len(rows)), dtype=bool)
        if not problem.has_goal:
            return np.zeros(limits, dtype=np.int64)
        least = _WORTHWHILE * abs(problem.objective(self.choice))
        for s in range(len(problem.strategies)):
            effects = self._effects(rows, s)
            better = problem.allowed[:, s] & (self._objective(effects) < -least)
            if better.any():
                broken = self._broken(s, effects)
                held |= broken[:limits] & better & (broken.sum(axis=0) == 1)
        return np.asarray(held[:, self.merged.row_of].sum(axis=1), dtype=np.int64)

    def _broken(self, strategy: int, effects: _Effects) -> BoolArray:
        """`(limits, rows)` what each row's move breaks, as in `limit_uses`, then "somebody"."""
        problem, rows = self._problem, np.arange(len(self.choice))
        broken = []
        if problem.deadline_seconds is not None:
            time = self._round_seconds + effects[0]
            broken.append(time > with_tolerance(problem.deadline_seconds))
        if problem.max_loss is not None:
            loss = problem.total_loss(self.choice) + effects[1]
            broken.append(loss > with_tolerance(problem.max_loss))
        limits = Rows.of(problem)
        counts = [side for sides in limits.counts for side in sides]
        for row in (*limits.min_participation, *limits.budgets, *counts, *limits.somebody):
            taken = row.taken(self.choice) + self._step(row.table, rows, strategy)
            broken.append(taken > row.limit)
        return np.array(broken, dtype=bool).reshape(-1, len(rows))

    def _step(self, table: FloatArray, rows: IntArray, strategy: int) -> FloatArray:
        return np.asarray(table[rows, strategy] - table[rows, self.choice[rows]])

    def _effects(self, rows: IntArray, strategy: int) -> _Effects:
        """`(rows,)` changes of round time, loss and switching by a move of each row."""
        problem, term = self._problem, self._problem.coverage
        after = np.maximum(self._others_seconds[rows], problem.seconds[rows, strategy])
        loss = self._step(problem.loss, rows, strategy)
        size = problem.loss[rows, strategy] + problem.loss[rows, self.choice[rows]]
        if term is not None:
            covered = self._covered + self._taught(rows, strategy)
            loss += _change_of(term, covered, self._covered)
            size += term.loss(self._covered)
        loss[np.abs(loss) <= _ROUNDING * size] = 0.0  # else the tradeoff would flip at 1e17
        switching = np.zeros(len(rows))
        if problem.switching_seconds is not None:
            switching = self._step(problem.switching_seconds, rows, strategy)
        return after - self._round_seconds, loss, switching

    def _taught(self, rows: IntArray, strategy: int) -> FloatArray:
        """`(rows, classes)` the coverage that a move adds."""
        if (term := self._problem.coverage) is None:
            return np.zeros((len(rows), 0))
        more = term.teaches[strategy] - term.teaches[self.choice[rows]]
        return np.asarray(more[:, None] * self._share[rows])

    def _objective(self, effects: _Effects) -> FloatArray:
        if not self._problem.has_goal:
            return np.full(len(effects[0]), np.nan)
        weights = self._problem.time_weight, self._problem.loss_weight, 1.0
        return np.asarray(sum(w * e for w, e in zip(weights, effects, strict=True)))

    def _alternative(self, row: int, strategy: int, prices: Prices | None) -> Alternative:
        problem, moved = self._problem, self.choice.copy()
        moved[row] = strategy
        change = self._change(row, strategy)
        return Alternative(
            strategy=problem.strategies[strategy],
            seconds=float(problem.seconds[row, strategy]),
            loss=float(problem.loss[row, strategy]),
            change=change,
            broken=violations(problem, moved),
            needed=tuple(use for use in limit_uses(problem, moved) if not use.is_kept),
            flips=self._flips(row, strategy, change),
            priced=None if prices is None else self._priced(row, strategy, change, prices),
        )

    def _change(self, row: int, strategy: int) -> Change:
        rows = np.array([row])
        effects = self._effects(rows, strategy)
        time, loss, switching = (float(effect[0]) for effect in effects)
        usage = [self._step(b.usage, rows, strategy)[0] for b in self._problem.budgets]
        return Change(time, loss, switching, float(self._objective(effects)[0]), np.array(usage))

    def _flips(self, row: int, strategy: int, change: Change) -> Flips:
        problem = self._problem
        slower = change.round_seconds + change.switching_seconds
        tradeoff = -slower / change.loss if change.loss else 0.0
        seconds = loss = None
        if problem.has_goal and problem.time_weight and problem.participates[strategy]:
            rest = change.switching_seconds + problem.loss_weight * change.loss
            needed = self._round_seconds - rest / problem.time_weight
            seconds = needed if needed >= self._others_seconds[row] else None
        if problem.has_goal and problem.loss_weight:
            own = float(problem.loss[row, strategy] - change.objective / problem.loss_weight)
            loss = own if own >= 0 else None
        return Flips(tradeoff if tradeoff > 0 else None, seconds, loss)

    def _priced(self, row: int, strategy: int, change: Change, prices: Prices) -> float | None:
        problem, rows = self._problem, np.array([row])
        if not problem.has_goal:
            return None
        own_loss = self._step(problem.loss, rows, strategy)[0]
        terms = [
            problem.time_weight * change.round_seconds,
            change.switching_seconds,
            (problem.loss_weight + prices.max_loss) * own_loss,
        ]
        if problem.coverage is not None:
            terms.append(-self._taught(rows, strategy)[0] @ prices.coverage)
        limits = Rows.of(problem)
        charged = list(zip(limits.budgets, prices.budgets, strict=True))
        for sides, price in zip(limits.counts, prices.counts, strict=False):
            if price > 0 and len(sides) > 1:
                return None
            charged += [(side, price) for side in sides]
        charged += [(side, prices.min_participation) for side in limits.min_participation]
        terms += [price * self._step(limit.table, rows, strategy)[0] for limit, price in charged]
        value = float(sum(terms))
        return value if abs(value) > _ROUNDING * sum(map(abs, terms)) else 0.0
