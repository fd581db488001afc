"""Problems that are hard or awkward: correlations, ties, units, limits missed by a hair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..arrays import BoolArray, FloatArray
from ..coverage import Coverage
from ..problem import AllocationProblem
from ..terms import Budget
from .fleet_programs import LOSS_CURVE, MENU, TEACHES, WORK
from .random_program import random_program
from .variants import in_other_units

HAIR = 1e-4
"""By how much a limit is missed or kept in `infeasible_by_a_hair` and its twin, relative to it."""


def strongly_correlated(seed: int, num_clients: int, separable: bool = False) -> AllocationProblem:
    """What a client gains is its time and usage plus a small constant, so that no ratio stands out.

    The strongly correlated instances of Pisinger, "Where are the hard knapsack problems?" (2005),
    with three choices a client; the budget is half of what all would take.

    Args:
        seed: Of all random numbers.
        num_clients: Clients of the cohort.
        separable: Without the budget.

    Example:
        >>> problem = strongly_correlated(0, 3)
        >>> gain = (problem.loss[:, 0] - problem.loss[:, 2]) * 3
        >>> (gain - problem.budgets[0].usage[:, 2]).round(9)
        array([0.1, 0.1, 0.1])
    """
    rng = np.random.default_rng(seed)
    weight = rng.integers(1, 1001, (num_clients, 1)) / 1000
    usage = weight * np.array([0.0, 0.5, 1.0])
    loss = (weight + 0.1) - usage - 0.1 * np.array([0.0, 1.0, 1.0])
    budget = Budget("energy_joules", usage, 0.5 * float(weight.sum()))
    return AllocationProblem(
        MENU,
        10 * usage,
        np.maximum(loss, 0.0) / num_clients,
        tradeoff=float(rng.choice([10, 50, 1000])),
        budgets=() if separable else [budget],
    )


def subset_sum(seed: int, num_clients: int) -> AllocationProblem:
    """What a client gains is what it uses; whether the budget can be met exactly is the question.

    All usages are even. An even seed plants a choice that meets the limit exactly; an odd seed adds
    one to it, which nothing meets, but every relaxation does. There is no separable variant.

    Args:
        seed: Of all random numbers.
        num_clients: Clients of the cohort.

    Example:
        >>> problem = subset_sum(1, 3)
        >>> problem.budgets[0].limit % 2, float(problem.budgets[0].usage.sum() % 2)
        (1.0, 0.0)
    """
    rng = np.random.default_rng(seed)
    usage = 2.0 * rng.integers(1, 500, (num_clients, 1)) * np.array([0.0, 1.0, 2.0])
    planted = usage[np.arange(num_clients), rng.integers(0, 3, num_clients)].sum()
    limit = max(planted, usage[:, 1].min()) + seed % 2  # at least one client can take part
    loss = (usage[:, 2:] - usage) / usage[:, 2].sum()
    seconds = np.tile([0.0, 1.0, 1.0], (num_clients, 1))
    budget = Budget("uplink_bytes", usage, limit)
    return AllocationProblem(MENU, seconds, loss, deadline_seconds=1.0, budgets=[budget])


def ties(seed: int, num_clients: int, separable: bool = False) -> AllocationProblem:
    """Every number is one of a few small integers, so that many allocations are equal.

    Args:
        seed: Of all random numbers.
        num_clients: Clients of the cohort.
        separable: Without budget, coverage and participation.

    Example:
        >>> np.unique(ties(0, 100).seconds)
        array([0., 1., 2., 3.])
    """
    rng = np.random.default_rng(seed)
    shape = num_clients, 3
    seconds = rng.integers(1, 4, shape) * (WORK > 0)
    loss = rng.integers(0, 3, shape) / num_clients
    usage, labels = rng.integers(0, 3, shape), rng.integers(0, 3, shape)
    problem = AllocationProblem(
        MENU,
        seconds,
        loss,
        tradeoff=(3.0, None, None)[seed % 3],
        deadline_seconds=(None, 2.0, None)[seed % 3],
        max_loss=(None, None, 1.0)[seed % 3],
    )
    if separable:
        return problem
    return replace(
        problem,
        budgets=(Budget("uplink_bytes", usage, 0.75 * num_clients),),
        coverage=Coverage(labels, TEACHES, LOSS_CURVE, population=labels.sum(axis=0) + 1),
        min_participation=0.25,
    )


def all_equal(seed: int, num_clients: int, separable: bool = False) -> AllocationProblem:
    """All clients are the same: any exchange of two changes nothing.

    Args:
        seed: Of the trade-off and the budget.
        num_clients: Clients of the cohort.
        separable: Without budget and coverage.

    Example:
        >>> np.ptp(all_equal(0, 5).loss, axis=0)
        array([0., 0., 0.])
    """
    rng = np.random.default_rng(seed)
    labels = np.ones((num_clients, 2))
    usage = np.tile([0.0, 1.0, 2.0], (num_clients, 1))
    limit = max(1.0, np.floor(2 * num_clients * rng.random()))
    return AllocationProblem(
        MENU,
        np.tile([0.0, 1.0, 1.5], (num_clients, 1)),
        np.tile([0.4, 0.1, 0.0], (num_clients, 1)) / num_clients,
        tradeoff=float(rng.choice([1, 4, 30])),
        budgets=() if separable else [Budget("uplink_bytes", usage, limit)],
        coverage=None if separable else Coverage(labels, TEACHES, LOSS_CURVE),
    )


def extreme_scales(seed: int, num_clients: int, separable: bool = False) -> AllocationProblem:
    """A random program whose seconds, losses and usages have units from 1e-9 to 1e9.

    Two of three seeds move the trade-off along; the third leaves it, so that one term of the
    objective nearly drowns the other.

    Args:
        seed: Of all random numbers.
        num_clients: Clients of the cohort.
        separable: Without what `Sweep` refuses.

    Example:
        >>> extreme_scales(0, 3).num_clients
        3
    """
    seconds, loss, usage = 10.0 ** np.random.default_rng(seed).integers(-9, 10, 3)
    problem = random_program(seed, num_clients, separable)
    keep = seed % 3 == 2
    return in_other_units(problem, seconds=seconds, loss=loss, usage=usage, keep_tradeoff=keep)


def infeasible_by_a_hair(seed: int, num_clients: int, separable: bool = False) -> AllocationProblem:
    """One limit (the seed says which) is out of reach by `HAIR`, relative to it.

    Args:
        seed: Of all random numbers.
        num_clients: Clients of the cohort.
        separable: Only a deadline or a maximum loss.

    Example:
        >>> problem = infeasible_by_a_hair(0, 5)
        >>> bool(problem.deadline_seconds < problem.seconds[:, 1:].min(axis=1).max())
        True
    """
    return _at_a_hair(seed, num_clients, separable, -HAIR)


def feasible_by_a_hair(seed: int, num_clients: int, separable: bool = False) -> AllocationProblem:
    """The twin of `infeasible_by_a_hair`: the same tables, and the limit is within reach.

    Args:
        seed: Of all random numbers.
        num_clients: Clients of the cohort.
        separable: Only a deadline or a maximum loss.

    Example:
        >>> problem = feasible_by_a_hair(0, 5)
        >>> bool(problem.deadline_seconds < problem.seconds[:, 1:].min(axis=1).max())
        False
    """
    return _at_a_hair(seed, num_clients, separable, HAIR)


def _at_a_hair(seed: int, num_clients: int, separable: bool, slack: float) -> AllocationProblem:
    rng = np.random.default_rng(seed)
    shape = num_clients, 3
    seconds = rng.lognormal(0, 1, shape) * (WORK > 0)
    loss, usage = rng.random(shape) / num_clients, rng.random(shape)
    kind = seed % 2 if separable else seed % (4 if num_clients > 1 else 3)
    allowed = _who_can_skip(rng, num_clients, kind == 3)
    more = 1 + slack

    def least(table: FloatArray) -> FloatArray:
        return np.asarray(np.where(allowed, table, np.inf).min(axis=1))

    limit = float(least(usage).sum()) * more if kind == 2 else float(num_clients)
    return AllocationProblem(
        MENU,
        seconds,
        loss,
        tradeoff=5.0,
        deadline_seconds=float(least(seconds).max()) * more if kind == 0 else None,
        max_loss=float(least(loss).sum()) * more if kind == 1 else None,
        allowed=allowed,
        budgets=() if separable else [Budget("energy_joules", usage, limit)],
        min_participation=float(allowed[:, 1].mean()) / more if kind == 3 else None,
    )


def _who_can_skip(rng: np.random.Generator, num_clients: int, some_must: bool) -> BoolArray:
    """A mask under which nobody may skip, or some clients must and all others may."""
    allowed = np.ones((num_clients, 3), dtype=bool)
    if some_must:
        absent = rng.random(num_clients) < 0.3
        absent[:2] = True, False
        allowed[absent, 1:] = False
    else:
        allowed[:, 0] = False
    return allowed
