"""Contestants of the wall-clock benchmark, which train in turn, a round each.

What slows the machine down for a while so slows all alike. The time of a round is that of training,
planning, sending, averaging, and in fedhq records and checkpoint, too; evaluations do not count.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from torch import nn

from ..allocator.arrays import FloatArray
from ..allocator.solution import Solver
from ..fl_core.callbacks.callback import Callback, RunInfo
from ..fl_core.evaluation import evaluate
from ..fl_core.federation import Federation
from ..fl_core.records.records import ClientRecord, RoundRecord, WallRecord
from ..fl_core.trainer import Trainer
from .plain_loop import Library, PlainLoop, with_torch_pools


@dataclass(frozen=True, eq=False)
class Lap:
    """A round of a contestant.

    Args:
        seconds: That it took, without evaluation.
        client_seconds: `(clients,)` of it for each client's training.
        deployed: Accuracy on the test examples, rounded by the contestant's own quantizers.
        shipped: The same weights rounded as fedhq ships them.
        methods: `(clients,)` what each client did.
    """

    seconds: float
    client_seconds: FloatArray
    deployed: float
    shipped: float
    methods: tuple[str, ...]


@dataclass(frozen=True)
class Contestant:
    """Who trains a federation.

    Args:
        name: In tables.
        start: From a federation to its rounds.
        rounds: How many it trains; fewer than all where only its time is asked for.
        is_rival: Whether it stands for what a user would take instead.
    """

    name: str
    start: Callable[[Federation], Iterator[Lap]]
    rounds: int
    is_rival: bool = False


@dataclass(frozen=True, eq=False)
class Course:
    """What a contestant did, over the seeds.

    Args:
        contestant: Who.
        seconds: `(seeds, rounds)` of every round.
        slowest_seconds: `(seeds,)` of a round on the fleet: the median seconds of each client's
            training times its device's slow-down, the greatest of them.
        deployed: `(seeds, rounds)` accuracies, by its own quantizers.
        shipped: `(seeds, rounds)` accuracies, as fedhq ships.
        qat_share: `(seeds,)` part of the clients that trained by QAT.
    """

    contestant: Contestant
    seconds: FloatArray
    slowest_seconds: FloatArray
    deployed: FloatArray
    shipped: FloatArray
    qat_share: FloatArray


def plain_laps(
    federation: Federation, library: Library, *, torch_pools: bool = True
) -> Iterator[Lap]:
    """Rounds of a plain loop, all clients on another library's QAT.

    Args:
        federation: What is trained, at the bits that it is deployed at.
        library: Whose fake quantization.
        torch_pools: Whether the network's pools are torch's.
    """
    network = federation.model
    assert isinstance(network, nn.Sequential)
    if torch_pools:
        network = with_torch_pools(network)
    bits = federation.deployed.weight_bits, federation.deployed.activation_bits
    loop = PlainLoop(federation, library.prepared(network, *bits))
    method = "fp32" if library is Library.FLOAT else "qat"
    for number in range(1, federation.training.rounds + 1):
        start = time.perf_counter()
        client_seconds = loop.train_round(number)
        seconds = time.perf_counter() - start
        shipped = evaluate(federation, loop.weights()).deployed or 0.0
        methods = (method,) * len(client_seconds)
        yield Lap(seconds, client_seconds, loop.own_accuracy(), shipped, methods)


def fedhq_laps(federation: Federation, solver: Solver | None = None) -> Iterator[Lap]:
    """Rounds of fedhq's trainer in this process.

    Args:
        federation: What is trained.
        solver: Who decides; the default rule where None.
    """
    pace = _Pace(len(federation.clients))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        trainer = Trainer(federation, federation.allocator(solver), Path(folder), callbacks=[pace])
        running = thread.submit(trainer.run)
        try:
            for _ in range(federation.training.rounds):
                pace.go_on.put(True)
                lap = pace.laps.get()
                if lap is None:
                    break
                yield lap
            pace.go_on.put(True)
            running.result()
        finally:
            pace.go_on.put(False)


class _Stopped(Exception):
    """Nobody wants the rounds that are left."""


class _Pace(Callback):
    """Stops a trainer after every round until it may go on."""

    def __init__(self, num_clients: int) -> None:
        self._num_clients = num_clients
        self.go_on: SimpleQueue[bool] = SimpleQueue()
        self.laps: SimpleQueue[Lap | None] = SimpleQueue()
        """None: there are no more."""
        self._began = 0.0

    def on_start(self, run: RunInfo) -> None:
        self._wait()

    def on_round(
        self, record: RoundRecord, clients: Sequence[ClientRecord], wall: WallRecord
    ) -> None:
        seconds = time.perf_counter() - self._began - wall.evaluate_seconds
        accuracy = record.deployed_accuracy or 0.0
        client_seconds, methods = np.zeros(self._num_clients), ["skip"] * self._num_clients
        for client, own in zip(clients, wall.client_seconds, strict=True):
            client_seconds[client.client] = own
            methods[client.client] = client.strategy.partition("-")[0]
        self.laps.put(Lap(seconds, client_seconds, accuracy, accuracy, tuple(methods)))
        self._wait()

    def close(self) -> None:
        self.laps.put(None)

    def _wait(self) -> None:
        if not self.go_on.get():
            raise _Stopped
        self._began = time.perf_counter()


def run_in_turn(
    contestants: Sequence[Contestant],
    federations: Mapping[int, Federation],
    tell: Callable[[str], None] = lambda text: None,
) -> list[Course]:
    """Trains the federations of all seeds by all contestants, which take turns round by round.

    Args:
        contestants: Who; whoever begins a round ends the next.
        federations: By seed.
        tell: Is told how far it is.

    Returns:
        In the order of the contestants.
    """
    found: dict[str, list[list[Lap]]] = {contestant.name: [] for contestant in contestants}
    for seed, federation in federations.items():
        laps = {contestant.name: list[Lap]() for contestant in contestants}
        running = {c.name: c.start(federation) for c in contestants}
        for number in range(federation.training.rounds):
            tell(f"seed {seed}, round {number + 1} of {federation.training.rounds}")
            for contestant in contestants[:: 1 if number % 2 else -1]:
                if number < contestant.rounds:
                    laps[contestant.name].append(next(running[contestant.name]))
        for name, rounds in running.items():
            rounds.close()  # type: ignore[attr-defined]  # all are generators
            found[name].append(laps[name])
    slow_downs = [
        np.array([device.slowdown for device in federation.fleet.devices])
        for federation in federations.values()
    ]
    return [_course(contestant, found[contestant.name], slow_downs) for contestant in contestants]


def _course(
    contestant: Contestant, seeds: Sequence[Sequence[Lap]], slow_downs: Sequence[FloatArray]
) -> Course:
    slowest = [
        float((np.median([lap.client_seconds for lap in laps], axis=0) * slow).max())
        for laps, slow in zip(seeds, slow_downs, strict=True)
    ]
    shares = [np.mean([np.mean([m == "qat" for m in lap.methods]) for lap in s]) for s in seeds]
    return Course(
        contestant,
        np.array([[lap.seconds for lap in laps] for laps in seeds]),
        np.array(slowest),
        np.array([[lap.deployed for lap in laps] for laps in seeds]),
        np.array([[lap.shipped for lap in laps] for laps in seeds]),
        np.array(shares),
    )
