"""The settings of the study, and the federations that are trained in each.

The design is fractional: all alphas and bits on the cheapest task, elsewhere what shows a trade-off
and one or two settings that may show none. Allocations are drawn by data set, alpha and seed, so
that bits and networks are compared on the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...allocator.arrays import IntArray
from ...allocator.hardware import StepProfile
from ...allocator.strategy import parse_menu
from ...fl_core.federation import Federation
from ...fl_core.settings import FederationSettings
from ..runs import TASKS, RunSpec, task_settings
from .drawing import Drawn, draw_allocations

SEEDS = (100, 101, 102)
_ALPHAS, _BITS = (0.1, 0.3, 1.0), (2, 3, 4)
_CELLS: dict[str, tuple[tuple[float, int], ...]] = {  # cheapest first
    "digits-mlp": tuple((alpha, bits) for alpha in _ALPHAS for bits in _BITS),
    "mnist5k-mlp": ((0.1, 2), (0.3, 2), (1.0, 2), (0.3, 3), (0.1, 4)),
    "digits-cnn": ((0.1, 2), (0.3, 2), (0.3, 3), (1.0, 4)),
    "spoken_digits-cnn1d": ((0.1, 2), (0.3, 2), (0.3, 3), (1.0, 4)),
    "smartwatch-cnn1d": ((1.0, 2), (1.0, 3), (1.0, 4)),  # natural clients: alpha says nothing
    "mnist5k-cnn": ((0.1, 2), (0.3, 2), (0.3, 3)),
}
_FEDERATIONS_KEPT = 64


@dataclass(frozen=True)
class Setting:
    """A task, how unevenly its labels are spread, and the bits of the deployment.

    Args:
        task: A key of `TASKS`.
        alpha: Of the Dirichlet distribution of labels; says nothing where clients are natural.
        bits: Of weights and activations.

    Example:
        >>> str(Setting("digits-mlp", 0.3, 2)), str(Setting("smartwatch-cnn1d", 1.0, 3))
        ('digits-mlp, alpha 0.3, W2A2', 'smartwatch-cnn1d, W3A3')
    """

    task: str
    alpha: float
    bits: int

    def __str__(self) -> str:
        spread = "" if TASKS[self.task].is_natural else f", alpha {self.alpha:g}"
        return f"{self.task}{spread}, W{self.bits}A{self.bits}"

    @property
    def ptq(self) -> str:
        """The strategy that trains in float."""
        return f"ptq-w{self.bits}a{self.bits}"

    @property
    def qat(self) -> str:
        """The strategy that trains with the rounding."""
        return f"qat-w{self.bits}a{self.bits}"

    def federation(self, seed: int) -> FederationSettings:
        """The settings of a seed's federation."""
        return task_settings(self.task, alpha=self.alpha, bits=self.bits, seed=seed)


SETTINGS = tuple(Setting(task, *cell) for task, cells in _CELLS.items() for cell in cells)


@dataclass(frozen=True)
class Trial:
    """A federation that the study trains.

    Args:
        setting: Where.
        seed: Of its federation.
        drawn: What its clients do.
        repeat: Another draw of weights, batches and rounding on the same data.
    """

    setting: Setting
    seed: int
    drawn: Drawn
    repeat: int = 0

    @property
    def spec(self) -> RunSpec:
        """What is trained."""
        row = self.drawn.strategies(self.setting.ptq, self.setting.qat)
        return RunSpec(self.setting.federation(self.seed), (row,), self.repeat)


def trials_of(setting: Setting, seed: int) -> tuple[Trial, ...]:
    """All federations of a setting and seed: its allocations, and repeats of some."""
    drawn = draw_allocations(label_counts_of(setting, seed), _entropy(setting, seed))
    once = [Trial(setting, seed, d) for d in drawn]
    return (*once, *(Trial(setting, seed, d, repeat=1) for d in drawn if d.is_repeated))


def batches(
    tasks: Iterable[str] = tuple(TASKS), seeds: Sequence[int] = SEEDS
) -> list[tuple[Trial, ...]]:
    """The whole grid in the order of training: seed by seed, in each the cheapest task first.

    Args:
        tasks: Only these.
        seeds: Of the federations.

    Returns:
        A batch a seed and task; whoever stops after a seed has all settings with fewer seeds.

    Raises:
        ValueError: If a task is unknown.
    """
    wanted = tuple(tasks)
    if unknown := [task for task in wanted if task not in _CELLS]:
        raise ValueError(f"tasks must be of {', '.join(_CELLS)}, but got {unknown[0]!r}.")
    return [
        tuple(t for s in SETTINGS if s.task == task for t in trials_of(s, seed))
        for seed in seeds
        for task in _CELLS
        if task in wanted
    ]


def label_counts_of(setting: Setting, seed: int) -> IntArray:
    """`(clients, classes)` labels of a federation's clients; bits and network do not matter."""
    return federation_of(setting, seed).label_counts


def same_data(setting: Setting) -> Setting:
    """The one that stands for all settings with its data: bits and network do not matter to them.

    Example:
        >>> str(same_data(Setting("digits-cnn", 0.3, 4)))
        'digits-mlp, alpha 0.3, W2A2'
    """
    told = TASKS[setting.task]
    first = next(name for name in _CELLS if TASKS[name].data == told.data)
    return Setting(first, 1.0 if told.is_natural else setting.alpha, 2)


def federation_of(setting: Setting, seed: int) -> Federation:
    """A federation with the data of a setting and seed; bits and network are any."""
    return _built(same_data(setting), seed)


@lru_cache(_FEDERATIONS_KEPT)
def _built(setting: Setting, seed: int) -> Federation:
    settings = setting.federation(seed)
    menu, batch = parse_menu(settings.menu), settings.training.batch_size
    no_times = StepProfile("any", batch, menu, np.ones(len(menu)), np.zeros(len(menu)), "none")
    return Federation.build(settings, no_times)


def _entropy(setting: Setting, seed: int) -> tuple[int, ...]:
    """Where a setting's draws come from: the same for all bits and networks."""
    name = TASKS[setting.task].data.encode()
    return (seed, round(1000 * setting.alpha), *name)
