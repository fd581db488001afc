"""Spreads labelled examples over clients; names and parameters follow flwr-datasets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...allocator.arrays import IntArray

_MAX_DRAWS = 1000


@dataclass(frozen=True)
class IidPartitioner:
    """Deals shuffled examples out evenly.

    Args:
        num_partitions: Clients.

    Example:
        >>> parts = IidPartitioner(2).partition(np.zeros(5, int), np.random.default_rng(0))
        >>> [len(p) for p in parts]
        [3, 2]
    """

    num_partitions: int

    def partition(self, labels: IntArray, rng: np.random.Generator) -> tuple[IntArray, ...]:
        """Splits examples into one array of indices a client.

        Args:
            labels: `(examples,)`, or `(examples, time)` of texts; only their number matters.
            rng: Shuffles.
        """
        _check_size(len(labels), self.num_partitions, 1)
        order = rng.permutation(len(labels))
        return tuple(np.sort(part) for part in np.array_split(order, self.num_partitions))


@dataclass(frozen=True)
class DirichletPartitioner:
    """Label skew: the examples of every class are spread by a draw from a Dirichlet distribution.

    Drawn over the partitions for each class, and drawn again until every partition is large
    enough, as flwr-datasets' partitioner of that name does.

    Args:
        num_partitions: Clients.
        alpha: Concentration; small is skewed.
        min_partition_size: Least examples of a partition.
        self_balancing: Partitions that have their even share already get no more of a class.

    Raises:
        ValueError: If there are too few examples, or no draw is balanced enough, or an example has
            more than one label, as texts have.

    Example:
        >>> labels = np.arange(200) % 4
        >>> parts = DirichletPartitioner(5, alpha=0.5).partition(labels, np.random.default_rng(0))
        >>> sorted(np.concatenate(parts)) == list(range(200))
        True
    """

    num_partitions: int
    alpha: float
    min_partition_size: int = 10
    self_balancing: bool = True

    def partition(self, labels: IntArray, rng: np.random.Generator) -> tuple[IntArray, ...]:
        """Splits examples into one array of indices a client.

        Args:
            labels: `(examples,)`.
            rng: Draws the shares, and which examples they are.
        """
        if labels.ndim != 1:
            raise ValueError(
                f"`labels` must be one per example to be skewed, but got shape {labels.shape}: "
                'every text has characters of many classes. Take `partition.kind = "iid"`.'
            )
        _check_size(len(labels), self.num_partitions, self.min_partition_size)
        for _ in range(_MAX_DRAWS):
            parts = self._draw(labels, rng)
            if min(len(part) for part in parts) >= self.min_partition_size:
                return parts
        raise ValueError(
            f"`min_partition_size` = {self.min_partition_size} was not met in {_MAX_DRAWS} draws "
            f"for {self.num_partitions} partitions at alpha = {self.alpha}. Lower it, raise alpha, "
            "or take fewer partitions."
        )

    def _draw(self, labels: IntArray, rng: np.random.Generator) -> tuple[IntArray, ...]:
        parts: list[list[IntArray]] = [[] for _ in range(self.num_partitions)]
        sizes = np.zeros(self.num_partitions, dtype=np.int64)
        for label in np.unique(labels):
            members = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet(np.full(self.num_partitions, self.alpha))
            if self.self_balancing:
                open_ = shares * (sizes < len(labels) / self.num_partitions)
                # All of a very skewed draw may lie with partitions that are full: then it stands.
                shares = open_ / open_.sum() if open_.sum() > 0 else shares
            cuts = (np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
            for part, piece in zip(parts, np.split(members, cuts), strict=True):
                part.append(piece)
            sizes += np.diff([0, *cuts, len(members)])
        return tuple(np.sort(np.concatenate(part)) for part in parts)


def _check_size(num_examples: int, num_partitions: int, least: int) -> None:
    if num_examples < num_partitions * least:
        raise ValueError(
            f"{num_partitions} partitions of at least {least} need {num_partitions * least} "
            f"examples, but there are {num_examples}. Take fewer partitions."
        )


def count_labels(labels: IntArray, parts: tuple[IntArray, ...], num_classes: int) -> IntArray:
    """`(clients, classes)` labels of each class in each partition.

    Args:
        labels: `(examples,)`: then these are examples; or `(examples, time)`: then characters.
        parts: `(clients,)` indices of examples.
        num_classes: Classes.

    Example:
        >>> count_labels(np.array([0, 1, 1]), (np.array([0, 1]), np.array([2])), 2)
        array([[1, 1],
               [0, 1]])
    """
    counts = [np.bincount(labels[part].ravel(), minlength=num_classes) for part in parts]
    return np.array(counts, dtype=np.int64)
