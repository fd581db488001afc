"""`Problem`: which client trains at which precision, as a black box whose optimum is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import optunahub
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection

from fedhq.allocator import Allocation, AllocationProblem, Budget, Exact, pareto_frontier, solve
from fedhq.allocator.check import with_tolerance
from fedhq.allocator.instances import FAMILIES

from ._spaces import ClientSpace, PolicySpace, Space

_SPACES: Mapping[str, Callable[[AllocationProblem], Space]] = {
    "policy": PolicySpace,
    "clients": ClientSpace,
}
_FEWEST = 5
_SCARCITY = 0.75  # of the budgets of fedhq's family of programs, which decide little


@dataclass(frozen=True)
class Point:
    """An allocation of the exact frontier.

    Args:
        round_seconds: Time of a round, the slowest client's.
        loss: Predicted loss of deployed accuracy, as a fraction.
        params: Parameters of the search space that lead there.
    """

    round_seconds: float
    loss: float
    params: Mapping[str, Any]


class Problem(optunahub.benchmarks.BaseProblem):
    """A fleet of unequal devices; every client skips a round, or trains with PTQ or with QAT.

    A round lasts as long as its slowest client, QAT is slower than PTQ, and the deployed model
    loses accuracy where the clients with QAT do not cover all classes of the data. Constraints are
    budgets of uplink bytes and energy, and a least participation; feasible where <= 0. Everything
    is deterministic, and an exact solver says what the best is.

    Args:
        space: `policy`: a deadline and shares of the budgets (three numbers), from which a solver
            works out what the clients do; `clients`: one category a client.
        num_clients: Size of the fleet, >= 5; a policy takes some 30 ms at 20 clients and at 100.
        num_objectives: 1: seconds of a round plus `tradeoff` times the loss; 2: both of them.
        seed: Of the fleet and its data.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import optuna
        >>> problem = Problem("policy", num_clients=8, seed=1)
        >>> study = optuna.create_study(directions=problem.directions)
        >>> study.optimize(problem, n_trials=5)
        >>> bool(study.best_value >= problem.best_value)
        True
        >>> problem.evaluate(problem.best_params) == problem.best_value
        True
    """

    def __init__(
        self,
        space: Literal["policy", "clients"] = "policy",
        num_clients: int = 20,
        num_objectives: int = 1,
        seed: int = 0,
    ) -> None:
        if space not in _SPACES:
            raise ValueError(f"`space` must be one of {sorted(_SPACES)}, but got {space!r}.")
        if num_clients < _FEWEST:
            raise ValueError(f"`num_clients >= {_FEWEST}` must hold, but got {num_clients}.")
        if num_objectives not in (1, 2):
            raise ValueError(f"`num_objectives` must be 1 or 2, but got {num_objectives}.")
        self._program = _program(seed, num_clients)
        self._num_objectives = num_objectives
        self._space = _SPACES[space](self._program)
        self._search_space = self._space.distributions
        self._last: tuple[Mapping[str, Any], Allocation] | None = None

    @property
    def program(self) -> AllocationProblem:
        """What is to be solved, as `fedhq.allocator.solve` takes it."""
        return self._program

    @property
    def search_space(self) -> dict[str, BaseDistribution]:
        """The parameters by name."""
        return dict(self._search_space)

    @property
    def directions(self) -> list[StudyDirection]:
        """Everything is minimised."""
        return [StudyDirection.MINIMIZE] * self._num_objectives

    @property
    def metric_names(self) -> list[str]:
        """Names of the objectives, for `Study.set_metric_names`."""
        return ["cost_seconds"] if self._num_objectives == 1 else ["round_seconds", "loss"]

    def evaluate(self, params: Mapping[str, Any]) -> float | tuple[float, float]:
        """The cost in seconds, or `(round_seconds, loss)`.

        Args:
            params: A value for every parameter of the search space.
        """
        allocation = self._allocation(params)
        if self._num_objectives == 1:
            return allocation.objective
        return allocation.round_seconds, allocation.loss

    def evaluate_constraints(self, params: Mapping[str, Any]) -> dict[str, float]:
        """By how much each limit is missed, as a fraction of it; <= 0 where it is kept.

        Args:
            params: A value for every parameter of the search space.
        """
        allocation = self._allocation(params)
        missed = {
            budget.resource: float(used) / with_tolerance(budget.limit) - 1.0
            for budget, used in zip(self._program.budgets, allocation.usage, strict=True)
        }
        share = self._program.participation(allocation.choice)
        return missed | {"participation": self._program.min_participation - with_tolerance(share)}

    def params_of(self, allocation: Allocation) -> dict[str, Any]:
        """Parameters that lead to an allocation of the frontier, or to one as good."""
        return self._space.params_of(allocation)

    @cached_property
    def _best(self) -> Allocation:
        return solve(self._program, Exact()).allocation

    @property
    def best_value(self) -> float:
        """The least cost in seconds that keeps the constraints, proven by an exact solver."""
        return self._best.objective

    @property
    def best_params(self) -> dict[str, Any]:
        """Parameters that have the least cost."""
        return self.params_of(self._best)

    @cached_property
    def front(self) -> tuple[Point, ...]:
        """The exact frontier of round time and loss, the fastest first.

        It takes half a second at 20 clients and some seconds at 100.
        """
        frontier = pareto_frontier(self._program, solver=Exact())
        allocations = map(frontier.allocation, range(len(frontier)))
        return tuple(Point(a.round_seconds, a.loss, self.params_of(a)) for a in allocations)

    @property
    def reference_point(self) -> tuple[float, float]:
        """A round time and a loss that nothing exceeds, to measure hypervolumes from."""
        coverage = self._program.coverage
        untaught = 0.0 if coverage is None else coverage.most
        slowest = float(self._program.seconds[self._program.allowed].max())
        return slowest, float(self._program.loss.max(axis=1).sum()) + untaught

    @property
    def best_hypervolume(self) -> float:
        """The hypervolume of the exact frontier from `reference_point`: the most there is."""
        slowest, worst = self.reference_point
        times = [*(point.round_seconds for point in self.front), slowest]
        steps = zip(pairwise(times), self.front, strict=True)
        return sum((end - start) * (worst - point.loss) for (start, end), point in steps)

    def _allocation(self, params: Mapping[str, Any]) -> Allocation:
        """What the clients do; objective and constraints of a trial ask for the same one."""
        last = self._last
        if last is None or last[0] != params:
            last = self._last = dict(params), self._space.allocation(params)
        return last[1]


def _program(seed: int, num_clients: int) -> AllocationProblem:
    """A fleet of three device classes with skewed labels, and budgets that are scarce."""
    program = FAMILIES["federated"](seed, num_clients)
    budgets = [Budget(b.resource, b.usage, _SCARCITY * b.limit) for b in program.budgets]
    return replace(program, budgets=tuple(budgets))
