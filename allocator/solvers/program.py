"""The whole program as a mixed-integer linear program for HiGHS: encoding and decoding.

Columns: x[i, s] (binary), T, and per class its coverage and loss, the latter above every segment of
the convex curve, and where unevenness has a price by how much it lags behind. HiGHS may miss a row
by an absolute 1e-6, so T is measured in thousandths of the slowest usable choice, coverage and lags
in thousandths, class losses in thousandths of phi(0), and a limit's row in thousandths of the
limit: an error is then 1e-9 of what it is about.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import scipy  # loads `scipy.sparse`, which takes 100 ms, when it is first used

from ..arrays import FloatArray, IntArray
from ..check import with_tolerance, within_deadline
from ..coverage import Coverage
from ..problem import AllocationProblem
from ..rows import Row, Rows, row_size
from ..solution import Prices
from .highs import Found, HighsSettings, LinearProgram, minimise

COST_RANGE = 1e3
"""Most that a column may cost: HiGHS stops at an absolute gap of 1e-6, costs must be far above."""

ROW_RANGE = 1e3
"""What the largest value of a continuous column, and the limit of a row, is scaled to."""


@dataclass(frozen=True, eq=False)
class Program:
    """The encoded program.

    Inequalities stand in this order: own times below T, the limits of `rows`, `max_loss`, curves,
    lags; equalities: one strategy a client, then the coverage of classes.

    Args:
        linear: Columns and rows, scaled; its cost is divided by `unit`.
        rows: The linear limits of the problem.
        loss_scales: What the rows of `max_loss` were divided by: one or none.
        shape: (clients, strategies); the first columns are the binaries, client by client.
        unit: Objective units per unit of cost.
        time_unit: Seconds per unit of the column T.
        has_unevenness: Whether it has columns of lags; coverage may then have prices below 0.
    """

    linear: LinearProgram
    rows: Rows
    loss_scales: tuple[float, ...]
    shape: tuple[int, int]
    unit: float
    time_unit: float
    has_unevenness: bool

    @classmethod
    def of(cls, problem: AllocationProblem) -> Program | None:
        """Encodes a problem; None if a client can do nothing before the deadline.

        Raises:
            ValueError: If the problem does not say what to minimise.
        """
        weights = problem.time_weight, problem.loss_weight
        program = cls.feasible_set(problem)
        if program is None:
            return None
        cost = weights[0] * program.round_seconds() + weights[1] * program.loss(problem)
        if problem.switching_seconds is not None:
            cost += program.binaries(problem.switching_seconds)
        return program.minimising(cost)

    @classmethod
    def feasible_set(cls, problem: AllocationProblem) -> Program | None:
        """Encodes the limits of a problem, with nothing to minimise; None as above."""
        usable = within_deadline(problem)
        if not usable.any(axis=1).all():
            return None
        columns, rows = Columns.of(problem), Rows.of(problem)
        time_unit = (float(problem.seconds[usable].max()) or 1.0) / ROW_RANGE
        loss_scales = () if problem.max_loss is None else (loss_scale(problem, problem.max_loss),)
        blocks = [
            _own_times(problem, columns, time_unit),
            _linear_limits(rows, columns),
            *(_max_loss(problem, columns, scale) for scale in loss_scales),
            *_curves(problem, columns),
            *_lags(problem, columns),
        ]
        equalities, right = _equalities(problem, columns)
        upper = np.full(columns.total, np.inf)
        upper[: columns.time] = usable.ravel()
        linear = LinearProgram(
            cost=np.zeros(columns.total),
            rows=scipy.sparse.csr_array(scipy.sparse.vstack([matrix for matrix, _ in blocks])),
            limits=np.concatenate([limits for _, limits in blocks]),
            equalities=equalities,
            right=right,
            lower=np.zeros(columns.total),
            upper=upper,
            whole=np.arange(columns.total) < columns.time,
        )
        shape, uneven = problem.seconds.shape, columns.has_lags
        return cls(linear, rows, loss_scales, shape, 1.0, time_unit, uneven)

    def minimising(self, cost: FloatArray) -> Program:
        """The same limits with a `(columns,)` cost, which is scaled for HiGHS."""
        upper = self.linear.upper
        usable = np.where(upper > 0, cost, 0.0)
        most = np.abs(usable) * np.where(np.isinf(upper), ROW_RANGE, 1.0)
        unit = float(most.max()) / COST_RANGE or 1.0
        return replace(self, linear=replace(self.linear, cost=usable / unit), unit=unit)

    def relaxed(self) -> Program:
        """The linear relaxation."""
        whole = np.zeros_like(self.linear.whole)
        return replace(self, linear=replace(self.linear, whole=whole))

    def binaries(self, table: FloatArray) -> FloatArray:
        """`(columns,)` a `(clients, strategies)` table as the cost of the binaries."""
        cost = np.zeros(len(self.linear.cost))
        cost[: table.size] = table.ravel()
        return cost

    def round_seconds(self) -> FloatArray:
        """`(columns,)` the round time as a cost."""
        cost = np.zeros(len(self.linear.cost))
        cost[self.shape[0] * self.shape[1]] = self.time_unit
        return cost

    def loss(self, problem: AllocationProblem) -> FloatArray:
        """`(columns,)` the loss L as a cost."""
        cost = self.binaries(problem.loss)
        if problem.coverage is not None:
            weights = _class_costs(problem.coverage)
            cost[-len(weights) :] = weights
        return cost

    def minimise(self, settings: HighsSettings) -> Found:
        """Hands the program to HiGHS; the bound of what it found is in objective units."""
        found = minimise(self.linear, settings)
        return replace(found, bound=found.bound * self.unit)

    def decode(self, values: FloatArray) -> IntArray:
        """`(clients,)` the strategy that each client's binaries name."""
        table = values[: self.shape[0] * self.shape[1]].reshape(self.shape)
        return np.asarray(table.argmax(axis=1), dtype=np.int64)

    def prices(self, found: Found) -> Prices:
        """Shadow prices of the linear relaxation, from what HiGHS found of it."""
        of_rows = found.row_prices[self.shape[0] :] * self.unit
        limits = self.rows.all
        scales = np.array([row_scale(row) for row in limits])
        after = of_rows[len(limits) :]
        classes = found.equality_prices[self.shape[0] :]
        if not self.has_unevenness:
            classes = np.maximum(classes, 0.0)
        return self.rows.prices(
            of_rows[: len(limits)] / scales if limits else np.zeros(0),
            coverage=classes * (self.unit * ROW_RANGE),
            max_loss=sum(after[k] / scale for k, scale in enumerate(self.loss_scales)),
        )


