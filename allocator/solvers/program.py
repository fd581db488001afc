"""The whole program as a mixed-integer linear program: encoding, decoding, and HiGHS by SciPy.

Columns: x[i, s] (binary), T, and per class its coverage and loss, the latter above every segment of
the convex curve. HiGHS may miss a row by an absolute 1e-6, so T is measured in thousandths of the
slowest usable choice, coverage in thousandths, class losses in thousandths of phi(0), and a limit's
row in thousandths of the limit: an error is then 1e-9 of what it is about.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, sparse

from ..arrays import BoolArray, FloatArray, IntArray
from ..check import least_with_tolerance, with_tolerance, within_deadline
from ..coverage import Coverage
from ..problem import AllocationProblem

COST_RANGE = 1e3
"""Most that a column may cost: HiGHS stops at an absolute gap of 1e-6, costs must be far above."""

ROW_RANGE = 1e3
"""What the largest value of a continuous column, and the limit of a row, is scaled to."""

OPTIMAL, INFEASIBLE = 0, 2
"""SciPy's statuses of a proof; every other one is none."""

_NO_NODE_LIMIT = 2**31 - 1  # what HiGHS takes for "unlimited"


@dataclass(frozen=True, eq=False)
class Program:
    """The encoded program: `min cost v` with `a_ub v <= b_ub`, `a_eq v = b_eq`, `0 <= v <= upper`.

    Args:
        cost: `(columns,)` divided by `unit`.
        a_ub: `(inequalities, columns)` sparse, in the blocks of `blocks`.
        b_ub: `(inequalities,)`.
        a_eq: `(equalities, columns)` sparse: one strategy a client, then the coverage of classes.
        b_eq: `(equalities,)`.
        upper: `(columns,)`.
        blocks: Where each kind of inequality stands, and by what its rows were divided.
        shape: (clients, strategies); the first columns are the binaries, client by client.
        unit: Objective units per unit of `cost`.
        time_unit: Seconds per unit of the column T.
    """

    cost: FloatArray
    a_ub: sparse.csr_array
    b_ub: FloatArray
    a_eq: sparse.csr_array
    b_eq: FloatArray
    upper: FloatArray
    blocks: dict[str, tuple[slice, FloatArray]]
    shape: tuple[int, int]
    unit: float
    time_unit: float

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
        columns = Columns.of(problem)
        time_unit = (float(problem.seconds[usable].max()) or 1.0) / ROW_RANGE
        rows = _inequalities(problem, columns, time_unit)
        blocks, start = {}, 0
        for name, matrix, _, scale in rows:
            blocks[name] = (slice(start, start + matrix.shape[0]), scale)
            start += matrix.shape[0]
        a_eq, b_eq = _equalities(problem, columns)
        upper = np.full(columns.total, np.inf)
        upper[: columns.time] = usable.ravel()
        return cls(
            cost=np.zeros(columns.total),
            a_ub=sparse.csr_array(sparse.vstack([matrix for _, matrix, _, _ in rows])),
            b_ub=np.concatenate([limits for _, _, limits, _ in rows]),
            a_eq=a_eq,
            b_eq=b_eq,
            upper=upper,
            blocks=blocks,
            shape=(problem.num_clients, len(problem.strategies)),
            unit=1.0,
            time_unit=time_unit,
        )

    def minimising(self, cost: FloatArray) -> Program:
        """The same limits with a `(columns,)` cost, which is scaled for HiGHS."""
        usable = np.where(self.upper > 0, cost, 0.0)
        most = np.abs(usable) * np.where(np.isinf(self.upper), ROW_RANGE, 1.0)
        unit = float(most.max()) / COST_RANGE or 1.0
        return replace(self, cost=usable / unit, unit=unit)

    def restricted_to(self, usable: BoolArray) -> Program:
        """The same program with fewer `(clients, strategies)` usable choices."""
        upper = self.upper.copy()
        upper[: usable.size] = np.where(usable.ravel(), upper[: usable.size], 0.0)
        return replace(self, upper=upper)

    def binaries(self, table: FloatArray) -> FloatArray:
        """`(columns,)` a `(clients, strategies)` table as the cost of the binaries."""
        cost = np.zeros(len(self.cost))
        cost[: table.size] = table.ravel()
        return cost

    def round_seconds(self) -> FloatArray:
        """`(columns,)` the round time as a cost."""
        cost = np.zeros(len(self.cost))
        cost[self.shape[0] * self.shape[1]] = self.time_unit
        return cost

    def loss(self, problem: AllocationProblem) -> FloatArray:
        """`(columns,)` the loss L as a cost."""
        cost = self.binaries(problem.loss)
        if problem.coverage is not None:
            weights = _class_costs(problem.coverage)
            cost[-len(weights) :] = weights
        return cost

    def minimise(
        self,
        gap: float = 0.0,
        time_limit_seconds: float | None = None,
        node_limit: int | None = None,
        relaxed: bool = False,
    ) -> optimize.OptimizeResult:
        """Hands the mixed-integer program, or its linear relaxation, to HiGHS."""
        integrality = np.zeros(len(self.cost), dtype=np.int64)
        integrality[: self.shape[0] * self.shape[1]] = not relaxed
        return optimize.milp(
            self.cost,
            integrality=integrality,
            bounds=optimize.Bounds(np.zeros(len(self.cost)), self.upper),
            constraints=[
                optimize.LinearConstraint(self.a_ub, -np.inf, self.b_ub),
                optimize.LinearConstraint(self.a_eq, self.b_eq, self.b_eq),
            ],
            options={
                "mip_rel_gap": gap,
                "time_limit": np.inf if time_limit_seconds is None else time_limit_seconds,
                "node_limit": _NO_NODE_LIMIT if node_limit is None else node_limit,
            },
        )

    def decode(self, values: FloatArray) -> IntArray:
        """`(clients,)` the strategy that each client's binaries name."""
        table = values[: self.shape[0] * self.shape[1]].reshape(self.shape)
        return np.asarray(table.argmax(axis=1), dtype=np.int64)

    def bound(self, scaled: float | None) -> float:
        """HiGHS' dual bound in objective units; -inf where it has none."""
        return -np.inf if scaled is None or not np.isfinite(scaled) else float(scaled) * self.unit


