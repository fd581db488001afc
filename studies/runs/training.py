"""Trains one run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...allocator import Allocation
from ...allocator.goal import Outcome, ServerAccuracy
from ...allocator.hardware import HardwareTables, StepProfile
from ...allocator.strategy import parse_menu
from ...fl_core.callbacks import Callback
from ...fl_core.federation import Federation
from ...fl_core.records.records import ClientRecord, RoundRecord, WallRecord
from ...fl_core.settings import FederationSettings
from ...fl_core.trainer import Trainer
from ...models import accuracy, build_model
from .spec import RunSpec

_REPEAT_SEEDS = 10_000  # between the seeds of a run's repeats, so that they meet no other run's
_BUILT = 2  # federations that a process keeps: specs come sorted by what they are built of
_BATCH = 500


@dataclass(frozen=True)
class TrainedRun:
    """What came of a run, after every round.

    Args:
        key: Of its spec.
        deployed: `(rounds,)` accuracy of the quantized model on the test examples.
        in_float: `(rounds,)` of the float model on them.
        server_deployed: `(rounds,)` of the quantized model on the server's own examples.
        server_in_float: `(rounds,)` of the float model on them.
        core_seconds: Processor time of the process that trained it.
    """

    key: str
    deployed: tuple[float, ...]
    in_float: tuple[float, ...]
    server_deployed: tuple[float, ...]
    server_in_float: tuple[float, ...]
    core_seconds: float

    def tail(self, rounds: int = 3) -> float:
        """Deployed accuracy at the end: the mean of the last rounds."""
        return float(np.mean(self.deployed[-rounds:]))


@dataclass(frozen=True)
class ToldPlan:
    """A planner that says what a spec tells it.

    Args:
        federation: Whose menu holds the spec's strategies.
        spec: The plan.
    """

    federation: Federation
    spec: RunSpec

    def plan(self, round_number: int, cohort: Sequence[int] | None = None) -> Allocation:
        """The round's row."""
        menu = [str(s) for s in self.federation.menu]
        choice = np.array([menu.index(text) for text in self.spec.row(round_number)])
        return Allocation.of(self.federation.allocator().problem(cohort), choice)

    def observe(self, outcomes: Sequence[Outcome], accuracy: ServerAccuracy | None = None) -> None:
        """Learns nothing."""

    def state_dict(self) -> Mapping[str, Any]:
        """Keeps nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Has nothing to take up."""


def train_run(spec: RunSpec) -> TrainedRun:
    """Trains a federation by a plan.

    Raises:
        ValueError: If the plan does not fit the federation's clients.
        FedHQError: If training comes to nothing.
    """
    start = time.process_time()
    federation = _federation(spec)
    if len(spec.plan[0]) != len(federation.clients):
        raise ValueError(
            f"`plan` must have a strategy a client, {len(federation.clients)}, but has "
            f"{len(spec.plan[0])}."
        )
    with tempfile.TemporaryDirectory() as folder:
        curves = _Curves(federation)
        told = ToldPlan(federation, spec)
        curves.trainer = Trainer(federation, told, Path(folder), callbacks=[curves])
        curves.trainer.run()
    columns = np.array(curves.rows).round(5).T.tolist()
    deployed, in_float, server_deployed, server_in_float = map(tuple, columns)
    return TrainedRun(
        spec.key,
        deployed,
        in_float,
        server_deployed,
        server_in_float,
        round(time.process_time() - start, 3),
    )


class _Curves(Callback):
    """Takes down all accuracies after every round."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self.trainer: Trainer | None = None
        self.rows: list[list[float]] = []

    def on_round(
        self, record: RoundRecord, clients: Sequence[ClientRecord], wall: WallRecord
    ) -> None:
        assert self.trainer is not None, "set before the first round"
        federation, weights = self._federation, self.trainer.weights
        models = (federation.ship(weights), federation.network(weights))
        sets = (federation.test, federation.calibration)
        self.rows.append([accuracy(m, d.inputs, d.labels, _BATCH) for d in sets for m in models])


def _federation(spec: RunSpec) -> Federation:
    """The federation of a run, with a menu of what its plan names."""
    settings = spec.settings
    training = replace(
        settings.training,
        evaluate_every=settings.training.rounds,  # `_Curves` evaluates
        checkpoint_every=settings.training.rounds,
    )
    built = _built(replace(settings, menu=("fp32",), training=training))
    menu = parse_menu(spec.strategies)
    num_clients = len(built.clients)
    busy = np.tile([float(not s.is_skip) for s in menu], (num_clients, 1))
    costs = HardwareTables(busy, 0 * busy, 0 * busy, busy >= 0, menu)
    federation = replace(built, menu=menu, hardware=costs)
    if not spec.repeat:
        return federation
    seed = settings.seed + _REPEAT_SEEDS * spec.repeat
    clients = built.clients
    network = build_model(settings.model, clients.input_shape, clients.num_classes, seed)
    return replace(federation, seed=seed, model=network)


@lru_cache(_BUILT)
def _built(settings: FederationSettings) -> Federation:
    """The data, spread over clients; every step takes a second, since no time matters here."""
    menu = parse_menu(settings.menu)
    once = StepProfile("any", settings.training.batch_size, menu, np.ones(1), np.zeros(1), "none")
    return Federation.build(settings, once)