@dataclass(frozen=True)
class Columns:
    """Where the columns stand: the binaries, then T, then per class coverage, loss, and lag."""

    time: int
    num_classes: int
    has_lags: bool

    @classmethod
    def of(cls, problem: AllocationProblem) -> Columns:
        """The columns of a problem."""
        if (term := problem.coverage) is None:
            return cls(problem.seconds.size, 0, False)
        return cls(problem.seconds.size, len(term.population), term.has_unevenness)

    @property
    def total(self) -> int:
        """How many columns there are."""
        return self.time + 1 + (2 + self.has_lags) * self.num_classes

    def rows(
        self,
        binaries: FloatArray | scipy.sparse.csr_array,
        rest: dict[int, FloatArray] | None = None,
    ) -> scipy.sparse.csr_array:
        """Rows from the binaries' part and some of the other columns, counted from T."""
        left = scipy.sparse.csr_array(binaries)
        right = np.zeros((left.shape[0], self.total - self.time))
        for column, values in (rest or {}).items():
            right[:, column] = values
        return scipy.sparse.csr_array(scipy.sparse.hstack([left, scipy.sparse.csr_array(right)]))

    def coverage(self, c: int) -> int:
        """The column of a class's coverage, counted from T."""
        return 1 + c

    def loss(self, c: int) -> int:
        """The column of a class's loss, counted from T."""
        return 1 + self.num_classes + c

    def lag(self, c: int) -> int:
        """The column of how much a class lags behind the share, counted from T."""
        return 1 + 2 * self.num_classes + c


_Block: TypeAlias = "tuple[scipy.sparse.csr_array, FloatArray]"


