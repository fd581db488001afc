"""What a solver's answer is compared with: cases with enumerated optima, and certificates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache

import numpy as np

from ..arrays import FloatArray, IntArray
from ..check import violations
from ..problem import AllocationProblem
from ..solution import Solution, Status
from ..solvers.exhaustive import Exhaustive
from ..solvers.program import Columns, Program
from .families import FAMILIES, SEPARABLE_FAMILIES

_PROOF = 1e-6  # relative gap of an optimum
_SMALL = 1e-8  # ... and relative to the largest terms, where these cancel out of the objective
_MOST_CLIENTS = 5  # of an enumeration
_MORE_RANDOM = 8  # the random family mixes all terms: it gets so many times the seeds


@dataclass(frozen=True)
class Case:
    """A problem by its name, so that a failure says how to build it again.

    Args:
        family: A key of `FAMILIES` or `SEPARABLE_FAMILIES`.
        seed: Of the family.
        num_clients: Size.
        separable: Which of the two listings.

    Example:
        >>> Case("ties", 3, 5).problem().num_clients
        5
    """

    family: str
    seed: int
    num_clients: int
    separable: bool = False

    def problem(self) -> AllocationProblem:
        """Builds the problem."""
        families = SEPARABLE_FAMILIES if self.separable else FAMILIES
        return families[self.family](self.seed, self.num_clients)

    def optimum(self) -> float | None:
        """The least objective by enumeration; None if infeasible."""
        return _optimum(self)


@cache
def _optimum(case: Case) -> float | None:
    return enumerated(case.problem())


@cache
def built(case: Case) -> AllocationProblem:
    """The problem of a case, to look at only: a solver is given one of its own."""
    return case.problem()


def program_at(problem: AllocationProblem, seconds: float) -> Program:
    """The whole program with the round time fixed, for HiGHS; every client can do something."""
    in_time = problem.allowed & (problem.seconds <= seconds)
    program = Program.of(replace(problem, allowed=in_time))
    assert program is not None
    lower = program.linear.lower.copy()
    lower[Columns.of(problem).time] = seconds / program.time_unit
    return replace(program, linear=replace(program.linear, lower=lower))


def enumerated(problem: AllocationProblem) -> float | None:
    """The least objective by enumeration; None if infeasible."""
    choice = best_choice(problem)
    return None if choice is None else problem.objective(choice)


def best_choice(problem: AllocationProblem) -> IntArray | None:
    """By enumeration of the problem as it is: groups are checked, not merged."""
    return Exhaustive()(problem).choice


def small_cases(seeds: int) -> Iterator[Case]:
    """Problems of one to five clients of every family, whole and separable."""
    for separable, listing in ((False, FAMILIES), (True, SEPARABLE_FAMILIES)):
        for family in listing:
            count = seeds * (_MORE_RANDOM if family == "random" else 1)
            for seed in range(count):
                yield Case(family, seed, 1 + seed % _MOST_CLIENTS, separable)


def slack_of(problem: AllocationProblem, objective: float) -> float:
    """What two values of one objective may differ by."""
    terms = problem.time_weight * float(problem.seconds.max())
    terms += problem.loss_weight * float(problem.loss.max())
    return _PROOF * abs(objective) + _SMALL * terms


def best_neighbour(problem: AllocationProblem, choice: IntArray) -> float:
    """The least objective of all allocations in which one client does something else."""
    best = problem.objective(choice)
    for client, strategy in np.argwhere(problem.allowed):
        other = choice.copy()
        other[client] = strategy
        if problem.objective(other) < best and not violations(problem, other):
            best = problem.objective(other)
    return best


def cases_of(family: str, sizes: Sequence[int]) -> Iterator[Case]:
    """Two problems of each size, whole and separable, each of its own seed."""
    for separable, listing in ((False, FAMILIES), (True, SEPARABLE_FAMILIES)):
        if family in listing:
            for seed in range(2 * len(sizes)):
                yield Case(family, seed, sizes[seed // 2], separable)


def known_optimum(case: Case) -> float | None:
    """The optimum of a case of any size, where its family has one in closed form; else None.

    The planted choice of a subset sum fills the budget, or all of it that even numbers can; of
    equal clients only the number that do each strategy counts.

    Example:
        >>> case = Case("subset sum", 1, 4)
        >>> bool(np.isclose(known_optimum(case), case.optimum()))
        True
    """
    problem = case.problem()
    if case.family == "subset sum":
        total = float(problem.budgets[0].usage[:, 2].sum())
        return (total - 2 * (problem.budgets[0].limit // 2)) / total
    if case.family != "all equal":
        return None
    n = case.num_clients
    splits = [(n - some - few, some, few) for few in range(n + 1) for some in range(n + 1 - few)]
    choices = [np.repeat([0, 1, 2], split) for split in splits]
    return min(problem.objective(c) for c in choices if not violations(problem, c))


def assert_same(problem: AllocationProblem, value: float, expected: float, case: Case) -> None:
    """Asserts that an objective is the optimum that is expected."""
    slack = slack_of(problem, expected)
    assert abs(value - expected) <= slack, f"{value} is not the optimum {expected} of {case}"


def assert_optimum(
    problem: AllocationProblem, solution: Solution, expected: float | None, case: Case
) -> None:
    """Asserts that an optimum is proven, or that there is no allocation where None."""
    if expected is None:
        assert solution.status is Status.INFEASIBLE, f"{case} has no allocation: {solution}"
        return
    assert solution.status is Status.OPTIMAL, f"{solution.status} for {case}"
    assert_same(problem, solution.allocation.objective, expected, case)
    slack = slack_of(problem, expected)
    assert expected - slack <= solution.bound <= expected + slack, case


def assert_certified(problem: AllocationProblem, solution: Solution, case: Case) -> None:
    """Asserts that no known allocation is below the bound, and none better than possible."""
    allocation, known = solution.allocation, known_optimum(case)
    objective, slack = allocation.objective, slack_of(problem, allocation.objective)
    assert violations(problem, allocation.choice) == (), case
    least = best_neighbour(problem, allocation.choice) if known is None else known
    assert solution.bound <= least + slack, f"{least} is below the bound {solution.bound}: {case}"
    if known is not None:
        assert objective >= known - slack, f"{objective} is below the optimum {known} of {case}"


def arrays_of(value: object) -> Iterator[FloatArray]:
    """All arrays that a value holds, also inside its parts."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from arrays_of(part)
    elif is_dataclass(value):
        for field in fields(value):
            yield from arrays_of(getattr(value, field.name))


def a_term_named() -> str:
    """A pattern that an error matches which names a field of the problem in backticks."""
    names = "|".join(field.name for field in fields(AllocationProblem))
    return rf"`({names})\b"
