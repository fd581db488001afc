"""Evaluates a policy in the model: what the program itself predicts of the first round."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ....allocator import InfeasibleError, Status
from ..config.space import Params
from .policy import Plan, Policies


class InfeasiblePolicyError(InfeasibleError):
    """A policy that leaves no allocation.

    Args:
        reason: Why, in words.
        excess: By how much the nearest allocation exceeds the policy's limits; > 0.
    """

    def __init__(self, reason: str, excess: float) -> None:
        super().__init__(reason)
        self.excess = excess


@dataclass(frozen=True)
class Measured:
    """What came of a policy with one seed.

    Args:
        measures: By name; of a round, but `seconds_to_target`.
        menu: The strategies that were on offer.
        clients: Ids of the clients of the first round, rising.
        choice: What each of them did, a digit (base 36) each, into `menu`.
        bottleneck: Id of the slowest of them; None if all skipped.
        solver: Who decided.
        status: Of its solution.
        gap: Of its solution; None where nothing is proven.
        diverged: Why training came to nothing that can be deployed; empty where it did not.
    """

    measures: Mapping[str, float]
    menu: tuple[str, ...]
    clients: tuple[int, ...]
    choice: str
    bottleneck: int | None
    solver: str
    status: str
    gap: float | None
    diverged: str = ""


class Evaluator(Protocol):
    """Measures a policy with a seed."""

    def __call__(self, params: Params, seed: int, /) -> Measured:
        """What came of it.

        Raises:
            InfeasiblePolicyError: If it leaves no allocation.
            FedHQError: If it cannot be evaluated.
        """
        ...


@dataclass(frozen=True)
class Modelled:
    """Evaluates in the model.

    Args:
        policies: That are planned.
    """

    policies: Policies

    def __call__(self, params: Params, seed: int, /) -> Measured:
        """The program's own predictions of the first round."""
        plan = feasible_plan(self.policies, params, seed)
        return measured(plan, plan.measures)


def feasible_plan(policies: Policies, params: Params, seed: int) -> Plan:
    """A policy's plan.

    Raises:
        InfeasiblePolicyError: If it leaves no allocation, or a rule's breaks a limit.
    """
    plan = policies.plan(params, seed)
    solution = plan.solution
    if solution.status.has_allocation:
        return plan
    proven = solution.status is Status.INFEASIBLE
    reason = solution.message or "no allocation keeps every limit."
    raise InfeasiblePolicyError(reason if proven else f"{solution.solver}: {reason}", plan.excess)


def measured(plan: Plan, measures: Mapping[str, float]) -> Measured:
    """What was measured, beside what the plan tells."""
    gap = plan.solution.gap
    return Measured(
        measures=measures,
        menu=plan.menu,
        clients=plan.clients,
        choice=plan.choice,
        bottleneck=plan.bottleneck,
        solver=plan.solution.solver,
        status=str(plan.solution.status),
        gap=gap if math.isfinite(gap) else None,
    )