def row_scale(row: Row) -> float:
    """What a row is divided by, so that what HiGHS may miss it by is 1e-9 of the limit."""
    return row.scale / ROW_RANGE


def loss_scale(problem: AllocationProblem, max_loss: float) -> float:
    """What the row of `max_loss` is divided by."""
    sizes = problem.loss
    if (term := problem.coverage) is not None:
        sizes = np.append(sizes, term.class_weights * term.unit)
        if term.has_unevenness:
            sizes = np.append(sizes, term.class_weights * term.unevenness_price)
    return row_size(max_loss, sizes) / ROW_RANGE


def _class_costs(term: Coverage) -> FloatArray:
    """The loss L per unit of each class' loss column, then of each lag column where there are."""
    losses = term.class_weights * (term.unit / ROW_RANGE)
    if not term.has_unevenness:
        return np.asarray(losses)
    return np.append(losses, term.class_weights * (term.unevenness_price / ROW_RANGE))


def _own_times(problem: AllocationProblem, columns: Columns, time_unit: float) -> _Block:
    n, k = problem.seconds.shape
    own = scipy.sparse.csr_array(
        (problem.seconds.ravel() / time_unit, np.arange(n * k), np.arange(0, n * k + 1, k)),
        shape=(n, n * k),
    )
    return columns.rows(own, {0: np.full(n, -1.0)}), np.zeros(n)


def _linear_limits(rows: Rows, columns: Columns) -> _Block:
    scales = np.array([row_scale(row) for row in rows.all])
    tables = np.array([row.table.ravel() for row in rows.all]).reshape(len(scales), columns.time)
    limits = np.array([row.limit for row in rows.all])
    return columns.rows(tables / scales[:, None]), limits / scales


def _max_loss(problem: AllocationProblem, columns: Columns, scale: float) -> _Block:
    rest = {}
    if problem.coverage is not None:
        weights = _class_costs(problem.coverage) / scale
        rest = {columns.loss(c): w[None] for c, w in enumerate(weights)}  # lags stand after losses
    row = columns.rows(problem.loss.reshape(1, -1) / scale, rest)
    return row, np.array([with_tolerance(problem.max_loss or 0.0) / scale])


def _curves(problem: AllocationProblem, columns: Columns) -> list[_Block]:
    """One row a class and segment: the class's loss lies above the segment's line."""
    if problem.coverage is None:
        return []
    slopes, offsets = (line / problem.coverage.unit for line in problem.coverage.lines)
    nothing = np.zeros((len(slopes), columns.time))
    above = -np.ones(len(slopes))
    return [
        (
            columns.rows(nothing, {columns.coverage(c): slopes, columns.loss(c): above}),
            -offsets * ROW_RANGE,
        )
        for c in range(columns.num_classes)
    ]


def _lags(problem: AllocationProblem, columns: Columns) -> list[_Block]:
    """One row a class: what it lags behind is at least the share of all less its coverage."""
    if problem.coverage is None or not columns.has_lags:
        return []
    weights, classes = problem.coverage.class_weights, range(columns.num_classes)
    behind = weights - np.eye(len(weights))  # (classes, classes) share less coverage
    rest = {columns.coverage(c): behind[:, c] for c in classes}
    rest |= {columns.lag(c): -np.eye(len(weights))[c] for c in classes}
    nothing = scipy.sparse.csr_array((len(weights), columns.time))
    return [(columns.rows(nothing, rest), np.zeros(len(weights)))]


def _equalities(problem: AllocationProblem, columns: Columns) -> _Block:
    n, k = problem.seconds.shape
    one_each = columns.rows(
        scipy.sparse.csr_array(scipy.sparse.kron(scipy.sparse.eye_array(n), np.ones((1, k))))
    )
    if problem.coverage is None:
        return one_each, np.ones(n)
    term = problem.coverage
    taught = np.einsum("ic,s->cis", term.share, term.teaches).reshape(columns.num_classes, n * k)
    rest = {columns.coverage(c): row for c, row in enumerate(np.eye(columns.num_classes))}
    covered = columns.rows(-ROW_RANGE * taught, rest)
    rows = scipy.sparse.csr_array(scipy.sparse.vstack([one_each, covered]))
    return rows, np.concatenate([np.ones(n), ROW_RANGE * term.carried])
