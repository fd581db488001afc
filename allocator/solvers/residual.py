"""What prices leave open at one round time, as a small mixed-integer program for HiGHS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # loads `scipy.sparse`, which takes 100 ms, when it is first used

from ..arrays import BoolArray, FloatArray, IntArray
from ..errors import SolverError
from ..rows import row_size
from .highs import Found, HighsSettings, LinearProgram, minimise
from .relaxation import Relaxation

_COST_RANGE = 1e3  # most that a column costs: HiGHS stops at an absolute gap of 1e-6
_TOLERANCE = 1e-9
_CONTRADICTION = 1e-3  # by so much a bound may not exceed what the answer costs
_ROW_RANGE = 1e3  # what a row's limit is scaled to: HiGHS may miss a row by 1e-6


@dataclass(frozen=True, eq=False)
class Residual:
    """The clients that still have a choice; the others are fixed.

    Columns: the open choices (binary), then per curve its sum and its part of the value at 0.

    Args:
        choice: `(clients,)` of the fixed ones; all of them where nothing is open.
        clients: `(open,)` the client of each binary.
        strategies: `(open,)` its strategy.
        linear: The program.
        unit: Cost in the relaxation's units per cost of the program.
        fixed: Cost of the fixed choices, in the relaxation's units.
    """

    choice: IntArray
    clients: IntArray
    strategies: IntArray
    linear: LinearProgram
    unit: float
    fixed: float

    @classmethod
    def of(cls, relaxation: Relaxation, choice: IntArray, open_choices: BoolArray) -> Residual:
        """Builds the program.

        Args:
            relaxation: The priced problem.
            choice: `(clients,)` what those without an open choice do.
            open_choices: `(clients, strategies)`; none or one is no choice.
        """
        is_fixed = open_choices.sum(axis=1) < 2
        choice = np.where(open_choices.sum(axis=1) == 1, open_choices.argmax(axis=1), choice)
        clients, strategies = np.nonzero(open_choices & ~is_fixed[:, None])
        rows = np.flatnonzero(is_fixed)
        taken = relaxation.tables[:, rows, choice[rows]].sum(axis=1)
        covered = relaxation.teaches[choice[rows]] @ relaxation.share[rows]
        cost = relaxation.base[clients, strategies]
        curves = relaxation.curve_base[:, 0] if relaxation.num_curves else np.zeros(0)
        unit = max(float(np.append(cost, curves / _ROW_RANGE).max(initial=0.0)), 1e-300)
        unit = max(unit, float(curves.max(initial=0.0))) / _COST_RANGE
        linear = _Builder(relaxation, clients, strategies).program(
            np.concatenate([cost, 0 * curves, curves / _ROW_RANGE]) / unit, taken, covered
        )
        fixed = float(relaxation.base[rows, choice[rows]].sum())
        return cls(choice, clients, strategies, linear, unit, fixed)

    @property
    def num_open(self) -> int:
        """How many binaries there are."""
        return len(self.clients)

    def solve(
        self,
        cutoff: float,
        slack: float,
        time_limit_seconds: float | None,
        node_limit: int | None,
    ) -> tuple[Found, IntArray | None]:
        """Looks for a choice that costs less than the cutoff.

        Args:
            cutoff: In the relaxation's units, without time.
            slack: Stops when no choice is better by more than this, in the same units.
            time_limit_seconds: Of HiGHS.
            node_limit: Of HiGHS.

        Returns:
            What HiGHS found, its bound in units, and the choice of all clients, if any.

        Raises:
            SolverError: If HiGHS breaks down or contradicts itself.
        """
        settings = HighsSettings(
            absolute_gap=slack / self.unit,
            time_limit_seconds=time_limit_seconds,
            node_limit=node_limit,
            tolerance=_TOLERANCE,
            cutoff=(cutoff - self.fixed) / self.unit,
        )
        found = minimise(self.linear, settings)
        if found.values is None:
            return found, None
        if found.bound > float(self.linear.cost @ found.values) + _CONTRADICTION:
            raise SolverError("HiGHS claims a bound above the cost of its own answer.")
        choice = self.choice.copy()
        chosen = np.flatnonzero(found.values[: self.num_open] > 0.5)
        choice[self.clients[chosen]] = self.strategies[chosen]
        return found, choice

    def bound(self, found: Found) -> float:
        """What HiGHS proves, in the relaxation's units and without time."""
        return found.bound * self.unit + self.fixed


