"""What is provably best in the model: what the regret of a search is measured against."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ....allocator import Dual, Frontier, solve
from ....allocator.arrays import FloatArray
from ..config.settings import LOSS, ROUND, SearchConfig
from ..hypervolume import corner_of, hypervolumes
from ..record import Reference
from .policy import Policies


def find_reference(policies: Policies, frontier: Frontier | None) -> Reference | None:
    """What no policy can beat that keeps the configuration's own menu and budgets.

    Of a trade-off the program is solved for itself, whose bound is tighter than the frontier's.

    Args:
        policies: Of the search.
        frontier: Their exact frontier, all points; None where it is not known.

    Returns:
        The reference; None where none is known: of a search that trains, has several seeds, or
        minimises or limits something else than round time and predicted loss.
    """
    config = policies.config
    if not has_reference(config):
        return None
    found = None if frontier is None else _of_frontier(config, frontier)
    if config.search.tradeoff is None:
        return found
    solved = _of_tradeoff(policies, config.search.tradeoff)
    both = [reference for reference in (found, solved) if reference is not None]
    if not both:
        return None
    return Reference(min(r.value for r in both), max(r.bound for r in both))


def has_reference(config: SearchConfig) -> bool:
    """Whether what is measured is what the program predicts of one problem."""
    search = config.search
    measured = {*search.objectives, *search.limits}
    return config.is_modelled and len(search.seeds) == 1 and measured <= {ROUND, LOSS}


def _of_frontier(config: SearchConfig, frontier: Frontier) -> Reference | None:
    limits = [config.search.limits.get(name, np.inf) for name in (ROUND, LOSS)]
    points = np.column_stack([frontier.round_seconds, frontier.loss])
    least = np.column_stack([frontier.round_seconds, np.maximum(frontier.loss - frontier.gap, 0)])
    kept, open_ = ((table <= limits).all(axis=1) for table in (points, least))
    if not kept.any():
        return None
    if len(config.objectives) == 2:
        corner = corner_of(points[kept])
        areas = [float(hypervolumes(t, corner)[-1]) for t in (points[kept], least[open_])]
        return Reference(areas[0], areas[1], corner)
    weights = _weights(config)
    return Reference(float((points[kept] @ weights).min()), float((least[open_] @ weights).min()))


def _weights(config: SearchConfig) -> FloatArray:
    """Of round time and loss in the single objective."""
    search = config.search
    if search.tradeoff is not None:
        return np.array([1.0, search.tradeoff])
    return np.array([float(search.objectives[0] == name) for name in (ROUND, LOSS)])


def _of_tradeoff(policies: Policies, tradeoff: float) -> Reference | None:
    """What `Dual` finds and proves of the program with the search's own limits."""
    problem, limits = policies.problem(), policies.config.search.limits
    whole = replace(
        problem,
        tradeoff=tradeoff,
        switching_seconds=None,
        deadline_seconds=_tighter(problem.deadline_seconds, limits.get(ROUND)),
        max_loss=_tighter(problem.max_loss, limits.get(LOSS)),
    )
    solution = solve(whole, Dual(), explain_infeasible=False)
    if not solution.status.has_allocation:
        return None
    return Reference(solution.allocation.objective, solution.bound)


def _tighter(own: float | None, other: float | None) -> float | None:
    given = [limit for limit in (own, other) if limit is not None]
    return min(given, default=None)
