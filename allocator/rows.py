"""The linear limits of a problem as rows `sum table[i, s] x[i, s] <= limit`, for every solver.

Budgets, counts, least participation, and the rule that somebody takes part. Round time, deadline
and the loss (which is not linear where coverage counts) are the solvers' own business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import FloatArray, IntArray
from .check import least_with_tolerance, with_tolerance
from .problem import AllocationProblem
from .solution import Prices

_NOTHING = 1e-9  # of the largest entry


@dataclass(frozen=True, eq=False)
class Row:
    """A linear limit; one from below is negated.

    Args:
        table: `(clients, strategies)`.
        limit: The most that the sum may be, tolerance included.
    """

    table: FloatArray
    limit: float

    @property
    def scale(self) -> float:
        """The size of the limit, or of the smallest entry where the limit is 0."""
        return row_size(self.limit, self.table)

    def taken(self, choice: IntArray) -> float:
        """The sum over a choice."""
        return float(self.table[np.arange(len(choice)), choice].sum())


def row_size(limit: float, table: FloatArray) -> float:
    """What a limit is measured in: itself, or the smallest entry where it is all but 0."""
    sizes = np.abs(table[table != 0])
    if not sizes.size:
        return abs(limit) or 1.0
    return abs(limit) if abs(limit) > _NOTHING * float(sizes.max()) else float(sizes.min())


@dataclass(frozen=True, eq=False)
class Rows:
    """All linear limits of a problem, by what they stand for.

    Args:
        budgets: One a budget.
        counts: Per count one for `at_most` and one for `at_least`, where these are given.
        min_participation: None or one.
        somebody: None or one.
    """

    budgets: tuple[Row, ...]
    counts: tuple[tuple[Row, ...], ...]
    min_participation: tuple[Row, ...]
    somebody: tuple[Row, ...]

    @classmethod
    def of(cls, problem: AllocationProblem) -> Rows:
        """The rows of a problem without groups.

        Example:
            >>> problem = AllocationProblem(("skip", "fp32"), [[0, 2]], [[1, 0]], 1.0)
            >>> [(row.table.tolist(), row.limit) for row in Rows.of(problem).all]
            [([[-0.0, -1.0]], -1.0)]
        """
        takes_part = np.broadcast_to(problem.participates.astype(float), problem.seconds.shape)
        least, shares = problem.min_participation, problem.example_shares[:, None]
        return cls(
            budgets=tuple(Row(b.usage, with_tolerance(b.limit)) for b in problem.budgets),
            counts=tuple(tuple(_count_rows(problem, k)) for k in range(len(problem.counts))),
            min_participation=(Row(-shares * takes_part, -least_with_tolerance(least)),)
            if least > 0
            else (),
            somebody=() if problem.participates.all() else (Row(-takes_part, -1.0),),
        )

    @property
    def all(self) -> tuple[Row, ...]:
        """Every row, in the order of the fields."""
        counts = tuple(row for rows in self.counts for row in rows)
        return (*self.budgets, *counts, *self.min_participation, *self.somebody)

    def prices(self, rows: FloatArray, coverage: FloatArray, max_loss: float) -> Prices:
        """Prices by what they are for, from those of `all`, the classes and the loss."""
        values = iter(rows.tolist())
        return Prices(
            budgets=np.array([next(values) for _ in self.budgets]),
            counts=np.array([sum(next(values) for _ in pair) for pair in self.counts]),
            coverage=coverage,
            max_loss=max_loss,
            min_participation=sum(next(values) for _ in self.min_participation),
        )


def _count_rows(problem: AllocationProblem, k: int) -> list[Row]:
    count = problem.counts[k]
    table = np.outer(problem.members, count.columns(problem.strategies).astype(float))
    rows = []
    if count.at_most is not None:
        rows.append(Row(table, with_tolerance(count.at_most)))
    if count.at_least > 0:
        rows.append(Row(-table, -least_with_tolerance(count.at_least)))
    return rows
