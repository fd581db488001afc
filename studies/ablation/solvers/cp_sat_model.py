"""The whole program in whole numbers, rounded so that nothing possible or cheap gets lost.

Every row and the objective has a scale of its own, a power of two: 2^33 units a client and 2^50 in
all at most, since larger numbers slow CP-SAT down. What is scaled is rounded down: whoever keeps a
limit keeps the rounded one, and no allocation costs less than its rounded cost, so that
infeasibility and bounds hold for the problem. What is lost is one unit a client.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....allocator import AllocationProblem, Coverage
from ....allocator.arrays import BoolArray, FloatArray, IntArray
from ....allocator.check import with_tolerance, within_deadline
from ....allocator.rows import Row, Rows, row_size

_A_CLIENT, _LARGEST_SUM = 2.0**33, 2.0**50
"""Units; CP-SAT counts in 64 bits, and its bound comes as a float of 53."""

_BEYOND = 2.0
"""Times the limit: a larger entry of a row is cut off there, where it breaks the limit as well."""


@dataclass(frozen=True, eq=False)
class CpSatModel:
    """The program, and how to read what CP-SAT makes of it.

    Args:
        program: CP-SAT's model.
        choice: By client, the literal of each usable strategy.
        scale: Units of the model's objective per unit of the problem's.
        least: Of the problem's objective that the model leaves out: everybody's least cost.
    """

    program: Any
    choice: Sequence[dict[int, Any]]
    scale: float
    least: float

    @classmethod
    def of(cls, cp_model: Any, problem: AllocationProblem) -> CpSatModel:
        """Builds the model of a problem in which every client can do something.

        Raises:
            ValueError: If the problem does not say what to minimise.
        """
        builder = _Builder(cp_model, problem)
        for row in Rows.of(problem).all:
            builder.limit(row)
        if problem.max_loss is not None:
            builder.limit_loss(with_tolerance(problem.max_loss))
        scale, least = builder.minimise()
        return cls(builder.program, builder.choice, scale, least)

    def bound(self, found: float) -> float:
        """A bound of the problem's objective from one of the model's."""
        return self.least + found / self.scale if abs(found) < 2 * _LARGEST_SUM else -np.inf

    def decode(self, solver: Any) -> IntArray:
        """`(clients,)` what each client does."""
        return np.array(
            [
                next(s for s, does in row.items() if solver.boolean_value(does))
                for row in self.choice
            ]
        )


class _Builder:
    """Adds rounded rows and the rounded objective to a model."""

    def __init__(self, cp_model: Any, problem: AllocationProblem) -> None:
        self._problem = problem
        self._weighted_sum = cp_model.LinearExpr.weighted_sum
        self._usable: BoolArray = within_deadline(problem)
        self.program = cp_model.CpModel()
        self.choice: list[dict[int, Any]] = []
        for row in self._usable:
            does = {int(s): self.program.new_bool_var("") for s in np.flatnonzero(row)}
            self.program.add_exactly_one(does.values())
            self.choice.append(does)
        self._literals = [does for row in self.choice for does in row.values()]

    def limit(self, row: Row) -> None:
        """Adds a row, whose entries have one sign."""
        most = _BEYOND * max(abs(row.limit), row.scale)
        table = np.clip(row.table, -most, most)
        scale = self._scale(self._most(np.abs(table)) + abs(row.limit))
        self.program.add(self._sum(table, scale) <= _down(row.limit, scale))

    def limit_loss(self, limit: float) -> None:
        """Limits the loss L."""
        loss, term = self._problem.loss, self._problem.coverage
        sizes = loss if term is None else np.append(loss, term.class_weights * _unit(term))
        size = row_size(limit, sizes)
        loss = np.minimum(loss, _BEYOND * max(limit, size))
        classes = 0.0 if term is None else float(term.class_weights.sum()) * _unit(term)
        scale = self._scale(self._most(loss) + classes + limit)
        total = self._sum(loss, scale)
        if term is not None:
            total += sum(self._class_losses(term, scale) + self._lags(term, scale))
        self.program.add(total <= _down(limit, scale))

    def minimise(self) -> tuple[float, float]:
        """Sets the objective; returns its scale, and what it leaves out."""
        problem, term = self._problem, self._problem.coverage
        cost = problem.loss_weight * problem.loss
        if problem.switching_seconds is not None:
            cost = cost + problem.switching_seconds
        least = np.where(self._usable, cost, np.inf).min(axis=1)
        excess = np.where(self._usable, cost - least[:, None], 0.0)
        seconds = np.where(self._usable, problem.time_weight * problem.seconds, 0.0)
        classes = 0.0 if term is None else problem.loss_weight * _unit(term)
        scale = self._scale(self._most(excess) + float(seconds.max()) + classes)
        total = self._sum(excess, scale)
        if problem.time_weight:
            total += self._round_time(seconds, scale)
        if term is not None and problem.loss_weight:
            factor = problem.loss_weight * scale
            total += sum(self._class_losses(term, factor) + self._lags(term, factor))
        self.program.minimize(total)
        return scale, float(least.sum())

    def _round_time(self, seconds: FloatArray, scale: float) -> Any:
        """At least everybody's time."""
        least = np.where(self._usable, seconds, np.inf).min(axis=1).max()
        time = self.program.new_int_var(_down(least, scale), _down(seconds.max(), scale), "")
        for own, row in zip(seconds, self.choice, strict=True):
            places = list(row)
            own_time = self._weighted_sum(list(row.values()), _all_down(own[places], scale))
            self.program.add(own_time <= time)
        return time

    def _class_losses(self, term: Coverage, scale: float) -> list[Any]:
        """Per class, at least its loss: above every line of the curve, without the coverage."""
        slopes, offsets = term.lines
        now, weights = term.phi(term.carried), term.class_weights
        losses = []
        for c, weight in enumerate(weights * scale):
            loss = self.program.new_int_var(0, _down(now[c], weight) + 1, "")
            taught = np.outer(term.share[:, c], term.teaches)
            for slope, offset in zip(slopes, offsets + slopes * term.carried[c], strict=True):
                if (right := _down(offset, weight)) > 0:
                    less = np.minimum(np.ceil(-slope * weight * taught), right)
                    self.program.add(self._sum(less, 1.0) + loss >= right)
            losses.append(loss)
        return losses

    def _lags(self, term: Coverage, scale: float) -> list[Any]:
        """Per class, at least the loss by how much it lags behind the share of all; none if even.

        More of other classes puts a class behind, and more of its own lets it catch up.
        """
        if not term.has_unevenness:
            return []
        weights, losses = term.class_weights, []
        for c, weight in enumerate(weights * term.unevenness_price * scale):
            lag = self.program.new_int_var(0, _down(term.most_share, weight) + 1, "")
            behind = np.outer(term.share @ weights - term.share[:, c], term.teaches)
            least = _down(float(term.carried @ weights - term.carried[c]), weight)
            self.program.add(lag - self._sum(behind, weight) >= least)
            losses.append(lag)
        return losses

    def _scale(self, largest: float) -> float:
        """The power of two that brings a sum near to what the numbers of this problem may be."""
        units = min(_A_CLIENT * len(self.choice), _LARGEST_SUM)
        return float(2.0 ** np.floor(np.log2(units / largest))) if largest else 1.0

    def _most(self, table: FloatArray) -> float:
        """The largest sum of a table >= 0 over any choice."""
        return float(np.where(self._usable, table, 0.0).max(axis=1).sum())

    def _sum(self, table: FloatArray, scale: float) -> Any:
        """The sum over a choice, in scaled units, rounded down."""
        factors = _all_down(table[self._usable], scale)
        terms = [(does, f) for does, f in zip(self._literals, factors, strict=True) if f]
        return self._weighted_sum([does for does, _ in terms], [f for _, f in terms])


def _unit(term: Coverage) -> float:
    """What a class's loss is measured in, its lag included."""
    return max(term.unit, term.most)


def _down(value: float, scale: float) -> int:
    return int(np.floor(value * scale))


def _all_down(values: FloatArray, scale: float) -> list[int]:
    whole: list[int] = np.floor(values * scale).astype(np.int64).tolist()
    return whole
