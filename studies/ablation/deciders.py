"""Solvers as they decide in a federation: stopped by their own work instead of by the clock.

Inside a federation nothing depends on how fast the machine is, so that the same seed trains the
same model everywhere.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

from ...allocator import Solver
from .contestants import Contestant, contestant

NODES = 2_000
"""Nodes of branch and bound that a solver may search for a round's allocation."""
EFFORT = 4.0
"""What CP-SAT counts as seconds of work."""

_BY_WORK = {
    "time_limit_seconds": None,
    "node_limit": NODES,
    "effort": EFFORT,
    "deterministic": True,  # CP-SAT's strategies take turns; which is first is a race otherwise
}


def decider(name: str) -> Contestant:
    """A solver of the study as it decides in federations.

    Args:
        name: One of `contestants.NAMES`.

    Raises:
        ValueError: If there is no such solver.

    Example:
        >>> decider("exact").settings
        'Exact(gap=0.0, time_limit_seconds=None, node_limit=2000)'
    """
    one = contestant(name, 1.0)
    return one if one.solver is None else replace(one, solver=stopped_by_work(one.solver))


def stopped_by_work(solver: Solver) -> Solver:
    """The solver with limits of its work instead of the clock's.

    All solvers call their limits alike. One that has none of these ends by itself: rules and
    heuristics when they are through, searches after their trials, cvxpy's backends with a proof.
    """
    if not is_dataclass(solver) or isinstance(solver, type):
        return solver
    own = {field.name for field in fields(solver)}
    return replace(solver, **{name: value for name, value in _BY_WORK.items() if name in own})
