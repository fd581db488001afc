"""Trains clients one after the other in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from ..weights import Weights
from .local import LocalTrainer
from .work import Setup, Trained, Work

_MOST_CHARACTERS = 2000
"""Of an error; a worker's answer has room for them."""


class SerialEngine:
    """Trains in this process, with one resident model per kind of training.

    Args:
        setup: Model, data, settings.

    Raises:
        ValueError: If the model or the device does not suit.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._local = LocalTrainer(setup.model, setup.training, setup.quantization)

    def train(self, weights: Weights, works: Sequence[Work]) -> Iterator[Trained]:
        """Trains all in their order; see `Engine.train`."""
        for work in works:
            yield self.train_one(weights, work)

    def train_one(self, weights: Weights, work: Work) -> Trained:
        """One client's training; whatever it raises becomes its error."""
        start = time.perf_counter()
        try:
            result = self._local.train(
                weights,
                self._setup.clients[work.client],
                work.strategy,
                work.learning_rate,
                work.rng(self._setup.seed),
            )
        except Exception as error:  # the user's own data and model run here: one client's fault
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:_MOST_CHARACTERS]
            return Trained(work, None, None, time.perf_counter() - start, reason)
        seconds = time.perf_counter() - start
        return Trained(work, result.update, result.train_loss, seconds)

    def close(self) -> None:
        """Nothing to free."""
