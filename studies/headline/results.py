"""What came of the study: every setting with the courses of its arms, and what they are worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ...allocator.arrays import FloatArray
from ..runs import RunStore
from .arms import ARMS, FINISHED, Arm, arms_of
from .course import TAIL, Course, Difference, Ratio, faster
from .decisions import Decision, Decisions
from .grid import Cell, Grid
from .situation import measured_ratio
from .targets import Targets

FEDHQ = FINISHED
"""The arm that is judged against all-QAT; it has learned nothing yet.

Beside it stands what has no finish: `COARSE`, which learns times where the clock is not as it was
told, and `FOLLOWED`, which is told how accurate the model is and learns from that, too.
"""

PTQ_ARM, QAT_ARM = "all-PTQ", "all-QAT"


@dataclass(frozen=True, eq=False)
class Setting:
    """The cells that differ in their seed alone.

    Args:
        cell: One of them.
        ratio: Of a QAT step to a float step, measured where the cell gives none.
        target: Accuracy whose time counts.
        seeds: With which its arms have been trained.
        courses: Of every arm.
        same: Of every arm the share of seeds in which it decides as the arm beside it does.
    """

    cell: Cell
    ratio: float
    target: float
    seeds: tuple[int, ...]
    courses: Mapping[str, Course]
    same: Mapping[str, float]

    @property
    def ceiling(self) -> float:
        """All-QAT's round time over all-PTQ's: what hybrid allocation alone can gain at most."""
        slow, fast = self.courses[QAT_ARM], self.courses[PTQ_ARM]
        return float(slow.seconds[:, -1].mean() / fast.seconds[:, -1].mean())

    @cached_property
    def ratios(self) -> dict[str, Ratio]:
        """Of every arm, how much faster than all-QAT it is at the target."""
        reference = self.courses[QAT_ARM]
        return {arm: faster(c, reference, self.target) for arm, c in self.courses.items()}

    @cached_property
    def gains(self) -> dict[str, Difference]:
        """Of every arm, its accuracy less all-PTQ's, in the time of all-PTQ's rounds."""
        time = self.courses[PTQ_ARM].seconds[:, -1]
        reference = self.courses[PTQ_ARM].within(time)
        return {
            arm: Difference.of((course.within(time) - reference).tolist())
            for arm, course in self.courses.items()
        }

    def lead(self, arm: str, other: str) -> Difference:
        """How much more accurate an arm is at the end than another one."""
        mine, its = (self.courses[name].deployed[:, -TAIL:].mean(axis=1) for name in (arm, other))
        return Difference.of((mine - its).tolist())

    def over(self, arm: str, other: str) -> Ratio:
        """How much faster an arm is at the target than another one."""
        return faster(self.courses[arm], self.courses[other], self.target)

    def without(self, seed: int) -> Setting:
        """The setting as it would be had one of its seeds not been trained."""
        kept = [k for k, other in enumerate(self.seeds) if other != seed]
        courses = {arm: course.of(kept) for arm, course in self.courses.items()}
        return replace(self, seeds=tuple(self.seeds[k] for k in kept), courses=courses)


def read_settings(
    grid: Grid, decisions: Decisions, store: RunStore, targets: Targets
) -> list[Setting]:
    """All settings of which a seed is trained, with the seeds that are.

    Args:
        grid: The cells.
        decisions: Of arms.
        store: Of runs.
        targets: Settings without one are left out.
    """
    by_setting: dict[str, list[Cell]] = {}
    for ground in grid.grounds(grid.seeds):
        for cell in grid.cells(ground):
            by_setting.setdefault(cell.setting, []).append(cell)
    settings: list[Setting] = []
    for cells in by_setting.values():
        ground = cells[0].ground
        target = targets.get((ground.task, ground.alpha))
        if target is not None:
            settings += _read(cells, target, decisions, store)
    return settings


def _read(
    cells: Sequence[Cell], target: float, decisions: Decisions, store: RunStore
) -> Iterable[Setting]:
    """The setting of some cells; none if no seed is trained.

    Seeds are those with all arms of the kinds that come first (see `lacking`); what is not yet
    there for all of them is left out.
    """
    found = {cell: _curves(cell, decisions, store) for cell in cells}
    trained = [cell for cell in cells if found[cell].keys() >= _first_arms(cells[0])]
    if not trained:
        return
    courses, same = {}, {}
    for arm in ARMS:
        if not all(arm.name in found[cell] for cell in trained):
            continue
        seconds, deployed = zip(*(found[cell][arm.name] for cell in trained), strict=True)
        courses[arm.name] = Course(np.array(seconds), np.array(deployed))
        same[arm.name] = float(np.mean([_is_same(cell, arm, decisions) for cell in trained]))
    ratio = cells[0].ratio or measured_ratio(cells[0].ground.task)
    seeds = tuple(c.ground.seed for c in trained)
    yield Setting(cells[0], ratio, target, seeds, courses, same)


def lacking(grid: Grid, decisions: Decisions, store: RunStore) -> dict[str, int]:
    """In how many cells of which other arms are trained an arm is not, so that they do not count.

    Args:
        grid: The cells.
        decisions: Of arms.
        store: Of runs.

    Returns:
        The number of cells of every arm that lacks in some.
    """
    lacks: Counter[str] = Counter()
    for ground in grid.grounds(grid.seeds):
        for cell in grid.cells(ground):
            wanted = _first_arms(cell)
            absent = wanted - _curves(cell, decisions, store).keys()
            lacks.update(absent if absent < wanted else ())
    return dict(lacks)


def _first_arms(cell: Cell) -> set[str]:
    """The arms without which a seed does not count."""
    return {arm.name for arm in arms_of(cell, is_apart=False)}


def _is_same(cell: Cell, arm: Arm, decisions: Decisions) -> bool:
    mine, other = decisions.find(cell, arm.name), decisions.find(cell, arm.beside)
    return mine is not None and other is not None and mine.rows == other.rows


def _curves(
    cell: Cell, decisions: Decisions, store: RunStore
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """The curves of the arms that are decided and trained in a cell."""
    curves = ((d.arm, _curve(d, cell, store)) for d in decisions.of(cell))
    return {arm: curve for arm, curve in curves if curve is not None}


def _curve(decision: Decision, cell: Cell, store: RunStore) -> tuple[FloatArray, FloatArray] | None:
    """Ends of the rounds, and accuracies then; None where the run is not trained."""
    run = store.find(decision.spec(cell.ground))
    if run is None:
        return None
    deployed = np.array(run.deployed)
    seconds = np.cumsum(np.broadcast_to(np.array(decision.seconds), deployed.shape))
    return seconds, deployed
