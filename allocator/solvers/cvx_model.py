"""The whole program in cvxpy: variables, rows, and reading an answer back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import IntArray
from ..check import FEASIBILITY_TOLERANCE, with_tolerance, within_deadline
from ..errors import SolverError
from ..problem import AllocationProblem
from ..rows import Rows
from ..strategy import Strategy, parse_strategy
from .cvx_constraints import own_constraints
from .program import COST_RANGE, ROW_RANGE, loss_scale, row_scale

if TYPE_CHECKING:
    import cvxpy

_WHOLE = 1e-4  # a binary may be this far from 0 or 1: above every backend's own tolerance


@dataclass(frozen=True, eq=False)
class CvxVariables:
    """What constraints of one's own may speak about.

    Args:
        choice: `(clients, strategies)` boolean variable, one 1 a client.
        round_seconds: At least the round time, in seconds; equal to it where time costs anything.
        loss: The loss L, convex in `choice`.
        usage: One expression a budget, in the problem's order and units.
        coverage: `(classes,)` coverage, or None without the term.
        clients: The clients' names, in the order of `choice`.
        strategies: The menu, likewise.
    """

    choice: cvxpy.Variable
    round_seconds: cvxpy.Expression
    loss: cvxpy.Expression
    usage: tuple[cvxpy.Expression, ...]
    coverage: cvxpy.Expression | None
    clients: tuple[str, ...]
    strategies: tuple[Strategy, ...]

    def client(self, name: object) -> cvxpy.Expression:
        """`(strategies,)` what a client does.

        Raises:
            ValueError: If no client has this name.
        """
        return self.choice[self._row(name), :]

    def strategy(self, strategy: Strategy | str) -> cvxpy.Expression:
        """`(clients,)` who does a strategy.

        Raises:
            ValueError: If the menu does not have it.
        """
        return self.choice[:, self._column(strategy)]

    def of(self, client: object, strategy: Strategy | str) -> cvxpy.Expression:
        """1 if a client does a strategy, else 0.

        Raises:
            ValueError: If there is no such client or strategy.
        """
        return self.choice[self._row(client), self._column(strategy)]

    def _row(self, name: object) -> int:
        if str(name) not in self.clients:
            some = f"{list(self.clients[:5])} ({len(self.clients)} in all)"
            raise ValueError(f"`client` must be one of {some}, but got {name!r}.")
        return self.clients.index(str(name))

    def _column(self, strategy: Strategy | str) -> int:
        wanted = parse_strategy(strategy)
        if wanted not in self.strategies:
            menu = [str(known) for known in self.strategies]
            raise ValueError(f"`strategy` must be on the menu {menu}, but got '{wanted}'.")
        return self.strategies.index(wanted)


def load_cvxpy() -> Any:
    """The package cvxpy, untyped: its functions have types in part only.

    Raises:
        SolverError: If it is not installed.
    """
    try:
        import cvxpy
    except ImportError:
        raise SolverError(
            "Cvx needs cvxpy, which is not installed: pip install 'fedhq[cvxpy]'"
        ) from None
    return cvxpy


@dataclass(frozen=True, eq=False)
class CvxModel:
    """The cvxpy program; objective and rows are scaled, the variables' expressions are not."""

    program: cvxpy.Problem
    variables: CvxVariables
    scaled_time: cvxpy.Variable
    own: tuple[cvxpy.Constraint, ...]
    time_unit: float
    unit: float

    @classmethod
    def of(
        cls,
        problem: AllocationProblem,
        constraints: Callable[[CvxVariables], Sequence[cvxpy.Constraint]] | None,
    ) -> CvxModel:
        """Builds the program with constants (matrix parameters cost cvxpy seconds)."""
        cp = load_cvxpy()

        usable = within_deadline(problem)
        choice = cp.Variable(problem.seconds.shape, boolean=True)
        time_unit = (float(problem.seconds[usable].max()) or 1.0) / ROW_RANGE
        scaled_time = cp.Variable(nonneg=True)
        coverage, coverage_loss = _coverage(problem, choice)
        variables = CvxVariables(
            choice=choice,
            round_seconds=time_unit * scaled_time,
            loss=cp.sum(cp.multiply(problem.loss, choice)) + coverage_loss,
            usage=tuple(cp.sum(cp.multiply(b.usage, choice)) for b in problem.budgets),
            coverage=coverage,
            clients=problem.clients,
            strategies=problem.strategies,
        )
        own = () if constraints is None else own_constraints(constraints, variables)
        limits = _limits(problem, variables, scaled_time, time_unit)
        objective, unit = _objective(problem, variables)
        program = cp.Problem(cp.Minimize(objective), [choice <= usable, *limits, *own])
        return cls(program, variables, scaled_time, own, time_unit, unit)

    def decode(self, problem: AllocationProblem) -> IntArray | None:
        """The choice; None unless it is whole and keeps the user's constraints.

        At a limit HiGHS hands out zeros that are no answer at all.
        """
        values = self.variables.choice.value
        if values is None or not np.isfinite(values).all():
            return None
        whole = np.round(values)
        if np.abs(values - whole).max() > _WHOLE or (whole.sum(axis=1) != 1).any():
            return None
        choice = np.asarray(whole.argmax(axis=1), dtype=np.int64)
        for variable in self.program.variables():
            _make_whole(variable)
        needed = problem.round_seconds(choice) / self.time_unit
        self.scaled_time.value = max(needed, float(np.asarray(self.scaled_time.value)))
        return choice if all(_is_kept(constraint) for constraint in self.own) else None


