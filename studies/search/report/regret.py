"""How far a search is from what is provably best, trial by trial.

Only the analytic model has an exact frontier. Of one objective the regret is the relative excess
over the optimum, of two the share of the frontier's hypervolume that is still missing; both are in
the study's record, with the bound that is proven of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ....allocator.arrays import BoolArray, FloatArray, IntArray
from ..hypervolume import corner_of, hypervolumes
from ..record import SOURCES, Reference
from .view import ACCURACY_LOSS, ROUND_SECONDS, State, StudyView

EXCESS = "above the exact optimum"
MISSING = "hypervolume missing"
REACHED = "hypervolume of the final front"
_NO_FRONTIER = "The study holds no exact frontier, so no regret is claimed."
LEAST_GAP = 1e-5
"""What is not proven is told from here on; below it is rounding."""
_LEAST_OBJECTIVE = 1e-9  # below it an excess would be relative to nothing


@dataclass(frozen=True, eq=False)
class Course:
    """A measure of a search after each of its finished trials.

    Args:
        measure: In words, what `values` are.
        reference: What they are measured against, and what is proven of that.
        trials: `(finished,)` numbers of the finished trials, rising.
        values: `(finished,)` the measure after each; NaN before the first feasible one.
    """

    measure: str
    reference: Reference
    trials: IntArray
    values: FloatArray

    @property
    def last(self) -> float:
        """After all trials; NaN where none was feasible."""
        return float(self.values[-1]) if len(self.values) else float("nan")

    def at_most(self, regret: float) -> float:
        """The most that a regret can be, if what is best is as good as its bound.

        Example:
            >>> nothing = np.zeros(0)
            >>> Course(EXCESS, Reference(8.0, 7.5), nothing, nothing).at_most(0.25)
            0.3333333333333333
        """
        value, bound = self.reference.value, self.reference.bound
        if self.measure == EXCESS:
            return (value + regret * _size(value) - bound) / _size(bound)
        return 1 - (1 - regret) * value / bound

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

    It is below zero where trials beat what is known of the base configuration, as another menu may.

    Args:
        view: The study.
        sources: Only what these proposed counts; `("sampler",)` leaves out what was given to it.

    Returns:
        The regret, or why there is none.
    """
    reference = view.record.reference
    if reference is None:
        return Unclaimed(_why_unknown(view))
    if reference.corner is None:
        trials, least = _least_so_far(view, sources)
        excess = (least - reference.value) / _size(reference.value)
        return Course(EXCESS, reference, trials, excess)
    trials, areas = _areas_so_far(view, sources, reference.corner)
    return Course(MISSING, reference, trials, 1 - areas / reference.value)


def find_progress(view: StudyView) -> Course | None:
    """How a study came to its own best: the least objective, or the share of its hypervolume.

    The hypervolume is that of both axes, whatever else is traded. None where no trial is feasible.
    """
    if not len(view.front):
        return None
    if view.has_one_objective:
        trials, least = _least_so_far(view, SOURCES)
        return Course(view.objective, Reference(least[-1], least[-1]), trials, least)
    corner = corner_of(view.points[view.front])
    trials, areas = _areas_so_far(view, SOURCES, corner)
    drawn = f", of {' and '.join(view.axes)} only" if view.others else ""
    reached = Reference(areas[-1], areas[-1], corner)
    return Course(REACHED + drawn, reached, trials, areas / areas[-1])


def exact_points(view: StudyView) -> FloatArray | Unclaimed:
    """`(points, 2)` of the exact frontier that keep the study's limits, or why there are none."""
    if view.record.reference is None:
        return Unclaimed(_why_unknown(view))
    points = _within_limits(view)
    return points if len(points) else Unclaimed(_NO_FRONTIER)


def _why_unknown(view: StudyView) -> str:
    """Why a study has nothing to measure its regret against."""
    known = {ROUND_SECONDS, ACCURACY_LOSS}
    if view.evaluated != "model":
        return (
            "Trials were trained: the exact frontier predicts a loss, not the accuracy that was "
            "measured, so no regret is claimed."
        )
    if unknown := sorted(set(view.objectives) - known):
        return (
            f"The exact frontier is of {ROUND_SECONDS} and {ACCURACY_LOSS}, not of "
            f"{' and '.join(unknown)}, so no regret is claimed."
        )
    if others := sorted(set(view.record.limits) - known):
        return (
            f"The study limits {', '.join(others)}, of which the exact frontier knows nothing, so "
            "no regret is claimed."
        )
    if view.num_seeds > 1:
        return (
            "Trials are means over several seeds, and each seed has a frontier of its own, so no "
            "regret is claimed."
        )
    if view.record.frontier and not len(_within_limits(view)):
        return "No point of the exact frontier keeps the limits."
    return _NO_FRONTIER


def _within_limits(view: StudyView) -> FloatArray:
    limits = [view.record.limits.get(axis, np.inf) for axis in (ROUND_SECONDS, ACCURACY_LOSS)]
    points = np.array(view.record.frontier, dtype=float).reshape(-1, 2)
    return points[(points <= limits).all(axis=1)]


def _size(value: float) -> float:
    """What an excess is relative to."""
    return max(abs(value), _LEAST_OBJECTIVE)


def _least_so_far(view: StudyView, sources: Collection[str]) -> tuple[IntArray, FloatArray]:
    """Numbers of the finished trials, and the least objective after each."""
    numbers, places, usable = _finished(view, sources)
    best = np.minimum.accumulate(np.where(usable, view.values, np.inf)[places])
    return numbers, np.where(np.isfinite(best), best, np.nan)


def _areas_so_far(
    view: StudyView, sources: Collection[str], corner: tuple[float, float]
) -> tuple[IntArray, FloatArray]:
    """Numbers of the finished trials, and the hypervolume after each."""
    numbers, places, usable = _finished(view, sources)
    areas = hypervolumes(np.where(usable[:, None], view.points, np.inf)[places], corner)
    return numbers, np.where(np.maximum.accumulate(usable[places]), areas, np.nan)


def _finished(view: StudyView, sources: Collection[str]) -> tuple[IntArray, IntArray, BoolArray]:
    """Numbers and places of the trials that ended with values, and which trials count."""
    places = np.flatnonzero([t.state in (State.COMPLETE, State.PRUNED) for t in view.trials])
    numbers = np.array([view.trials[k].number for k in places], dtype=np.int64)
    return numbers, places, view.feasible & np.array([t.source in sources for t in view.trials])
