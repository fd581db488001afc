"""The runs that the study needs, in an order of which every prefix is a balanced part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from ..runs import RunSpec
from .decisions import Decisions
from .grid import Grid, Ground, OracleGrid
from .plans import PTQ, QAT
from .situation import ground_settings

TARGET_SEEDS = (100, 101, 102)
"""Of the runs that set the targets: none of the study's own."""

_ORACLE_AFTER = 2  # seeds of the study; by then there are pairs
_CORE_SECONDS = {"digits-mlp": 2.6, "digits-cnn": 5.0, "mnist5k-mlp": 3.7, "mnist5k-cnn": 10.0}
_ORACLE_SHARE = 0.36  # of a run's time: fewer rounds, and fewer clients to attend to


@dataclass(frozen=True)
class Batch:
    """Runs that are trained together.

    Args:
        name: What they are for.
        specs: Each once.
        core_seconds: What they take, about.
    """

    name: str
    specs: tuple[RunSpec, ...]
    core_seconds: float


def batches(grid: Grid, decisions: Decisions) -> list[Batch]:
    """All runs of a grid: what sets the targets, then seed by seed, the cheapest tasks first.

    Args:
        grid: The grid.
        decisions: In all of its cells.
    """
    made, seen = [], set[str]()

    def add(name: str, task: str, specs: Iterable[RunSpec], share: float = 1.0) -> None:
        new = {s.key: s for s in specs if s.key not in seen}
        seen.update(new)
        if new:
            seconds = len(new) * _CORE_SECONDS[task] * share
            made.append(Batch(name, tuple(new.values()), seconds))

    def add_oracle(oracle: OracleGrid) -> None:
        for task, alpha in oracle.places:
            specs = oracle_specs(oracle, task, alpha)
            add(f"oracle, {task} alpha {alpha:g}", task, specs, _ORACLE_SHARE)

    for task in grid.tasks:
        add(f"targets, {task}", task, (target_spec(g) for g in target_grounds(grid, task)))
    for number, seed in enumerate(grid.seeds, start=1):
        for task in grid.tasks:
            grounds = [g for g in grid.grounds([seed]) if g.task == task]
            add(f"{task}, seed {seed}", task, ground_specs(grid, decisions, grounds))
        if grid.oracle is not None and number == min(_ORACLE_AFTER, len(grid.seeds)):
            add_oracle(grid.oracle)
    return made


def target_grounds(grid: Grid, task: str) -> list[Ground]:
    """Where a task's targets are measured."""
    return [g for g in grid.grounds(TARGET_SEEDS) if g.task == task]


def target_spec(ground: Ground) -> RunSpec:
    """All-QAT on a ground."""
    settings = ground_settings(ground)
    clients = settings.partition.num_clients
    assert isinstance(clients, int), "no task of a grid has natural clients"
    return RunSpec(settings, ((QAT,) * clients,))


def ground_specs(grid: Grid, decisions: Decisions, grounds: Sequence[Ground]) -> list[RunSpec]:
    """The runs of the decisions in all cells of some grounds, each once."""
    specs: dict[str, RunSpec] = {}
    for ground in grounds:
        for cell in grid.cells(ground):
            for decision in decisions.of(cell):
                if decision.key not in specs:
                    specs[decision.key] = decision.spec(ground)
    return list(specs.values())


def oracle_specs(oracle: OracleGrid, task: str, alpha: float) -> list[RunSpec]:
    """Every allocation of PTQ and QAT to a small fleet, for every seed and repeat."""
    specs = []
    for seed, repeat in product(oracle.seeds, range(oracle.repeats)):
        settings = ground_settings(Ground(task, alpha, seed), oracle.num_clients, oracle.rounds)
        for row in product((PTQ, QAT), repeat=oracle.num_clients):
            specs.append(RunSpec(settings, (row,), repeat))
    return specs
