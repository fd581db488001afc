"""Trials that are proposed before the sampler's own: uniform arms, the exact frontier, a screening.

All take the configuration's own values where the space has them, so that they differ in nothing but
what they are there for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....allocator import Frontier, Strategy
from ....allocator.arrays import FloatArray, IntArray
from ..config.checks import readers
from ..config.settings import LOSS, ROUND, SearchConfig
from ..config.space import ARM, BITS, CLIENTS, WIRE_BITS, Choices, Range, encoded
from .objective import arms
from .policy import Policies
from .sampling import takes_arms
from .screening import screened

_MOST = 8  # points of a frontier
_KNOBS = ("pick_loss", "tradeoff", "max_loss", "deadline_seconds")
"""Keys of the allocation that move along the frontier, the surest first."""
_LOOSEST = {
    "allocation.deadline_seconds": "high",
    "allocation.max_loss": "high",
    "allocation.uplink_bytes": "high",
    "allocation.energy_joules": "high",
    "allocation.min_participation": "low",
}
"""Limits, and the end of their range that limits least."""


@dataclass(frozen=True)
class Seeded:
    """A trial to propose.

    Args:
        params: As Optuna has them; what is missing the sampler adds.
        source: Who proposes it: `uniform`, `frontier` or `screen`.
    """

    params: dict[str, Any]
    source: str


def seed_trials(policies: Policies) -> list[Seeded]:
    """The trials to propose first, in order.

    Args:
        policies: Of the search.

    Raises:
        FedHQError: If a frontier cannot be computed.
    """
    config = policies.config
    named = arms(config) if takes_arms(config) else []
    seeded = [Seeded({ARM: name}, "uniform") for name in named]
    points = frontier_trials(policies)
    own = own_values(config)
    front = screened(config, [point.params for point in points])
    return [*seeded, *points, *(Seeded({**own, **params}, "screen") for params in front)]


def frontier_trials(policies: Policies) -> list[Seeded]:
    """Policies that reach about eight supported points of the exact frontier.

    The first of pick_loss, tradeoff, max_loss and deadline_seconds that the space has is what moves
    along the frontier. Each is planned before it is proposed; two that come to the same are one.

    Args:
        policies: Of the search.
    """
    space, own = policies.config.space, own_values(policies.config)
    found = _knob(policies.config, own)
    if found is None:
        return []
    name, own = found
    frontier = policies.frontier(own)
    if frontier is None:
        return []
    key = f"allocation.{name}"
    values = space[key]
    assert isinstance(values, Range)
    reached: dict[tuple[float, float], Seeded] = {}
    for k in spread(frontier.round_seconds, frontier.loss, _MOST):
        value = _within(values, *_interval(name, frontier, int(k)))
        if value is None:
            continue
        params = {**own, key: value}
        plan = policies.plan(params)
        if plan.solution.status.has_allocation:
            point = plan.measures[ROUND], plan.measures[LOSS]
            reached.setdefault(point, Seeded(params, "frontier"))
    return list(reached.values())


def own_values(config: SearchConfig) -> dict[str, Any]:
    """The configuration's own values of what is searched, as Optuna has them.

    What it does not limit is limited least; what the space does not hold is missing.
    """
    own = {}
    for key, values in config.space.items():
        value = None if key == CLIENTS else _own(config, key)
        if isinstance(values, Range):
            if value is None and key in _LOOSEST:
                value = values.ends()[_LOOSEST[key]]
            if isinstance(value, int | float) and values.low <= value <= values.high:
                own[key] = value if values.is_whole else float(value)
        elif encoded(value) in map(encoded, values.choices):
            own[key] = encoded(value)
    return own


def _own(config: SearchConfig, key: str) -> Any:
    """What the configuration says of a key; None where nothing."""
    if key == BITS:
        bits = {config.table["weight_bits"], config.table["activation_bits"]}
        return bits.pop() if len(bits) == 1 else None
    if key == WIRE_BITS:
        wires = {Strategy.parse(s).wire_bits for s in config.menu if s[:3] in ("ptq", "qat")}
        return wires.pop() if len(wires) == 1 else None
    place: Any = config.table
    for part in key.split("."):
        place = place[int(part)] if isinstance(place, list) else place.get(part)
    return place


def _knob(config: SearchConfig, own: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """What moves along the frontier, and the own values with a solver that reads it."""
    offered = config.space.get("allocation.solver")
    base = own.get("allocation.solver", config.table["allocation"]["solver"])
    solvers = [base, *(offered.choices if isinstance(offered, Choices) else ())]
    for name in _KNOBS:
        if isinstance(config.space.get(f"allocation.{name}"), Range):
            for solver in solvers:
                if solver in readers(name):
                    chosen = {"allocation.solver": solver} if offered is not None else {}
                    return name, {**own, **chosen}
    return None


def _interval(name: str, frontier: Frontier, k: int) -> tuple[float, float]:
    """The values of a knob with which a point is picked."""
    times, losses = frontier.round_seconds, frontier.loss
    worse = math.inf if k == 0 else float(losses[k - 1])
    slower = math.inf if k == len(frontier) - 1 else float(times[k + 1])
    match name:
        case "pick_loss":
            return float(losses[k] - losses[-1]), worse - float(losses[-1])
        case "max_loss":
            return float(losses[k]), worse
        case "deadline_seconds":
            return float(times[k]), slower
    rates = (times - times[k]) / np.where(losses == losses[k], np.nan, losses[k] - losses)
    return float(np.nanmax(rates[:k], initial=0.0)), float(
        np.nanmin(rates[k + 1 :], initial=np.inf)
    )


def _within(values: Range, low: float, high: float) -> float | None:
    """The middle of an interval as far as the range holds it; None where it does not."""
    low, high = max(low, float(values.low)), min(high, float(values.high))
    if low > high:
        return None
    middle = math.sqrt(low * high) if values.log else (low + high) / 2
    if values.step is None:
        return middle
    return float(values.low + round((middle - values.low) / values.step) * values.step)


def spread(round_seconds: FloatArray, loss: FloatArray, most: int) -> IntArray:
    """Indices of at most so many supported points, evenly along the lower hull, ends among them.

    Args:
        round_seconds: `(points,)` rising.
        loss: `(points,)` falling.
        most: How many at most, 2 or more.

    Example:
        >>> spread(np.array([1.0, 2.0, 3.0, 4.0]), np.array([9.0, 8.5, 1.0, 0.0]), 8)
        array([0, 2, 3])
    """
    hull: list[int] = []
    for k in range(len(loss)):
        while len(hull) > 1 and _is_above(hull[-2], hull[-1], k, round_seconds, loss):
            hull.pop()
        hull.append(k)
    corners: IntArray = np.array(hull)
    if len(corners) <= most:
        return corners
    steps = np.hypot(
        np.diff(round_seconds[corners]) / np.ptp(round_seconds),
        np.diff(loss[corners]) / np.ptp(loss),
    )
    along = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.linspace(0.0, along[-1], most)
    nearest: IntArray = np.unique(np.abs(along - wanted[:, None]).argmin(axis=1))
    return corners[nearest]


def _is_above(a: int, b: int, c: int, times: FloatArray, losses: FloatArray) -> bool:
    """Whether b lies on or above the chord from a to c."""
    rise, run = losses[c] - losses[a], times[c] - times[a]
    return bool((losses[b] - losses[a]) * run >= rise * (times[b] - times[a]))