class _Builder:
    """Puts the rows together."""

    def __init__(self, relaxation: Relaxation, clients: IntArray, strategies: IntArray) -> None:
        self._relaxation = relaxation
        self._clients, self._strategies = clients, strategies
        self._num_curves = relaxation.num_curves
        self._total = len(clients) + 2 * self._num_curves

    def program(self, cost: FloatArray, taken: FloatArray, covered: FloatArray) -> LinearProgram:
        """The program, from the columns' cost and what the fixed clients take and cover."""
        binaries = len(self._clients)
        limits, limit_values = self._limits(taken)
        curves, curve_values = self._curves()
        one_each, ones = self._one_each()
        coverage, carried = self._coverage(covered)
        upper = np.full(self._total, np.inf)
        upper[:binaries] = 1.0
        return LinearProgram(
            cost=cost,
            rows=scipy.sparse.csr_array(scipy.sparse.vstack([limits, curves])),
            limits=np.concatenate([limit_values, curve_values]),
            equalities=scipy.sparse.csr_array(scipy.sparse.vstack([one_each, coverage])),
            right=np.concatenate([ones, carried]),
            lower=np.zeros(self._total),
            upper=upper,
            whole=np.arange(self._total) < binaries,
        )

    def _rows(
        self, left: FloatArray | scipy.sparse.csr_array, right: FloatArray
    ) -> scipy.sparse.csr_array:
        return scipy.sparse.csr_array(
            scipy.sparse.hstack([scipy.sparse.csr_array(left), scipy.sparse.csr_array(right)])
        )

    def _limits(self, taken: FloatArray) -> tuple[scipy.sparse.csr_array, FloatArray]:
        relaxation, c = self._relaxation, self._num_curves
        limits = relaxation.table_limits
        tables = relaxation.tables[:, self._clients, self._strategies]
        rest = np.zeros((len(limits), 2 * c))
        if relaxation.has_cap and c:
            rest[-1, c:] = relaxation.curve_loss[:, 0] / _ROW_RANGE
        sizes = np.array([row_size(x, t) for x, t in zip(limits, relaxation.tables, strict=True)])
        scale = _ROW_RANGE / sizes.reshape(-1, 1)
        return self._rows(tables * scale, rest * scale), (limits - taken) * scale[:, 0]

    def _curves(self) -> tuple[scipy.sparse.csr_array, FloatArray]:
        """Each curve's part of its value at 0 lies above every segment."""
        curves, c = self._relaxation.curves, self._num_curves
        units = np.where(curves.values[:, :1] > 0, curves.values[:, :1], 1.0)
        slopes, offsets = (line / units for line in curves.lines)
        lines = slopes.shape[1]
        right = np.zeros((c * lines, 2 * c))
        for k in range(c):
            rows = slice(k * lines, (k + 1) * lines)
            right[rows, k], right[rows, c + k] = slopes[k], -1.0
        left = scipy.sparse.csr_array((len(right), len(self._clients)))
        return self._rows(left, right), -offsets.ravel() * _ROW_RANGE

    def _one_each(self) -> tuple[scipy.sparse.csr_array, FloatArray]:
        binaries = len(self._clients)
        first, place = np.unique(self._clients, return_inverse=True)
        left = scipy.sparse.csr_array(
            (np.ones(binaries), (place, np.arange(binaries))), shape=(len(first), binaries)
        )
        return self._rows(left, np.zeros((len(first), 2 * self._num_curves))), np.ones(len(first))

    def _coverage(self, covered: FloatArray) -> tuple[scipy.sparse.csr_array, FloatArray]:
        relaxation, c = self._relaxation, self._num_curves
        teaches, moved = relaxation.teaches[self._strategies][:, None], relaxation.curves.moved
        left = -_ROW_RANGE * moved(teaches * relaxation.share[self._clients]).T
        right = np.hstack([np.eye(c), np.zeros((c, c))])
        return self._rows(left, right), _ROW_RANGE * (relaxation.start + moved(covered))