@dataclass(frozen=True)
class Columns:
    """Where the columns stand: the binaries, then T, then per class coverage and loss."""

    time: int
    num_classes: int

    @classmethod
    def of(cls, problem: AllocationProblem) -> Columns:
        """The columns of a problem."""
        num_classes = 0 if problem.coverage is None else len(problem.coverage.population)
        return cls(problem.seconds.size, num_classes)

    @property
    def total(self) -> int:
        """How many columns there are."""
        return self.time + 1 + 2 * self.num_classes

    def rows(
        self, binaries: FloatArray | sparse.csr_array, rest: dict[int, FloatArray] | None = None
    ) -> sparse.csr_array:
        """Rows from the binaries' part and some of the other columns, counted from T."""
        left = sparse.csr_array(binaries)
        right = np.zeros((left.shape[0], self.total - self.time))
        for column, values in (rest or {}).items():
            right[:, column] = values
        return sparse.csr_array(sparse.hstack([left, sparse.csr_array(right)]))

    def coverage(self, c: int) -> int:
        """The column of a class's coverage, counted from T."""
        return 1 + c

    def loss(self, c: int) -> int:
        """The column of a class's loss, counted from T."""
        return 1 + self.num_classes + c


_Block = tuple[str, sparse.csr_array, FloatArray, FloatArray]


def row_scale(limit: float, table: FloatArray) -> float:
    """What a limit's row is divided by, so that what HiGHS may miss it by is 1e-9 of the limit."""
    positive = table[table > 0]
    return (limit or (float(positive.min()) if positive.size else 1.0)) / ROW_RANGE


def loss_scale(problem: AllocationProblem, max_loss: float) -> float:
    """What the row of `max_loss` is divided by."""
    if (term := problem.coverage) is None:
        return row_scale(max_loss, problem.loss)
    return row_scale(max_loss, np.append(problem.loss, term.class_weights * term.unit))


