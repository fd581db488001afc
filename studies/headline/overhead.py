"""What deciding and learning take of a round: time of this processor over simulated time."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from .grid import NOISY, Cell, Grid, Ground
from .plans import PTQ, learned_rounds, round_seconds
from .situation import Situation


@dataclass(frozen=True)
class Overhead:
    """Of one task.

    Args:
        task: The task.
        own_seconds: Median over the rounds of what `plan` and `observe` take together.
        round_seconds: Simulated time of a round of all-PTQ, the shortest there is.
    """

    task: str
    own_seconds: float
    round_seconds: float

    @property
    def share(self) -> float:
        """Of a round."""
        return self.own_seconds / self.round_seconds


def measure_overheads(grid: Grid) -> list[Overhead]:
    """Of every task, where times scatter, so that every round is planned anew."""
    return [_measure(task, grid.alphas[0], grid.seeds[0]) for task in grid.tasks]


def _measure(task: str, alpha: float, seed: int) -> Overhead:
    situation = Situation.of(Cell(Ground(task, alpha, seed), 0.0, None, NOISY))
    own = statistics.median(seconds for _, seconds in learned_rounds(situation))
    ptq = ((PTQ,) * len(situation.told.seconds),)
    return Overhead(task, own, statistics.median(round_seconds(situation, ptq)))
