"""How far a search is from what is provably best, trial by trial.

Only the analytic model has an exact frontier. Of one objective the regret is the relative excess
over the exact optimum, of two the share of the exact frontier's hypervolume that is still missing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from ....allocator.arrays import BoolArray, FloatArray, IntArray
from ..record import SOURCES
from .view import ACCURACY_LOSS, ROUND_SECONDS, State, StudyView

EXCESS = "above the exact optimum"
MISSING = "hypervolume missing"
REACHED = "hypervolume of the final front"
_LEAST_OBJECTIVE = 1e-9  # below it an excess would be relative to nothing
_MARGIN = 0.1  # of the exact frontier's extent: how far beyond its ends hypervolumes reach


@dataclass(frozen=True, eq=False)
class Course:
    """A measure of a search after each of its finished trials.

    Args:
        measure: In words, what `values` are.
        reference: What they are measured against: an objective or a hypervolume.
        corner: Up to where hypervolumes reach, `(seconds, loss)`; None for one objective.
        trials: `(finished,)` numbers of the finished trials, rising.
        values: `(finished,)` the measure after each; NaN before the first feasible one.
    """

    measure: str
    reference: float
    corner: tuple[float, float] | None
    trials: IntArray
    values: FloatArray

    @property
    def last(self) -> float:
        """After all trials; NaN where none was feasible."""
        return float(self.values[-1]) if len(self.values) else float("nan")

    def steps(self) -> tuple[IntArray, FloatArray]:
        """The trials after which it changed, and the last one, with its values there."""
        known = np.isfinite(self.values)
        changed = np.concatenate([[True], self.values[1:] != self.values[:-1]])[: len(known)]
        keep = known & changed
        keep[-1:] = known[-1:]
        return self.trials[keep], self.values[keep]


@dataclass(frozen=True)
class Unclaimed:
    """No regret can be claimed, and why."""

    reason: str


def find_regret(view: StudyView, sources: Collection[str] = SOURCES) -> Course | Unclaimed:
    """The regret of a study after each of its finished trials.

    It is below zero where trials beat the frontier of the base configuration, as another menu may.

    Args:
        view: The study.
        sources: Only what these proposed counts; `("sampler",)` leaves out what was given to it.

    Returns:
        The regret, or why there is none.
    """
    exact = exact_points(view)
    if isinstance(exact, Unclaimed):
        return exact
    if view.has_one_objective:
        z = view.tradeoff
        axis = 0 if z is not None else view.axes.index(view.objectives[0])
        values = exact[:, axis] if z is None else exact[:, 0] + z * exact[:, 1]
        course = _least_so_far(view, sources)
        least = float(values.min())
        excess = (course.values - least) / max(abs(least), _LEAST_OBJECTIVE)
        return replace(course, measure=EXCESS, reference=least, values=excess)
    course = _hypervolume_so_far(view, sources, _corner(exact))
    whole = float(hypervolumes(exact, _corner(exact))[-1])
    return replace(course, measure=MISSING, reference=whole, values=1 - course.values / whole)


def find_progress(view: StudyView) -> Course | None:
    """How a study came to its own best: the least objective, or the share of its hypervolume.

    The hypervolume is that of both axes, whatever else is traded. None where no trial is feasible.
    """
    if not len(view.front):
        return None
    if view.has_one_objective:
        return _least_so_far(view, SOURCES)
    course = _hypervolume_so_far(view, SOURCES, _corner(view.points[view.front]))
    drawn = f", of {' and '.join(view.axes)} only" if view.others else ""
    share = course.values / course.last
    return replace(course, measure=REACHED + drawn, reference=course.last, values=share)


def exact_points(view: StudyView) -> FloatArray | Unclaimed:
    """`(points, 2)` of the exact frontier that keep the study's limits, or why there are none."""
    if view.evaluated != "model":
        return Unclaimed(
            "Trials were trained: the exact frontier predicts a loss, not the accuracy that was "
            "measured, so no regret is claimed."
        )
    if not view.record.frontier:
        return Unclaimed("The study holds no exact frontier, so no regret is claimed.")
    known = {ROUND_SECONDS, ACCURACY_LOSS}
    if unknown := sorted(set(view.objectives) - known):
        return Unclaimed(
            f"The exact frontier is of {ROUND_SECONDS} and {ACCURACY_LOSS}, not of "
            f"{' and '.join(unknown)}, so no regret is claimed."
        )
    if others := sorted(set(view.record.limits) - known):
        return Unclaimed(
            f"The study limits {', '.join(others)}, of which the exact frontier knows nothing, so "
            "no regret is claimed."
        )
    limits = [view.record.limits.get(axis, np.inf) for axis in (ROUND_SECONDS, ACCURACY_LOSS)]
    points = np.array(view.record.frontier, dtype=float)
    points = points[(points <= limits).all(axis=1)]
    if not len(points):
        return Unclaimed("No point of the exact frontier keeps the limits.")
    return points


