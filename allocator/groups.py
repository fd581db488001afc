"""Clients that must do the same are merged into one, and an answer is spread out again.

The merged program is exact: a group takes the slowest of its members' times and the sum of what
else they bring, so no solver has to know about groups.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .arrays import FloatArray, IntArray
from .coverage import Coverage
from .problem import AllocationProblem
from .terms import Budget


@dataclass(frozen=True, eq=False)
class Merged:
    """A problem without groups, and where its clients came from.

    Args:
        problem: The same problem, one client a group; the problem itself if it has no groups.
        row_of: `(clients,)` the merged client that stands for each client.
    """

    problem: AllocationProblem
    row_of: IntArray

    @classmethod
    def of(cls, problem: AllocationProblem) -> Merged:
        """Merges the groups of a problem; a group stands where its first client stood.

        Example:
            >>> problem = AllocationProblem(("fp32",), [[1], [5], [2]], [[.1], [.1], [.1]],
            ...                             tradeoff=1.0, groups=["a", None, "a"])
            >>> merged = Merged.of(problem)
            >>> merged.problem.seconds.tolist(), merged.row_of
            ([[2.0], [5.0]], array([0, 1, 0]))
        """
        rows = np.arange(problem.num_clients)
        if problem.groups is None:
            return cls(problem, rows)
        leader = rows.copy()
        for members in problem.group_rows().values():
            leader[members] = members[0]
        first, row_of = np.unique(leader, return_inverse=True)
        return cls(_merge(problem, first, row_of), row_of.astype(np.int64))

    def spread(self, choice: IntArray) -> IntArray:
        """`(clients,)` the choice of the merged clients, for every client."""
        return np.asarray(choice)[self.row_of]


def _merge(problem: AllocationProblem, first: IntArray, row_of: IntArray) -> AllocationProblem:
    def total(table: FloatArray) -> FloatArray:
        sums = np.zeros((len(first), *table.shape[1:]))
        np.add.at(sums, row_of, table)
        return sums

    slowest = np.zeros((len(first), problem.seconds.shape[1]))
    np.maximum.at(slowest, row_of, problem.seconds)
    allowed = np.ones(slowest.shape, dtype=bool)
    np.logical_and.at(allowed, row_of, problem.allowed)
    term, switching = problem.coverage, problem.switching_seconds
    return replace(
        problem,
        seconds=slowest,
        loss=total(problem.loss),
        allowed=allowed,
        budgets=tuple(Budget(b.resource, total(b.usage), b.limit) for b in problem.budgets),
        coverage=term
        and Coverage(
            total(term.label_counts),
            term.teaches,
            term.loss_curve,
            term.population,
            term.carried,
            term.unevenness_price,
        ),
        num_examples=total(problem.num_examples),
        switching_seconds=None if switching is None else total(switching),
        groups=None,
        members=total(problem.members),
        clients=_names(problem, first, row_of),
    )


def _names(problem: AllocationProblem, first: IntArray, row_of: IntArray) -> tuple[str, ...]:
    """A merged client's name: its own if alone, else the first member's and how many follow."""
    more = np.bincount(row_of) - 1
    return tuple(
        f"{problem.clients[i]} and {k} more of its group" if k else problem.clients[i]
        for i, k in zip(first, more, strict=True)
    )
