"""What an engine is told and what it gives back; engines differ in where clients train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import nn

from ...allocator.strategy import Strategy
from ..data.clients import Clients
from ..seeds import Purpose, generator
from ..settings import QuantizationSettings, TrainingSettings
from ..weights import Weights
from .local import qat_bits


@dataclass(frozen=True, eq=False)
class Setup:
    """All that a process needs to train any client of a federation.

    Args:
        model: The network.
        clients: `(clients,)` their data; workers read tensors in shared memory.
        training: Of every client.
        quantization: How QAT quantizes.
        seed: Root of the federation's randomness.
    """

    model: nn.Module
    clients: Clients
    training: TrainingSettings
    quantization: QuantizationSettings
    seed: int


@dataclass(frozen=True)
class Work:
    """One client's training in a round.

    Args:
        round_number: The round.
        client: The client.
        strategy: What it does; not skip.
        learning_rate: Of the round.
    """

    round_number: int
    client: int
    strategy: Strategy
    learning_rate: float

    def rng(self, seed: int) -> np.random.Generator:
        """What orders this client's batches in this round, wherever it trains."""
        return generator(seed, Purpose.BATCHES, self.round_number, self.client)


def make_groups(works: Sequence[Work], setup: Setup) -> list[tuple[Work, ...]]:
    """Which clients train together: `training.clients_together` of a kind, of like size.

    Groups follow from the works and the clients alone, so that results do not depend on workers.
    With `clients_together` = 1 each stands alone, in the order of the works.
    """
    together = setup.training.clients_together
    if together == 1:
        return [(work,) for work in works]
    sizes = setup.clients.num_examples
    kinds: dict[tuple[object, ...], list[Work]] = {}
    for work in sorted(works, key=lambda work: int(sizes[work.client])):
        kinds.setdefault((qat_bits(work.strategy), work.learning_rate), []).append(work)
    return [
        tuple(kind[first : first + together])
        for kind in kinds.values()
        for first in range(0, len(kind), together)
    ]


@dataclass(frozen=True, eq=False)
class Trained:
    """What a client's training gave: an update and its loss, or an error.

    Args:
        work: What was to be done.
        update: Change of every parameter; None after an error.
        train_loss: Mean loss over the steps; None after an error.
        wall_seconds: What it took on this machine.
        error: What went wrong, in one line; None if nothing did.
    """

    work: Work
    update: Weights | None
    train_loss: float | None
    wall_seconds: float
    error: str | None = None


class Engine(Protocol):
    """Trains clients: `SerialEngine` here and now, `WorkerPool` in processes of their own."""

    def train(self, weights: Weights, works: Sequence[Work]) -> Iterator[Trained]:
        """Trains all from the same weights; gives each as soon as it is done, in any order.

        The results are the same bytes for every engine and any number of workers.
        """
        ...

    def close(self) -> None:
        """Frees processes and memory; nothing can be trained afterwards."""
        ...
