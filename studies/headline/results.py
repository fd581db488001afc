"""What came of the study: every setting with the courses of its arms, and what they are worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...allocator.arrays import FloatArray
from ..runs import RunStore
from .arms import ARMS
from .course import Course, Difference, Ratio, faster
from .decisions import Decision, Decisions
from .grid import Cell, Grid
from .targets import Targets

FEDHQ = "coarse"
"""The arm that is fedhq where the clock is as it was told; learning changes nothing there."""

PTQ_ARM, QAT_ARM = "all-PTQ", "all-QAT"


@dataclass(frozen=True, eq=False)
class Setting:
    """The cells that differ in their seed alone.

    Args:
        cell: One of them.
        target: Accuracy whose time counts.
        seeds: That all arms have been trained with.
        courses: Of every arm.
        same_as_coarse: Of every arm the share of seeds in which it decides as `FEDHQ` does.
    """

    cell: Cell
    target: float
    seeds: tuple[int, ...]
    courses: Mapping[str, Course]
    same_as_coarse: Mapping[str, float]

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

    def over(self, arm: str, other: str) -> Ratio:
        """How much faster an arm is at the target than another one."""
        return faster(self.courses[arm], self.courses[other], self.target)


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
    """The setting of some cells; none if no seed is trained."""
    seeds, curves, same = [], dict[str, list[tuple[FloatArray, FloatArray]]](), dict[str, int]()
    made = {cell: {d.arm: d for d in decisions.of(cell)} for cell in cells}
    arms = {arm for told in made.values() for arm in told}
    for cell, told in made.items():
        found = {arm: _curve(decision, cell, store) for arm, decision in told.items()}
        if found.keys() < arms or any(curve is None for curve in found.values()):
            continue
        seeds.append(cell.ground.seed)
        for arm, curve in found.items():
            assert curve is not None, "checked above"
            curves.setdefault(arm, []).append(curve)
            same[arm] = same.get(arm, 0) + (told[arm].rows == told[FEDHQ].rows)
    if seeds:
        order = [arm.name for arm in ARMS if arm.name in curves]
        courses = {arm: Course(*map(np.array, zip(*curves[arm], strict=True))) for arm in order}
        shares = {arm: same[arm] / len(seeds) for arm in order}
        yield Setting(cells[0], target, tuple(seeds), courses, shares)


def _curve(decision: Decision, cell: Cell, store: RunStore) -> tuple[FloatArray, FloatArray] | None:
    """Ends of the rounds, and accuracies then; None where the run is not trained."""
    run = store.find(decision.spec(cell.ground))
    if run is None:
        return None
    deployed = np.array(run.deployed)
    seconds = np.cumsum(np.broadcast_to(np.array(decision.seconds), deployed.shape))
    return seconds, deployed
