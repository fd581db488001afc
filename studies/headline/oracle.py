"""The regret of arms to an oracle that has trained every allocation of a small fleet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ...allocator import FrontierPick, Tradeoff, parse_menu
from ...allocator.arrays import FloatArray
from ..runs import RunStore
from .grid import Cell, Grid, Ground, OracleGrid
from .plans import PTQ, QAT, Plan, coarse, constant, data_only, hardware_only, random_hybrid, solved
from .situation import MENU, Situation
from .wanted import oracle_specs

PRICES = (10.0, 30.0, 100.0)
"""Rounds of all-PTQ that one accepts for all of the accuracy; 100: a point of it is worth one.

Where accuracy is cheaper, all-PTQ's round time is best almost everywhere, and no arm regrets much.
"""

HARDWARE_ONLY = "hardware-only"

PROGRAM = "fedhq"
"""The program with the price of the objective, on predicted times and losses."""

_RULES: Mapping[str, Callable[[Situation], Plan]] = {
    "all-PTQ": constant(PTQ),
    "all-QAT": constant(QAT),
    "random hybrid": random_hybrid,
    HARDWARE_ONLY: hardware_only,
    "data-only, common": data_only(prefer_skewed=False),
    "data-only, rare": data_only(prefer_skewed=True),
    "fedhq by its default rule": coarse,
}


@dataclass(frozen=True)
class Regret:
    """How much worse than the oracle an arm's objective is, in rounds of the oracle.

    Not in shares of its objective: by noise an allocation may be more accurate than all-QAT, and at
    a high price its objective is then near 0 or below it.

    Args:
        cell: Where.
        price: Of accuracy, in rounds of all-PTQ.
        arm: Who decided.
        optimistic: Against the best of all by the same noisy accuracies, which is too good to be
            true; never negative.
        judged: Against the one that is best by one training, both judged by another; the mean over
            the trainings in turn. May be negative.
        has_price: Whether the best by the mean of the trainings takes longer than all-PTQ: where
            it does not, what delays nobody is enough, and accuracy need not be weighed.
    """

    cell: Cell
    price: float
    arm: str
    optimistic: float
    judged: float
    has_price: bool


def by_table(regrets: Sequence[Regret], arm: str, value: Callable[[Regret], float]) -> list[float]:
    """`(tables,)` the median of an arm's regrets in each.

    A table is what was trained on one ground. Programs of the same table, which differ in devices
    and price alone, are no independent evidence.
    """
    tables: dict[Ground, list[float]] = {}
    for regret in regrets:
        if regret.arm == arm:
            tables.setdefault(regret.cell.ground, []).append(value(regret))
    return [float(np.median(values)) for values in tables.values()]


def regrets(grid: Grid, store: RunStore) -> list[Regret]:
    """The regrets wherever all allocations have been trained.

    Args:
        grid: The cells.
        store: Of runs.
    """
    oracle, found = grid.oracle, list[Regret]()
    if oracle is None:
        return found
    for (task, alpha), seed in product(oracle.places, oracle.seeds):
        ground = Ground(task, alpha, seed)
        accuracy = measured(oracle, ground, store)
        if accuracy is not None:
            for tie, ratio in product(grid.correlations, grid.ratios):
                found += _of_cell(Cell(ground, tie, ratio), oracle, accuracy)
    return found


def measured(oracle: OracleGrid, ground: Ground, store: RunStore) -> FloatArray | None:
    """`(repeats, allocations)` deployed accuracies at the end; None where some are not trained."""
    every = oracle_specs(oracle, ground.task, ground.alpha)
    specs = [spec for spec in every if spec.settings.seed == ground.seed]
    runs = [store.find(spec) for spec in specs]
    ends = [run.tail() for run in runs if run is not None]
    if len(ends) < len(runs):
        return None
    return np.array(ends).reshape(oracle.repeats, -1)


def _of_cell(cell: Cell, oracle: OracleGrid, accuracy: FloatArray) -> list[Regret]:
    situation = Situation.of(cell, oracle.num_clients)
    rows = np.array(list(product((0, 1), repeat=oracle.num_clients)))
    columns = [MENU.index(s) for s in parse_menu((PTQ, QAT))]
    table = situation.told.seconds[:, columns]
    seconds = table[np.arange(oracle.num_clients), rows].max(axis=1)
    drop = accuracy[:, -1].mean() - accuracy  # the last allocation is all-QAT
    found = []
    by_rule = {name: rule(situation)[0] for name, rule in _RULES.items()}
    for price in PRICES:
        objective = seconds + price * seconds[0] * drop  # the first is all-PTQ
        best = int(objective.mean(axis=0).argmin())
        has_price = bool(seconds[best] > seconds[0] * (1 + 1e-9))
        chosen = dict(by_rule)
        program = FrontierPick(Tradeoff(price * float(seconds[0])))
        chosen[PROGRAM] = solved(situation, program, (PTQ, QAT))[0]
        for name, row in chosen.items():
            place = int("".join("1" if text == QAT else "0" for text in row), 2)
            found.append(Regret(cell, price, name, *_both(objective, seconds, place), has_price))
    return found


def _both(objective: FloatArray, seconds: FloatArray, place: int) -> tuple[float, float]:
    """The optimistic regret and the judged one."""
    mean, judged = objective.mean(axis=0), []
    for one, other in product(range(len(objective)), repeat=2):
        if one != other:
            best = int(objective[one].argmin())
            more = objective[other, place] - objective[other, best]
            judged.append(more / seconds[best])
    best = int(mean.argmin())
    optimistic = float((mean[place] - mean[best]) / seconds[best])
    return optimistic, float(np.mean(judged)) if judged else float("nan")
