"""Cells judged against each other: what is best known of a problem, and whose claims that refutes.

`solve` checks an answer against its problem; only an ablation can check proofs against each other.
A bound above the objective of somebody else's verified allocation is wrong, and so is a claim that
no allocation exists where somebody else found one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from .record import Cell

NEAR = 1e-4
"""How far an objective may be from the best known, relative to it, to count as near ..."""
SAME = 1e-6
"""... and to count as the same, which is also how far solvers' own tolerances may move it."""

LATE = 1.1
"""An answer counts if its call took at most this multiple of the time limit."""

_FLOOR = 1e-9  # of an objective that something is relative to


class Criterion(StrEnum):
    """When a problem counts as solved within the time limit.

    To prove rightly that it has no allocation always does.
    """

    PROVEN = "proven optimal"
    """The allocation is verified and proven best."""
    NEAR = "within 1e-4 of the best known"
    """The allocation is verified and near the best that anybody found, proven or not."""
    ANSWERED = "any verified allocation"
    """The allocation is verified, however good it is."""


@dataclass(frozen=True)
class Reference:
    """What all cells of a problem together know of it.

    Args:
        problem: Its name.
        objective: The least of all verified allocations; None without one.
        bound: The highest that no verified allocation refutes; -inf where nobody proved any.
        is_infeasible: Whether somebody proved that no allocation exists, and nobody found one.
    """

    problem: str
    objective: float | None
    bound: float
    is_infeasible: bool

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> Reference:
        """That of the cells of one problem, of all solvers and limits."""
        found = [cell.objective for cell in cells if cell.objective is not None and cell.verified]
        objective = min(found, default=None)
        claims = [claimed_bound(cell) for cell in cells]
        standing = [b for b in claims if objective is None or not _is_above(b, objective)]
        none_exists = objective is None and any(cell.outcome == "infeasible" for cell in cells)
        return cls(cells[0].problem, objective, max(standing, default=-np.inf), none_exists)

    @property
    def is_proven(self) -> bool:
        """Whether it is settled: the best known is proven best, or no allocation exists."""
        if self.objective is None:
            return self.is_infeasible
        return self.excess(self.objective) - self.excess(self.bound) <= SAME

    def excess(self, objective: float) -> float:
        """How far an objective is above the best known, relative to that.

        Raises:
            ValueError: If nobody found an allocation.

        Example:
            >>> Reference("p", 2.0, 1.0, False).excess(2.5)
            0.25
        """
        if self.objective is None:
            raise ValueError(
                f"`{self.problem}` must have a verified allocation to compare with, but has none."
            )
        return (objective - self.objective) / max(abs(self.objective), _FLOOR)


@dataclass(frozen=True)
class Judged:
    """A cell, and what the others say of it.

    Args:
        cell: The cell.
        reference: Of its problem.
        same_clients: Share of clients that do the same as in other solvers' allocations of the same
            problem and limit, on average over those; only among solvers whose objective is the best
            known, so that what differs are ties. None where there is no other, or no choice noted.
    """

    cell: Cell
    reference: Reference
    same_clients: float | None

    @property
    def has_allocation(self) -> bool:
        """Whether it found an allocation that keeps every limit."""
        return self.cell.objective is not None and bool(self.cell.verified)

    @property
    def is_late(self) -> bool:
        """Whether it brought an answer, but after its time limit: that counts for nothing."""
        answered = self.has_allocation or self.cell.outcome == "infeasible"
        return answered and self.cell.seconds["total"] > LATE * self.cell.time_limit_seconds

    @property
    def excess(self) -> float | None:
        """How far its objective is above the best known, relative to that; None without one."""
        if self.cell.objective is None or not self.cell.verified:
            return None
        return max(self.reference.excess(self.cell.objective), 0.0)

    @property
    def is_refuted(self) -> bool:
        """Whether somebody's verified allocation shows its claim to be wrong."""
        best = self.reference.objective
        if best is None:
            return False
        return self.cell.outcome == "infeasible" or _is_above(claimed_bound(self.cell), best)

    @property
    def is_wrong(self) -> bool:
        """Whether `solve` or another solver caught it at a wrong claim."""
        return self.cell.outcome == "wrong" or self.is_refuted

    def meets(self, criterion: Criterion) -> bool:
        """Whether it solved its problem, in time."""
        if self.is_late:
            return False
        if self.reference.is_infeasible:
            return self.cell.outcome == "infeasible"
        if self.excess is None:
            return False
        if criterion is Criterion.PROVEN:
            return self.cell.outcome == "optimal" and not self.is_refuted and self.excess <= SAME
        return criterion is Criterion.ANSWERED or self.excess <= NEAR

    @property
    def is_best(self) -> bool:
        """Whether its objective is the best known."""
        return self.excess is not None and self.excess <= SAME


def judge(cells: Sequence[Cell]) -> tuple[Judged, ...]:
    """Judges all cells of a study, in their order.

    Args:
        cells: Of any problems, solvers and limits.

    Example:
        >>> from dataclasses import replace
        >>> from fedhq.studies.ablation.kinds import Kind
        >>> sweep = Cell("ties", "ties, 2, 0", 2, 2, 0, "sweep", Kind.OURS, "Sweep()", "fedhq 1",
        ...              1.0, "optimal", 4.0, 4.0, 0.0, 3.0, 0.1, {"total": 0.001}, None, True,
        ...              "10", "", 2, "")
        >>> rule = replace(sweep, solver="rule", outcome="feasible", objective=5.0, bound=None)
        >>> liar = replace(sweep, solver="liar", outcome="optimal", objective=5.0, bound=5.0)
        >>> [(j.excess, j.is_refuted) for j in judge([sweep, rule, liar])]
        [(0.0, False), (0.25, False), (0.25, True)]
    """
    by_problem: dict[str, list[Cell]] = {}
    for cell in cells:
        by_problem.setdefault(cell.problem, []).append(cell)
    references = {problem: Reference.of(own) for problem, own in by_problem.items()}
    alike = _same_clients(cells, references)
    return tuple(Judged(c, references[c.problem], alike.get(c.key)) for c in cells)


def claimed_bound(cell: Cell) -> float:
    """What a cell claims to be no objective below; -inf where it claims nothing."""
    if cell.outcome == "wrong":
        return -np.inf
    if cell.bound is None and cell.outcome == "optimal" and cell.objective is not None:
        return cell.objective
    return -np.inf if cell.bound is None else cell.bound


def _is_above(bound: float, objective: float) -> bool:
    """Whether a bound is above an objective by more than tolerances explain."""
    return bound > objective + SAME * max(abs(objective), _FLOOR)


def _same_clients(
    cells: Sequence[Cell], references: dict[str, Reference]
) -> dict[tuple[str, str, float], float]:
    """`Judged.same_clients` of the cells that have one, by the cell's key."""
    groups: dict[tuple[str, float], list[Cell]] = {}
    for cell in cells:
        if cell.choice and cell.verified and cell.objective is not None:
            if references[cell.problem].excess(cell.objective) <= SAME:
                groups.setdefault((cell.problem, cell.time_limit_seconds), []).append(cell)
    alike = {}
    for group in groups.values():
        if len(group) > 1:
            choices = np.array([list(cell.choice.encode("ascii")) for cell in group], np.uint8)
            for k, cell in enumerate(group):
                equal = (choices == choices[k]).mean(axis=1)
                alike[cell.key] = float((equal.sum() - 1.0) / (len(group) - 1))
    return alike
