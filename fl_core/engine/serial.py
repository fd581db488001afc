"""Trains clients in this process: one after the other, or some together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from ..data.datasets import Dataset
from ..weights import Weights
from .batched import StackedTrainer
from .local import LocalResult, LocalTrainer
from .work import Setup, Trained, Work, make_groups

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
        self._stacked: StackedTrainer | None = None
        if setup.training.clients_together > 1:
            sample = _sample(setup)
            self._stacked = StackedTrainer(setup.model, setup.training, setup.quantization, sample)

    def train(self, weights: Weights, works: Sequence[Work]) -> Iterator[Trained]:
        """Trains all in their order; see `Engine.train`."""
        for group in make_groups(works, self._setup):
            yield from self.train_group(weights, group)

    def train_group(self, weights: Weights, group: Sequence[Work]) -> list[Trained]:
        """Trains one client, or several together; whatever is raised becomes their error.

        Where a group fails, its clients train one after the other, so that the others go on. Each
        is said to take an equal share of the group's time.
        """
        start = time.perf_counter()
        errors: dict[Work, str] = {}
        read: dict[Work, Dataset] = {}
        for work in group:
            try:
                read[work] = self._setup.clients[work.client]
            except Exception as error:  # the user's own data are read here: one client's fault
                errors[work] = _reason(error)
        results: dict[Work, LocalResult] = {}
        try:
            results = self._train(weights, read)
        except Exception as error:  # the user's own model runs here
            if len(read) > 1:  # only those fail that fail alone
                return [trained for work in group for trained in self.train_group(weights, [work])]
            errors.update(dict.fromkeys(read, _reason(error)))
        seconds = (time.perf_counter() - start) / len(group)
        return [
            Trained(work, None, None, seconds, errors[work])
            if work in errors
            else Trained(work, results[work].update, results[work].train_loss, seconds)
            for work in group
        ]

    def _train(self, weights: Weights, read: dict[Work, Dataset]) -> dict[Work, LocalResult]:
        """Trains clients of one kind."""
        if not read:
            return {}
        first, *others = read
        rngs = [work.rng(self._setup.seed) for work in read]
        kind = first.strategy, first.learning_rate
        if not others:
            return {first: self._local.train(weights, read[first], *kind, rngs[0])}
        assert self._stacked is not None
        trained = self._stacked.train(weights, list(read.values()), *kind, rngs)
        return dict(zip(read, trained, strict=True))

    def close(self) -> None:
        """Nothing to free."""


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:_MOST_CHARACTERS]


def _sample(setup: Setup) -> Dataset:
    """The data of the first client that holds an example."""
    sizes = setup.clients.num_examples
    if not sizes.any():
        raise ValueError("`a client holds an example` must hold, but none does.")
    return setup.clients[int(sizes.argmax())]
