"""Part of every client's examples, kept for its own test."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...allocator.arrays import IntArray
from .clients import Clients, count_each, read_only, short_digest
from .datasets import Dataset


@dataclass(frozen=True, eq=False)
class _HeldOut(Clients):
    """One side of `hold_out`: which examples a client's are is drawn anew at each access.

    Args:
        source: All examples of each client.
        share: Part of them that is for testing.
        seed: Of the draws.
        is_test: Which side.
    """

    source: Clients
    share: float
    seed: int
    is_test: bool

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, client: int) -> Dataset:
        place = range(len(self))[client]
        data = self.source[place]
        order = np.random.default_rng([self.seed, place]).permutation(len(data))
        num_test = int(self._num_tests[place])
        return data.take(np.sort(order[:num_test] if self.is_test else order[num_test:]))

    @property
    def num_classes(self) -> int:
        """Classes."""
        return self.source.num_classes

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Sizes of one example."""
        return self.source.input_shape

    @cached_property
    def _num_tests(self) -> IntArray:
        """`(clients,)` the share, rounded, but at least one, and one is left to train on."""
        num_examples = self.source.num_examples
        wanted = np.maximum(np.rint(self.share * num_examples).astype(np.int64), 1)
        num_tests: IntArray = wanted.clip(max=num_examples - 1).clip(min=0)
        return num_tests

    @cached_property
    def num_examples(self) -> IntArray:
        """`(clients,)` examples of each client."""
        return read_only(
            self._num_tests if self.is_test else self.source.num_examples - self._num_tests
        )

    @cached_property
    def label_counts(self) -> IntArray:
        """`(clients, classes)` labels of each class; of texts, characters."""
        return count_each(self, self.num_classes)

    @cached_property
    def fingerprint(self) -> str:
        """A short digest of the source and of what is drawn from it."""
        drawn = f"{self.share} {self.seed} {self.is_test}"
        return short_digest([self.source.fingerprint.encode(), drawn.encode()])


def hold_out(clients: Clients, share: float, rng: np.random.Generator) -> tuple[Clients, Clients]:
    """Splits every client's examples into those to train on and those to test on.

    A client tests on the share of its examples, rounded, but on one at least; and one is left to
    train on, so that a client of a single example tests on none. Examples are drawn one by one:
    where they overlap, as smartwatch windows do, a test knows half of what was trained on.

    Args:
        clients: All data.
        share: For testing, in (0, 1).
        rng: Draws.

    Returns:
        What the clients train on, and what they test on; neither copies any data.

    Raises:
        ValueError: If the share lies outside (0, 1).

    Example:
        >>> import torch
        >>> from fedhq.fl_core.data.clients import ListedClients
        >>> data = Dataset(torch.arange(10.0)[:, None], torch.arange(10) % 2, 2)
        >>> train, test = hold_out(ListedClients((data,)), 0.3, np.random.default_rng(0))
        >>> train.num_examples.tolist(), test.num_examples.tolist()
        ([7], [3])
    """
    if not 0 < share < 1:
        raise ValueError(f"`0 < share < 1` must hold, but got {share}.")
    seed = int(rng.integers(2**63))
    return _HeldOut(clients, share, seed, is_test=False), _HeldOut(clients, share, seed, True)
