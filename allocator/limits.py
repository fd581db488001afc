"""The limits of a problem one by one: to read, to drop, to relax, and what each needs by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from enum import StrEnum

import numpy as np

from .arrays import FloatArray, IntArray
from .check import exceeds
from .problem import AllocationProblem
from .solvers.program import Program
from .terms import Budget, Count

_DIGITS = 6  # of a value that a message names
_NAMED_CLIENTS = 5


class Kind(StrEnum):
    """Which field of a problem a limit stands in."""

    DEADLINE = "deadline_seconds"
    MAX_LOSS = "max_loss"
    MIN_PARTICIPATION = "min_participation"
    BUDGET = "budgets"
    AT_MOST = "at_most"
    AT_LEAST = "at_least"

    @property
    def is_lower(self) -> bool:
        """Whether it limits from below."""
        return self in (Kind.MIN_PARTICIPATION, Kind.AT_LEAST)


@dataclass(frozen=True)
class Limit:
    """One limit of a problem; written as its field, a budget's resource, or what is counted.

    Args:
        kind: The field.
        of: The resource of a budget, or what is counted.

    Example:
        >>> problem = AllocationProblem(("fp32",), [[2]], [[0]], deadline_seconds=1)
        >>> [str(limit) for limit in Limit.given(problem)]
        ['deadline_seconds']
    """

    kind: Kind
    of: str = ""

    @classmethod
    def given(cls, problem: AllocationProblem) -> list[Limit]:
        """The limits that a problem sets."""
        found = []
        if problem.deadline_seconds is not None:
            found.append(cls(Kind.DEADLINE))
        if problem.max_loss is not None:
            found.append(cls(Kind.MAX_LOSS))
        if problem.min_participation > 0:
            found.append(cls(Kind.MIN_PARTICIPATION))
        found += [cls(Kind.BUDGET, b.resource) for b in problem.budgets]
        for count in problem.counts:
            if count.at_most is not None:
                found.append(cls(Kind.AT_MOST, str(count)))
            if count.at_least > 0:
                found.append(cls(Kind.AT_LEAST, str(count)))
        return found

    def __str__(self) -> str:
        match self.kind:
            case Kind.BUDGET:
                return self.of
            case Kind.AT_MOST | Kind.AT_LEAST:
                return f"{self.kind} ({self.of})"
        return str(self.kind)

    def value(self, problem: AllocationProblem) -> float:
        """What the problem sets the limit to."""
        match self.kind:
            case Kind.DEADLINE:
                value = problem.deadline_seconds
            case Kind.MAX_LOSS:
                value = problem.max_loss
            case Kind.MIN_PARTICIPATION:
                value = problem.min_participation
            case Kind.BUDGET:
                value = self._budget(problem).limit
            case Kind.AT_MOST:
                value = self._count(problem).at_most
            case Kind.AT_LEAST:
                value = self._count(problem).at_least
        if value is None:
            raise ValueError(f"`{self}` must be given, but the problem sets none.")
        return value

    def taken(self, problem: AllocationProblem, choice: IntArray) -> float:
        """What a choice takes of it: its round time, loss, share or usage."""
        match self.kind:
            case Kind.DEADLINE:
                return problem.round_seconds(choice)
            case Kind.MAX_LOSS:
                return problem.total_loss(choice)
            case Kind.MIN_PARTICIPATION:
                return problem.participation(choice)
            case Kind.BUDGET:
                return float(self._budget(problem).usage[np.arange(len(choice)), choice].sum())
            case Kind.AT_MOST | Kind.AT_LEAST:
                return problem.count(self._count(problem), choice)

    def cost(self, program: Program, problem: AllocationProblem) -> FloatArray:
        """`(columns,)` what to minimise so that the limit can be tightest."""
        match self.kind:
            case Kind.DEADLINE:
                return program.round_seconds()
            case Kind.MAX_LOSS:
                return program.loss(problem)
            case Kind.MIN_PARTICIPATION:
                return program.binaries(-problem.example_shares[:, None] * problem.participates)
            case Kind.BUDGET:
                return program.binaries(self._budget(problem).usage)
            case Kind.AT_MOST:
                return program.binaries(self._counted(problem))
            case Kind.AT_LEAST:
                return program.binaries(-self._counted(problem))

    def set_to(self, problem: AllocationProblem, value: float) -> AllocationProblem:
        """The problem with another value of this limit."""
        match self.kind:
            case Kind.DEADLINE:
                return replace(problem, deadline_seconds=value)
            case Kind.MAX_LOSS:
                return replace(problem, max_loss=value)
            case Kind.MIN_PARTICIPATION:
                return replace(problem, min_participation=value)
            case Kind.BUDGET:
                budgets = tuple(
                    replace(b, limit=value) if b.resource == self.of else b for b in problem.budgets
                )
                return replace(problem, budgets=budgets)
            case Kind.AT_MOST | Kind.AT_LEAST:
                old, whole = self._count(problem), round(value)
                new = (
                    replace(old, at_most=whole)
                    if self.kind is Kind.AT_MOST
                    else replace(old, at_least=whole)
                )
                counts = tuple(new if c is old else c for c in problem.counts)
                return replace(problem, counts=counts)

    def is_kept_by(self, problem: AllocationProblem, value: float) -> bool:
        """Whether the problem's limit admits a value."""
        limit = self.value(problem)
        if self.kind.is_lower:
            return not exceeds(limit, value)
        return not exceeds(value, limit)

    def rounded(self, value: float) -> float:
        """The value with the digits of a message, rounded to the side that is feasible."""
        rounding = ROUND_FLOOR if self.kind.is_lower else ROUND_CEILING
        context = Context(prec=_DIGITS, rounding=rounding)
        return float(context.create_decimal(f"{value:.12g}"))

    def demand(self, value: float) -> str:
        """The rule that would do, in words."""
        sign = "<=" if self.kind.is_lower else ">="
        return f"{self} {sign} {value:.{_DIGITS}g}"

    def alone(self, problem: AllocationProblem) -> tuple[float, str]:
        """The tightest value if no other limit stood, and which clients are behind it.

        A lower bound of it for `max_loss` with coverage.
        """
        match self.kind:
            case Kind.DEADLINE:
                least, each = _least(problem, problem.seconds, slowest_only=True)
                return least, _name("fastest allowed", problem, each, self.value(problem))
            case Kind.MIN_PARTICIPATION:
                able = problem.allowed[:, problem.participates].any(axis=1)
                share = float(problem.example_shares @ able)
                return share, _name("may only skip, share", problem, problem.example_shares * ~able)
            case Kind.MAX_LOSS:
                least, each = _least(problem, problem.loss)
                return least + _least_coverage_loss(problem), _name("least", problem, each)
            case Kind.BUDGET:
                least, each = _least(problem, self._budget(problem).usage)
                return least, _name("least", problem, each)
            case Kind.AT_MOST:
                least, each = _least(problem, self._counted(problem))
                return least, _name("must", problem, each)
            case Kind.AT_LEAST:
                most = np.where(problem.allowed, self._counted(problem), 0.0).max(axis=1)
                return float(most.sum()), ""

    def _budget(self, problem: AllocationProblem) -> Budget:
        return next(b for b in problem.budgets if b.resource == self.of)

    def _count(self, problem: AllocationProblem) -> Count:
        return next(c for c in problem.counts if str(c) == self.of)

    def _counted(self, problem: AllocationProblem) -> FloatArray:
        """`(clients, strategies)` what a choice adds to the count."""
        columns = self._count(problem).columns(problem.strategies).astype(float)
        return np.outer(problem.members, columns)


