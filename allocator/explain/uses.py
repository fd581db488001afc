"""What a choice takes of every limit that a problem sets, with units."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import IntArray
from ..check import with_tolerance
from ..limits import Kind, Limit
from ..problem import AllocationProblem
from .quantities import CLIENTS, PERCENT, POINTS, SECONDS, Unit


@dataclass(frozen=True)
class LimitUse:
    """A limit, and what a choice takes of it.

    Args:
        limit: Which limit.
        used: Round time, loss, usage, number of clients or share.
        value: What the problem sets the limit to.
        is_kept: Whether the limit admits it, within the tolerance of `check`.
    """

    limit: Limit
    used: float
    value: float
    is_kept: bool

    @property
    def slack(self) -> float:
        """How far the use is on the right side of the limit; negative where it is not."""
        below = self.value - self.used
        return -below if self.limit.kind.is_lower else below

    @property
    def is_tight(self) -> bool:
        """Whether nothing is left, within the tolerance of `check`."""
        return self.slack <= with_tolerance(self.value) - self.value

    @property
    def unit(self) -> Unit:
        """What both values are measured in."""
        match self.limit.kind:
            case Kind.DEADLINE:
                return SECONDS
            case Kind.MAX_LOSS:
                return POINTS
            case Kind.MIN_PARTICIPATION:
                return PERCENT
            case Kind.BUDGET:
                return Unit.of(self.limit.of)
            case Kind.AT_MOST | Kind.AT_LEAST:
                return CLIENTS

    def __str__(self) -> str:
        least = "at least " if self.limit.kind.is_lower else ""
        return f"{self.unit.text(self.used)} of {least}{self.unit.text(self.value)}"


def limit_uses(problem: AllocationProblem, choice: IntArray) -> tuple[LimitUse, ...]:
    """Every limit that a problem sets, with what a choice takes of it; ordered as `Limit.given`.

    Example:
        >>> import numpy as np
        >>> problem = AllocationProblem(("skip", "fp32"), [[0, 2], [0, 3]], [[1, 0], [1, 0]],
        ...                             1.0, deadline_seconds=4.0, min_participation=0.5)
        >>> for use in limit_uses(problem, np.array([1, 0])):
        ...     print(use.limit, use)
        deadline_seconds 2 s of 4 s
        min_participation 50 % of at least 50 %
    """
    uses = []
    for limit in Limit.given(problem):
        used = limit.taken(problem, choice)
        kept = limit.is_kept_by(problem, used)
        uses.append(LimitUse(limit, used, limit.value(problem), kept))
    return tuple(uses)