def _coverage(
    problem: AllocationProblem, choice: cvxpy.Variable
) -> tuple[cvxpy.Expression | None, cvxpy.Expression | float]:
    """`(classes,)` coverage, and the loss that follows from it."""
    cp = load_cvxpy()

    if (term := problem.coverage) is None:
        return None, 0.0
    covered = term.carried + term.share.T @ (choice @ term.teaches)
    unit = term.unit / ROW_RANGE  # of the classes' losses, to which the tolerances apply
    slopes, offsets = (line / unit for line in term.lines)
    lines = [slope * covered + offset for slope, offset in zip(slopes, offsets, strict=True)]
    loss = (unit * term.class_weights) @ cp.max(cp.vstack(lines), axis=0)
    if term.has_unevenness:
        # In thousandths, as coverage itself is small against the tolerances.
        lags = cp.pos(ROW_RANGE * (term.class_weights @ covered - covered))
        loss += (term.unevenness_price / ROW_RANGE * term.class_weights) @ lags
    return covered, loss


def _limits(
    problem: AllocationProblem,
    variables: CvxVariables,
    scaled_time: cvxpy.Variable,
    time_unit: float,
) -> list[cvxpy.Constraint]:
    cp = load_cvxpy()

    choice = variables.choice
    own_time = cp.sum(cp.multiply(problem.seconds / time_unit, choice), axis=1)
    limits = [cp.sum(choice, axis=1) == 1, own_time <= scaled_time]
    for row in Rows.of(problem).all:
        scale = row_scale(row)
        limits.append(cp.sum(cp.multiply(row.table / scale, choice)) <= row.limit / scale)
    if problem.max_loss is not None:
        scale = loss_scale(problem, problem.max_loss)
        limits.append(variables.loss / scale <= with_tolerance(problem.max_loss) / scale)
    return limits


def _objective(
    problem: AllocationProblem, variables: CvxVariables
) -> tuple[cvxpy.Expression, float]:
    """The objective in units that keep its costs far above the backends' absolute tolerances."""
    cp = load_cvxpy()

    table = problem.loss_weight * problem.loss
    if problem.switching_seconds is not None:
        table = table + problem.switching_seconds
    usable, term = within_deadline(problem), problem.coverage
    largest = max(
        float(table[usable].max()),
        problem.time_weight * float(problem.seconds[usable].max()),
        0.0 if term is None else problem.loss_weight * term.most,
    )
    unit = largest / COST_RANGE or 1.0
    terms: Any = (problem.time_weight / unit) * variables.round_seconds
    terms += (problem.loss_weight / unit) * variables.loss
    if problem.switching_seconds is not None:
        terms += cp.sum(cp.multiply(problem.switching_seconds / unit, variables.choice))
    return terms, unit


def _make_whole(variable: Any) -> None:
    """Rounds the boolean and integer entries of a variable's value."""
    value = np.atleast_1d(np.array(variable.value, dtype=float))
    for where in (variable.boolean_idx, variable.integer_idx):
        if len(where):
            value[where] = np.round(value[where])
    variable.save_value(value.reshape(variable.shape))


def _is_kept(constraint: Any) -> bool:
    """Whether a constraint holds, relative to the size of its two sides."""
    sizes = [float(np.max(np.abs(side.value), initial=1.0)) for side in constraint.args]
    return bool(np.max(constraint.violation()) <= FEASIBILITY_TOLERANCE * max(sizes))