def with_only(problem: AllocationProblem, limits: Sequence[Limit]) -> AllocationProblem:
    """The problem with only some of its limits, and without a goal."""
    kinds = {limit.kind for limit in limits}
    given = {(limit.kind, limit.of) for limit in limits}
    counts = [
        Count(
            c.strategies,
            c.at_least if (Kind.AT_LEAST, str(c)) in given else 0,
            c.at_most if (Kind.AT_MOST, str(c)) in given else None,
        )
        for c in problem.counts
    ]
    return replace(
        problem,
        tradeoff=None,
        switching_seconds=None,
        deadline_seconds=problem.deadline_seconds if Kind.DEADLINE in kinds else None,
        max_loss=problem.max_loss if Kind.MAX_LOSS in kinds else None,
        min_participation=problem.min_participation if Kind.MIN_PARTICIPATION in kinds else 0.0,
        budgets=tuple(b for b in problem.budgets if (Kind.BUDGET, b.resource) in given),
        counts=tuple(counts),
    )


def _least(
    problem: AllocationProblem, table: FloatArray, slowest_only: bool = False
) -> tuple[float, FloatArray]:
    """Least sum (or maximum) of a table if at least one client takes part, and each one's least."""
    each = np.where(problem.allowed, table, np.inf).min(axis=1)
    takes_part = problem.allowed & problem.participates
    if slowest_only:
        return max(float(each.max()), float(table[takes_part].min())), each
    return float(each.sum() + (table - each[:, None])[takes_part].min()), each


def _least_coverage_loss(problem: AllocationProblem) -> float:
    """The curve if every client did what teaches most: no less, as unevenness only adds to it."""
    if (term := problem.coverage) is None:
        return 0.0
    most = np.where(problem.allowed, term.teaches, 0.0).max(axis=1)
    return float(term.class_weights @ term.phi(term.carried + most @ term.share))


def _name(what: str, problem: AllocationProblem, each: FloatArray, above: float = 0.0) -> str:
    """The clients with the largest values above a limit, in words."""
    order = np.argsort(-each, kind="stable")[:_NAMED_CLIENTS]
    worst = [f"{problem.clients[i]!r} {each[i]:.4g}" for i in order if exceeds(each[i], above)]
    if not worst:
        return ""
    rest = int((each > above).sum()) - len(worst)
    return f" ({what}: {', '.join(worst)}{f' and {rest} more' if rest > 0 else ''})"