def _least_so_far(view: StudyView, sources: Collection[str]) -> Course:
    numbers, places, usable = _finished(view, sources)
    best = np.minimum.accumulate(np.where(usable, view.values, np.inf)[places])
    values = np.where(np.isfinite(best), best, np.nan)
    return Course(view.objective, float("nan"), None, numbers, values)


def _hypervolume_so_far(
    view: StudyView, sources: Collection[str], corner: tuple[float, float]
) -> Course:
    numbers, places, usable = _finished(view, sources)
    areas = hypervolumes(np.where(usable[:, None], view.points, np.inf)[places], corner)
    values = np.where(np.maximum.accumulate(usable[places]), areas, np.nan)
    return Course("hypervolume", float("nan"), corner, numbers, values)


def _finished(view: StudyView, sources: Collection[str]) -> tuple[IntArray, IntArray, BoolArray]:
    """Numbers and places of the trials that ended with values, and which trials count."""
    places = np.flatnonzero([t.state in (State.COMPLETE, State.PRUNED) for t in view.trials])
    numbers = np.array([view.trials[k].number for k in places], dtype=np.int64)
    return numbers, places, view.feasible & np.array([t.source in sources for t in view.trials])


def _corner(exact: FloatArray) -> tuple[float, float]:
    """Beyond the frontier's slowest and least accurate point by a tenth of its extent."""
    low, high = exact.min(axis=0), exact.max(axis=0)
    extent = np.where(high > low, high - low, np.where(high > 0, high, 1.0))
    seconds, loss = high + _MARGIN * extent
    return float(seconds), float(loss)


def hypervolumes(points: FloatArray, corner: tuple[float, float]) -> FloatArray:
    """The area that the first 1, 2, ... points dominate together, up to a corner.

    Args:
        points: `(points, 2)`, less is better; those beyond the corner, infinite ones too, add 0.
        corner: The worst of both.

    Returns:
        `(points,)` areas, never falling.

    Example:
        >>> hypervolumes(np.array([[1.0, 2.0], [2.0, 1.0], [2.5, 2.5]]), (3.0, 3.0))
        array([2., 3., 3.])
    """
    areas = np.zeros(len(points))
    xs: list[float] = []  # the points that none so far dominates: rising, and their y falling
    ys: list[float] = []
    area = 0.0
    for k, (x, y) in enumerate(points.tolist()):
        before = bisect_right(xs, x)
        above = ys[before - 1] if before else corner[1]
        if x < corner[0] and y < above:
            first = bisect_left(xs, x)
            area += _added(x, y, xs, ys, before, corner)
            end = first
            while end < len(xs) and ys[end] >= y:
                end += 1
            xs[first:end], ys[first:end] = [x], [y]
        areas[k] = area
    return areas


def _added(
    x: float, y: float, xs: list[float], ys: list[float], k: int, corner: tuple[float, float]
) -> float:
    """What a new point adds: rectangles down to its y, as wide as each step of the front."""
    above = ys[k - 1] if k else corner[1]
    area = 0.0
    while above > y:
        end = xs[k] if k < len(xs) else corner[0]
        area += (end - x) * (above - y)
        if k == len(xs):
            break
        x, above, k = end, ys[k], k + 1
    return area
