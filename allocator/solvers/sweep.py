"""`Sweep`: the exact optimum of the separable program by one pass over time thresholds.

For a fixed round time T every client takes its cheapest strategy that ends by T, so the total cost
is a step function of T that falls at some `seconds[i, s]`, and an optimum is at one of these steps
(design section 3). The same pass gives the whole frontier of time and cost.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import FloatArray
from ..problem import AllocationProblem
from ..solution import Answer, Status
from .steps import Goal, Steps
from .window import MAX_STRATEGIES, steps_near_optimum

_LARGE = 1 << 16  # entries of a table from which a window pays


@dataclass(frozen=True)
class Sweep:
    """Exact for makespan, separable loss, masks, deadline, maximum loss and switching price.

    Refuses what is not separable: budgets, coverage, minimum participation, and a maximum loss
    together with a switching price. Among equal optima it takes the smallest round time, then the
    fastest strategy, then the first of the menu.

    Example:
        >>> problem = AllocationProblem(("skip", "qat-w2a2"), [[0, 2], [0, 9]],
        ...                             [[.3, 0], [.3, 0]], tradeoff=10.0)
        >>> Sweep()(problem).choice
        array([1, 0])
    """

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem."""
        _refuse_inseparable(problem)
        cost, weight = problem.loss, problem.loss_weight
        if problem.switching_seconds is not None:
            cost, weight = weight * cost + problem.switching_seconds, 1.0
        goal = Goal.of(problem, weight)
        steps = _steps(problem, cost, goal)
        best = goal.best(steps.thresholds, steps.costs)
        if best is None:
            return Answer(Status.INFEASIBLE)
        choice = steps.choose(float(steps.thresholds[best]))
        bound = goal.value(steps.thresholds[best : best + 1], steps.costs[best : best + 1])
        return Answer(Status.OPTIMAL, choice, float(bound[0]))


def _steps(problem: AllocationProblem, cost: FloatArray, goal: Goal) -> Steps:
    """The steps of a problem; of a large one only some, the best among them."""
    if cost.size >= _LARGE and cost.shape[1] <= MAX_STRATEGIES:
        return steps_near_optimum(problem, cost, goal)
    return Steps.of(problem.seconds, cost, problem.allowed, problem.participates)


def is_separable(problem: AllocationProblem) -> bool:
    """Whether a sweep finds every best trade of round time against loss."""
    return not _inseparable(problem)


def _inseparable(problem: AllocationProblem) -> list[str]:
    terms = {
        "budgets": bool(problem.budgets),
        "counts": bool(problem.counts),
        "coverage": problem.coverage is not None,
        "min_participation": problem.min_participation > 0 and not problem.participates.all(),
    }
    return [name for name, given in terms.items() if given]


def _refuse_inseparable(problem: AllocationProblem) -> None:
    present = _inseparable(problem)
    if problem.max_loss is not None and problem.switching_seconds is not None:
        present.append("max_loss together with switching_seconds")
    if present:
        raise ValueError(
            f"Sweep cannot handle `{'`, `'.join(present)}`: it is exact for separable problems "
            "only. Use Milp() or Cvx()."
        )
