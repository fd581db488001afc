"""The two search spaces of the benchmark: a policy of three numbers, or a category a client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from fedhq.allocator import (
    Allocation,
    AllocationProblem,
    Budget,
    Exact,
    Solution,
    solve,
)

_SHARES = (0.8, 1.25)  # of a budget, to plan with; above 1 a plan may spend too much


class Space(Protocol):
    """What the parameters of a trial mean."""

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The parameters by name."""
        ...

    def allocation(self, params: Mapping[str, Any]) -> Allocation:
        """What every client does under some parameters."""
        ...

    def params_of(self, allocation: Allocation) -> dict[str, Any]:
        """Parameters that lead to an allocation of the frontier, or to one as good."""
        ...


@dataclass(frozen=True, eq=False)
class ClientSpace:
    """A parameter for every client: what it does.

    Args:
        program: The allocation program.
    """

    program: AllocationProblem

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """`client_<name>`: the strategies that the client can do."""
        menu = np.array([str(s) for s in self.program.strategies])
        return {
            name: CategoricalDistribution(menu[allowed].tolist())
            for name, allowed in zip(self._names, self.program.allowed, strict=True)
        }

    def allocation(self, params: Mapping[str, Any]) -> Allocation:
        """The parameters, read."""
        place = {str(s): k for k, s in enumerate(self.program.strategies)}
        return Allocation.of(self.program, np.array([place[params[name]] for name in self._names]))

    def params_of(self, allocation: Allocation) -> dict[str, Any]:
        """The parameters of any allocation."""
        return {name: str(allocation.strategy(i)) for i, name in enumerate(self._names)}

    @property
    def _names(self) -> list[str]:
        return [f"client_{name}" for name in self.program.clients]


@dataclass(frozen=True, eq=False)
class PolicySpace:
    """Parameters of a rule for the whole fleet: least loss within a deadline and some budgets.

    An exact solver finds what follows for the clients. A deadline that is the round time of an
    allocation of the frontier, and all of every budget, lead to it or to one as good. Shares that
    are too small for the deadline count as 1, so every policy leads to an allocation.

    Args:
        program: The allocation program.
    """

    program: AllocationProblem

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """`deadline_seconds`, from the fastest round on, and `<resource>_share` of every budget.

        Raises:
            InfeasibleError: If the budgets suffice for no round at all.
        """
        anything = float(self.program.loss.max(axis=1).sum()) + 1.0  # coverage costs 1 at most
        planned = replace(self.program, tradeoff=None, max_loss=anything)
        fastest = solve(planned, Exact()).allocation.round_seconds
        slowest = float(self.program.seconds[self.program.allowed].max())
        return {
            "deadline_seconds": FloatDistribution(fastest, slowest, log=True),
            **{name: FloatDistribution(*_SHARES) for name in self._share_names},
        }

    def allocation(self, params: Mapping[str, Any]) -> Allocation:
        """The plan that a policy leads to."""
        shares = [float(params[name]) for name in self._share_names]
        thrifty = self._least_loss(shares, params["deadline_seconds"])
        if thrifty.status.has_allocation:
            return Allocation.of(self.program, thrifty.allocation.choice)
        wasteful = self._least_loss([max(s, 1.0) for s in shares], params["deadline_seconds"])
        return Allocation.of(self.program, wasteful.allocation.choice)

    def params_of(self, allocation: Allocation) -> dict[str, Any]:
        """A policy that leads to an allocation of the frontier, or to one as good."""
        whole = dict.fromkeys(self._share_names, 1.0)
        return {"deadline_seconds": allocation.round_seconds, **whole}

    @property
    def _share_names(self) -> list[str]:
        return [f"{budget.resource}_share" for budget in self.program.budgets]

    def _least_loss(self, shares: Sequence[float], deadline_seconds: float) -> Solution:
        budgets = tuple(
            Budget(budget.resource, budget.usage, share * budget.limit)
            for budget, share in zip(self.program.budgets, shares, strict=True)
        )
        planned = replace(
            self.program, tradeoff=None, deadline_seconds=deadline_seconds, budgets=budgets
        )
        return solve(planned, Exact(), explain_infeasible=False)
