"""`explain`: why an allocation is as it is, in numbers and in words."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np

from ..problem import AllocationProblem
from ..solution import Allocation, Solution, Status
from .client import ClientExplanation, objective_unit
from .quantities import PERCENT, POINTS, SECONDS, number
from .reports import ClassReport, LimitReport, class_reports, limit_reports
from .whatif import Moves

_NAMED_CLASSES = 3
_NAMED_CLIENTS = 5
_PRICES = "Prices (of the relaxation, at this round time; the optimum itself moves in steps):"
_NO_PRICE = 1e-9  # of the objective, for the whole limit or class


@dataclass(frozen=True)
class Bottleneck:
    """The client that sets the round time.

    Args:
        client: Its name; the first of equals.
        next_client: The next slowest of those that take part, or None.
        next_seconds: What the round would take without the bottleneck; 0 if nobody is left.
    """

    client: str
    next_client: str | None
    next_seconds: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """What an allocation means: the bottleneck, the limits, their prices, and every what-if.

    Printed, it is a short text to read. `limits` and `classes` are empty and `bottleneck` is None
    where the solution has no allocation.

    Args:
        problem: The problem.
        solution: Its solution.
        bottleneck: Who sets the round time; None if nobody takes part.
        limits: Every limit that the problem sets.
        classes: Every class of the coverage term.
    """

    problem: AllocationProblem
    solution: Solution
    bottleneck: Bottleneck | None
    limits: tuple[LimitReport, ...]
    classes: tuple[ClassReport, ...]
    _moves: Moves | None

    def client(self, name: object) -> ClientExplanation:
        """Explains one client: its strategy against every other of the menu.

        Args:
            name: The client, by its name in `problem.clients`.

        Raises:
            ValueError: If there is no such client.
            InfeasibleError: If the problem is proven infeasible.
            SolverError: If the solution has no allocation for another reason.
        """
        clients = self.problem.clients
        if str(name) not in clients:
            near = difflib.get_close_matches(str(name), clients, _NAMED_CLIENTS)
            names = near or [*clients[:_NAMED_CLIENTS], *["..."][: len(clients) - _NAMED_CLIENTS]]
            raise ValueError(
                f"`name` must be a client of the problem, but got {str(name)!r}. "
                f"{'Perhaps you mean' if near else 'There are'} {', '.join(map(repr, names))}."
            )
        moves = self._moves or Moves.of(self.problem, self.solution.allocation.choice)
        return _client(self.problem, self.solution, moves, clients.index(str(name)))

    def __str__(self) -> str:
        if not self.solution.status.has_allocation:
            return self._status()
        lines = [self._status(), self._goal(), self._strategies(), *self._round()]
        for title, rows in (
            ("Limits:", [str(report) for report in self.limits]),
            (_PRICES, self._prices()),
            ("Coverage that would lower the loss most:", self._classes()),
        ):
            if rows:
                lines += [title, *(f"  {row}" for row in rows)]
        return "\n".join(lines)

    def _status(self) -> str:
        solution, solver = self.solution, self.solution.solver.split("(")[0]
        if solution.status is Status.INFEASIBLE:
            return f"Proven infeasible, says {solver}. {solution.message}".rstrip()
        if solution.status is Status.UNKNOWN:
            why = solution.message or "It does not say why."
            return f"{solver} found neither an allocation nor a proof that there is none: {why}"
        if not self.problem.has_goal:
            return f"Keeps every limit (by {solver}); there is no goal to be best at."
        unit, objective = objective_unit(self.problem), solution.allocation.objective
        words = f"the objective is {unit.text(objective)} (by {solver})"
        if solution.status is Status.OPTIMAL:
            return f"Proven best: {words}."
        if np.isinf(solution.gap):
            return f"Keeps every limit, but how far from the best is not known: {words}."
        return (
            f"Within {PERCENT.text(float(f'{solution.gap:.2g}'))} of the best possible: {words}, "
            f"and no allocation is below {unit.text(solution.bound)}."
        )

    def _goal(self) -> str:
        problem, allocation = self.problem, self.solution.allocation
        loss = f"{POINTS.text(allocation.loss).replace(' ', ' percentage ')} of accuracy"
        if problem.tradeoff is None:
            if not problem.has_goal:
                return f"Predicted loss: {loss}."
            least = "round time" if problem.time_weight else "loss"
            return f"The {least} is minimised. Predicted loss: {loss}."
        paid = SECONDS.text(problem.tradeoff * allocation.loss)
        words = (
            f"That is {SECONDS.text(allocation.round_seconds)} of round time and {paid} for a "
            f"predicted loss of {loss} ({number(problem.tradeoff)} s per unit, "
            f"{SECONDS.text(problem.tradeoff / POINTS.factor)} a point)"
        )
        if switching := problem.switching(allocation.choice):
            words += f", and {SECONDS.text(switching)} for switching"
        return f"{words}."

    def _strategies(self) -> str:
        allocation, parts = self.solution.allocation, []
        for strategy, n in zip(allocation.strategies, allocation.counts().tolist(), strict=True):
            if n and strategy.is_skip:
                parts.append(f"{n} {'skips' if n == 1 else 'skip'}")
            elif n:
                parts.append(f"{n} {'does' if n == 1 else 'do'} {strategy}")
        clients = self.problem.num_clients
        return f"Of {clients} client{'s' * (clients > 1)} {', '.join(parts)}."

    def _round(self) -> list[str]:
        if (slowest := self.bottleneck) is None:
            return ["Nobody takes part."]
        allocation, name = self.solution.allocation, repr(slowest.client)
        own = self.client(slowest.client)
        words = f"The round takes {SECONDS.text(allocation.round_seconds)}: {name} ({own.strategy})"
        if slowest.next_client is None:
            words += " is the only one that takes part."
        else:
            words += (
                f" is the slowest, then {slowest.next_client!r} "
                f"({SECONDS.text(slowest.next_seconds)})."
            )
        if (faster := own.next_faster) is None:
            return [words, f"  {name} is allowed nothing faster."]
        also = " (with its group)" if own.moved_with else ""
        does = "skipped" if faster.strategy.is_skip else f"did {faster.strategy}"
        return [words, f"  If {name}{also} {does} instead: {own.outcome(faster)}"]

    def _prices(self) -> list[str]:
        objective = objective_unit(self.problem)
        least = _NO_PRICE * abs(self.solution.allocation.objective)  # NaN: without goal no prices
        limits = [r.price_words(objective) for r in self.limits if r.worth > least]
        classes = sorted(self.classes, key=lambda c: -(c.price or 0.0))[:_NAMED_CLASSES]
        prices = limits + [c.price_words(objective) for c in classes if (c.price or 0.0) > least]
        if self.solution.prices is not None and self.problem.deadline_seconds is not None:
            prices.append("deadline_seconds has none: a frontier tells what a later one buys")
        return prices

    def _classes(self) -> list[str]:
        helpful = sorted((c for c in self.classes if c.slope > 0), key=lambda c: -c.slope)
        if self.classes and not helpful:
            return ["none: every class is covered so well that more would not lower the loss"]
        return [str(c) for c in helpful[:_NAMED_CLASSES]]


def explain(problem: AllocationProblem, solution: Solution) -> Explanation:
    """Explains a solution of a problem; a solution without an allocation says why.

    Args:
        problem: The problem that was solved.
        solution: What `solve` returned for it; its prices count where it has them.

    Returns:
        The explanation; print it, or ask it for `.client(name)`.

    Example:
        >>> from fedhq.allocator import Sweep, solve
        >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
        ...                             [[.1, 0], [.1, 0]], 10.0, clients=["phone", "watch"])
        >>> explanation = explain(problem, solve(problem, Sweep()))
        >>> for line in str(explanation).splitlines()[2:]:
        ...     print(line)
        Of 2 clients 1 does ptq-w2a2, 1 does qat-w2a2.
        The round takes 3 s: 'watch' (ptq-w2a2) is the slowest, then 'phone' (2 s).
          'watch' is allowed nothing faster.
        >>> (other,) = explanation.client("watch").alternatives
        >>> str(other.strategy), round(other.change.objective, 6), round(other.flips.tradeoff, 6)
        ('qat-w2a2', 1.0, 20.0)
    """
    if not solution.status.has_allocation:
        return Explanation(problem, solution, None, (), (), None)
    allocation = solution.allocation
    moves = Moves.of(problem, allocation.choice)
    return Explanation(
        problem,
        solution,
        _bottleneck(problem, allocation),
        limit_reports(problem, allocation.choice, moves.held_back(), solution.prices),
        class_reports(problem, allocation.choice, solution.prices),
        moves,
    )


def _bottleneck(problem: AllocationProblem, allocation: Allocation) -> Bottleneck | None:
    if (slowest := allocation.bottleneck) is None:
        return None
    seconds = problem.seconds[np.arange(problem.num_clients), allocation.choice]
    takes_part = problem.participates[allocation.choice]
    takes_part[slowest] = False
    following = int(np.where(takes_part, seconds, -1.0).argmax()) if takes_part.any() else None
    return Bottleneck(
        client=problem.clients[slowest],
        next_client=None if following is None else problem.clients[following],
        next_seconds=0.0 if following is None else float(seconds[following]),
    )


def _client(
    problem: AllocationProblem, solution: Solution, moves: Moves, client: int
) -> ClientExplanation:
    row = int(moves.merged.row_of[client])
    together = np.flatnonzero(moves.merged.row_of == row)
    merged, present = moves.merged.problem, int(moves.choice[row])
    return ClientExplanation(
        client=problem.clients[client],
        strategy=problem.strategies[present],
        seconds=float(merged.seconds[row, present]),
        loss=float(merged.loss[row, present]),
        alternatives=moves.alternatives(row, solution.prices),
        not_allowed=tuple(
            s for s, able in zip(problem.strategies, merged.allowed[row], strict=True) if not able
        ),
        moved_with=tuple(problem.clients[i] for i in together if i != client),
        _problem=problem,
        _allocation=solution.allocation,
    )