def _class_costs(term: Coverage) -> FloatArray:
    """`(classes,)` the loss L per unit of each class-loss column."""
    return np.asarray(term.class_weights * (term.unit / ROW_RANGE))


def _inequalities(problem: AllocationProblem, columns: Columns, time_unit: float) -> list[_Block]:
    """Blocks of (name, rows, limits, what the rows were divided by)."""
    n, k = problem.seconds.shape
    own = sparse.csr_array(
        (problem.seconds.ravel() / time_unit, np.arange(n * k), np.arange(0, n * k + 1, k)),
        shape=(n, n * k),
    )
    takes_part = np.tile(problem.participates, n).astype(float)
    return [
        ("time", columns.rows(own, {0: np.full(n, -1.0)}), np.zeros(n), np.ones(n)),
        ("budgets", *_budgets(problem, columns)),
        ("max_loss", *_max_loss(problem, columns)),
        ("min_participation", *_min_participation(problem, columns)),
        ("someone", columns.rows(-takes_part[None]), -np.ones(1), np.ones(1)),
        *_curve(problem, columns),
    ]


_Rows = tuple[sparse.csr_array, FloatArray, FloatArray]


def _budgets(problem: AllocationProblem, columns: Columns) -> _Rows:
    limits = np.array([with_tolerance(b.limit) for b in problem.budgets])
    scale = np.array([row_scale(b.limit, b.usage) for b in problem.budgets])
    usage = np.array([b.usage.ravel() for b in problem.budgets])
    rows = usage.reshape(len(limits), problem.seconds.size) / scale[:, None]
    return columns.rows(rows), limits / scale, scale


def _max_loss(problem: AllocationProblem, columns: Columns) -> _Rows:
    if problem.max_loss is None:
        return columns.rows(np.zeros((0, columns.time))), np.zeros(0), np.zeros(0)
    scale = loss_scale(problem, problem.max_loss)
    rest = {}
    if problem.coverage is not None:
        weights = _class_costs(problem.coverage) / scale
        rest = {columns.loss(c): w[None] for c, w in enumerate(weights)}
    row = columns.rows(problem.loss.reshape(1, -1) / scale, rest)
    return row, np.array([with_tolerance(problem.max_loss) / scale]), np.array([scale])


def _min_participation(problem: AllocationProblem, columns: Columns) -> _Rows:
    shares = problem.example_shares[:, None] * problem.participates
    scale = row_scale(problem.min_participation, shares)
    row = columns.rows(-shares.reshape(1, -1) / scale)
    least = least_with_tolerance(problem.min_participation)
    return row, np.array([-least / scale]), np.array([scale])


def _curve(problem: AllocationProblem, columns: Columns) -> list[_Block]:
    """One row a class and segment: the class's loss lies above the segment's line."""
    if problem.coverage is None:
        return []
    slopes, offsets = (line / problem.coverage.unit for line in problem.coverage.lines)
    nothing = np.zeros((len(slopes), columns.time))
    ones = np.ones(len(slopes))
    return [
        (
            f"curve {c}",
            columns.rows(nothing, {columns.coverage(c): slopes, columns.loss(c): -ones}),
            -offsets * ROW_RANGE,
            ones,
        )
        for c in range(columns.num_classes)
    ]


def _equalities(
    problem: AllocationProblem, columns: Columns
) -> tuple[sparse.csr_array, FloatArray]:
    n, k = problem.seconds.shape
    one_each = columns.rows(sparse.csr_array(sparse.kron(sparse.eye_array(n), np.ones((1, k)))))
    if problem.coverage is None:
        return one_each, np.ones(n)
    term = problem.coverage
    taught = np.einsum("ic,s->cis", term.share, term.teaches).reshape(columns.num_classes, n * k)
    rest = {columns.coverage(c): row for c, row in enumerate(np.eye(columns.num_classes))}
    covered = columns.rows(-ROW_RANGE * taught, rest)
    rows = sparse.csr_array(sparse.vstack([one_each, covered]))
    return rows, np.concatenate([np.ones(n), ROW_RANGE * term.carried])
