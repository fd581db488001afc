"""The Lagrangian relaxation of the whole program: with every limit priced, it separates.

For prices p >= 0, one a limit, and a round time T, the program falls apart into one small choice a
client and one a curve of the coverage term (design section 3):

    D(p, T) = w T + sum_i min_s r[i, s] + sum_c min_k r[c, k] - p . limits

`s` over what client i can do within T, `k` over the breakpoints of a curve, r the priced costs. D
is a lower bound of every allocation that ends by T, and concave in p.

Everything is measured in `unit`, the range of the objective, so that magnitudes do not matter; a
limit is measured in what all clients could take of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..check import with_tolerance, within_deadline
from ..curves import Curves
from ..problem import AllocationProblem
from ..rows import Rows
from ..solution import Prices

_LEVEL = 1e-9  # of the least objective: the unit is no smaller


@dataclass(frozen=True, eq=False)
class Relaxation:
    """A problem in the form that is priced; prices are of the rows, then curves, then max_loss.

    Args:
        problem: Without groups.
        rows: Its linear limits.
        seconds: `(clients, strategies)`.
        usable: `(clients, strategies)` what may be chosen at all.
        base: `(clients, strategies)` cost without prices, in units.
        tables: `(linear, clients, strategies)` of the rows and, where given, of max_loss.
        limits: `(prices,)`.
        teaches: `(strategies,)`; zeros without coverage.
        share: `(clients, classes)`.
        curves: Of the coverage term; none without.
        curve_base: `(curves, points)` cost of ending at a breakpoint, in units.
        curve_loss: `(curves, points)` what max_loss counts there.
        scales: `(linear,)` what the tables were divided by.
        unit: Objective units per unit.
    """

    problem: AllocationProblem
    rows: Rows
    seconds: FloatArray
    usable: BoolArray
    base: FloatArray
    tables: FloatArray
    limits: FloatArray
    teaches: FloatArray
    share: FloatArray
    curves: Curves
    curve_base: FloatArray
    curve_loss: FloatArray
    scales: FloatArray
    unit: float

    @classmethod
    def of(cls, problem: AllocationProblem) -> Relaxation:
        """Prepares a problem.

        Raises:
            ValueError: If the problem does not say what to minimise.
        """
        rows, term = Rows.of(problem), problem.coverage
        usable, weight = within_deadline(problem), problem.loss_weight
        base = weight * problem.loss
        if problem.switching_seconds is not None:
            base = base + problem.switching_seconds
        if term is None:
            teaches, curves = np.zeros(problem.seconds.shape[1]), Curves.none()
            share = np.zeros((problem.num_clients, 0))
        else:
            teaches, share, curves = term.teaches, term.share, Curves.of(term)
        losses = curves.weights[:, None] * curves.values
        tables, limits, scales = _scaled(problem, rows)
        unit = _range(problem, usable, base, weight * (0.0 if term is None else term.most))
        has_cap = problem.max_loss is not None
        return cls(
            problem=problem,
            rows=rows,
            seconds=problem.seconds,
            usable=usable,
            base=base / unit,
            tables=tables,
            limits=np.concatenate([limits[: len(rows.all)], curves.start, limits[len(rows.all) :]]),
            teaches=teaches,
            share=share,
            curves=curves,
            curve_base=losses * (weight / unit),
            curve_loss=losses / scales[-1] if has_cap else losses * 0.0,
            scales=scales,
            unit=unit,
        )

    def sampled(self, rows: IntArray) -> Relaxation:
        """The same with some of the clients, each standing for as many as are left out.

        Its dual is near the whole one's, and so are the prices at its maximum.
        """
        weight = len(self.base) / len(rows)
        return replace(
            self,
            seconds=self.seconds[rows],
            usable=self.usable[rows],
            base=self.base[rows] * weight,
            tables=self.tables[:, rows] * weight,
            share=self.share[rows] * weight,
        )

    @cached_property
    def num_rows(self) -> int:
        """How many prices are of rows."""
        return len(self.rows.all)

    @property
    def points(self) -> FloatArray:
        """`(points,)` breakpoints of the curves."""
        return self.curves.points

    @property
    def num_curves(self) -> int:
        """How many prices are of curves; they follow the rows'."""
        return len(self.curves.weights)

    @property
    def num_prices(self) -> int:
        """How many prices there are."""
        return len(self.limits)

    @property
    def has_cap(self) -> bool:
        """Whether the last price is that of max_loss."""
        return self.problem.max_loss is not None

    @cached_property
    def of_tables(self) -> IntArray:
        """Where the prices of the tables stand."""
        places = np.arange(self.num_prices)
        return np.delete(places, self.of_curves)

    @property
    def of_curves(self) -> slice:
        """Where the prices of the curves stand."""
        return slice(self.num_rows, self.num_rows + self.num_curves)

    @property
    def table_limits(self) -> FloatArray:
        """`(linear,)` the limits of the tables."""
        return self.limits[self.of_tables]

    @property
    def start(self) -> FloatArray:
        """`(curves,)` what is there without anybody."""
        return self.limits[self.of_curves]

    def time_cost(self, threshold: float) -> float:
        """What a round time costs, in units."""
        return self.problem.time_weight * threshold / self.unit

    def within(self, threshold: float) -> BoolArray:
        """`(clients, strategies)` what is usable within a round time."""
        return self.usable & (self.seconds <= threshold)

    def _split(self, prices: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        """Prices of the tables, of the curves, and of max_loss."""
        cap = float(prices[-1]) if self.has_cap else 0.0
        return prices[self.of_tables], prices[self.of_curves], cap

    def priced(self, prices: FloatArray, rows: slice = slice(None)) -> FloatArray:
        """`(clients, strategies)` costs with the prices, in units, of some clients."""
        of_tables, of_curves, _ = self._split(prices)
        cost = self.base[rows].copy()
        if len(of_tables):
            tables = self.tables[:, rows]
            cost += (of_tables @ tables.reshape(len(of_tables), -1)).reshape(cost.shape)
        if self.num_curves:
            worth = self.share[rows] @ self.curves.of_classes(of_curves)
            cost -= np.multiply.outer(worth, self.teaches)
        return cost

    def curve_priced(self, prices: FloatArray) -> FloatArray:
        """`(curves, points)` costs of the curves' breakpoints with the prices, in units."""
        _, of_curves, cap = self._split(prices)
        return np.asarray(
            self.curve_base + cap * self.curve_loss + np.multiply.outer(of_curves, self.points)
        )

    def constant(self, prices: FloatArray) -> float:
        """What the prices cost at the limits and gain in the curves: all of D but the clients."""
        curves = self.curve_priced(prices)
        return float(curves.min(axis=1).sum() if curves.size else 0.0) - float(prices @ self.limits)

    @property
    def big_parts(self) -> int:
        """Curves and prices: few, and each as weighty as very many clients."""
        return self.num_curves + self.num_prices

    def named(self, prices: FloatArray) -> Prices:
        """The prices in objective units per unit of each limit.

        A curve's is no more than its steepest slope is worth: beyond, the bound does not change.
        """
        of_tables, of_curves, cap = self._split(prices)
        costs = self.curve_base + cap * self.curve_loss
        steepest = np.zeros(self.num_curves)
        if len(self.points) > 1:
            steepest = (costs[:, 0] - costs[:, 1]) / (self.points[1] - self.points[0])
        of_tables, of_curves = of_tables * self.unit, np.minimum(of_curves, steepest) * self.unit
        of_tables = of_tables / self.scales
        return self.rows.prices(
            of_tables[: self.num_rows],
            self.curves.of_classes(of_curves),
            float(of_tables[self.num_rows :].sum()),
        )


def _scaled(problem: AllocationProblem, rows: Rows) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Tables and limits of the rows, and of max_loss at last, divided by their scales."""
    tables = [row.table for row in rows.all]
    limits = [row.limit for row in rows.all]
    if problem.max_loss is not None:
        tables.append(problem.loss)
        limits.append(with_tolerance(problem.max_loss))
    scales = [float(np.abs(table).max(axis=1).sum()) or 1.0 for table in tables]
    divided = np.empty((len(tables), *problem.seconds.shape))
    for k, table in enumerate(tables):
        np.divide(table, scales[k], out=divided[k])
    most = 2 * np.array(scales)
    if problem.max_loss is not None and problem.coverage is not None:
        most[-1] += 2 * max(problem.coverage.unit, problem.coverage.most)
    # A limit that all clients together stay far below is as good as none; dividing may overflow.
    return divided, np.minimum(limits, most) / np.array(scales), np.array(scales)


def _range(
    problem: AllocationProblem, usable: BoolArray, base: FloatArray, coverage: float
) -> float:
    """Largest possible difference of two objectives that can be told, or 1 where there is none."""
    spread = np.where(usable, base, -np.inf).max(axis=1) - np.where(usable, base, np.inf).min(
        axis=1
    )
    slowest = np.where(usable, problem.seconds, 0.0).max()
    # Of a sum far larger than its range, rounding would leave nothing to compare.
    level = _LEVEL * float(np.where(usable, base, np.inf).min(axis=1).sum())
    return max(float(spread.sum() + problem.time_weight * slowest + coverage), level) or 1.0
