"""Policies: what a program may be told to assume, so that its solver decides otherwise.

Who decides per client need not know what is wrong with the predicted loss. It is told another
trade-off, an earlier deadline and another worth of coverage, three numbers for a fleet of any size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import FloatArray
from ..check import possible_times
from ..problem import AllocationProblem

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_TRADEOFFS = 30.0  # either way, around the problem's own
_COVERAGE = 4.0  # either way


@dataclass(frozen=True)
class Policy:
    """What the program assumes.

    Args:
        tradeoff: Seconds per unit of loss.
        deadline_seconds: Upper limit of the round time.
        coverage_weight: Factor of the loss that depends on coverage.
    """

    tradeoff: float
    deadline_seconds: float
    coverage_weight: float

    def program(self, problem: AllocationProblem) -> AllocationProblem:
        """The problem as the policy sees it; all other limits stay.

        Example:
            >>> problem = AllocationProblem(("fp32",), [[1]], [[.1]], tradeoff=10.0)
            >>> Policy(20.0, 1.0, 1.0).program(problem).objective(np.array([0]))
            3.0
        """
        term = problem.coverage
        if term is not None:
            curve = term.loss_curve * np.array([1.0, self.coverage_weight])
            price = term.unevenness_price * self.coverage_weight
            term = replace(term, loss_curve=curve, unevenness_price=price)
        return replace(
            problem,
            tradeoff=self.tradeoff,
            deadline_seconds=self.deadline_seconds,
            coverage=term,
        )


@dataclass(frozen=True, eq=False)
class PolicySpace:
    """The policies of a problem, as what Optuna proposes.

    Args:
        tradeoffs: The least and the largest.
        own_tradeoff: The problem's own, or the nearest to its goal.
        times: `(times,)` the round times that an allocation may have, rising.
        has_coverage: Whether the weight of coverage means anything.
    """

    tradeoffs: tuple[float, float]
    own_tradeoff: float
    times: FloatArray
    has_coverage: bool

    @classmethod
    def of(cls, problem: AllocationProblem) -> PolicySpace:
        """The space of a problem in which every client can do something before the deadline.

        Without a trade-off that of the largest time against the largest loss stands in the middle.

        Raises:
            ValueError: If the problem does not say what to minimise.
        """
        times = possible_times(problem)
        middle = problem.tradeoff or (float(times[-1]) or 1.0) / (_largest_loss(problem) or 1.0)
        low, high = middle / _TRADEOFFS, middle * _TRADEOFFS
        only_loss, only_time = problem.time_weight == 0, problem.loss_weight == 0
        own = high if only_loss else low if only_time else middle
        return cls((low, high), own, times, problem.coverage is not None)

    def distributions(self) -> dict[str, BaseDistribution]:
        """What Optuna draws from; what cannot differ is left out."""
        from optuna.distributions import FloatDistribution, IntDistribution

        space: dict[str, BaseDistribution] = {
            "tradeoff": FloatDistribution(*self.tradeoffs, log=True)
        }
        if len(self.times) > 1:
            space["time"] = IntDistribution(0, len(self.times) - 1)
        if self.has_coverage:
            space["coverage_weight"] = FloatDistribution(1 / _COVERAGE, _COVERAGE, log=True)
        return space

    @property
    def own(self) -> dict[str, float | int]:
        """The parameters of the policy that is nearest to the problem itself."""
        last = len(self.times) - 1
        every = {"tradeoff": self.own_tradeoff, "time": last, "coverage_weight": 1.0}
        return {name: every[name] for name in self.distributions()}

    def policy(self, parameters: Mapping[str, Any], time: int) -> Policy:
        """The policy of the parameters that Optuna proposed, at a place in `times`."""
        weight = parameters.get("coverage_weight", 1.0)
        return Policy(parameters["tradeoff"], float(self.times[time]), weight)


def _largest_loss(problem: AllocationProblem) -> float:
    """The sum of everybody's largest loss, and the most that the data taught may cost."""
    term = problem.coverage
    own = float(np.where(problem.allowed, problem.loss, 0.0).max(axis=1).sum())
    return own + (0.0 if term is None else term.most)
