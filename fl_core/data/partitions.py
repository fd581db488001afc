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
        _check_one_label_each(labels)
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


@dataclass(frozen=True)
class PathologicalPartitioner:
    """Every client holds examples of a few classes only, drawn for it.

    All classes are held by equally many clients, or by one more; those of a class share its
    examples out evenly.

    Args:
        num_partitions: Clients.
        num_classes_per_partition: Classes that each holds.
        min_partition_size: Least examples of a partition.

    Raises:
        ValueError: If a class would lie with nobody, a client would hold more classes than there
            are or too few examples, or an example has more than one label.

    Example:
        >>> labels = np.arange(60) % 6
        >>> parts = PathologicalPartitioner(4, 3).partition(labels, np.random.default_rng(0))
        >>> [len(np.unique(labels[part])) for part in parts]
        [3, 3, 3, 3]
    """

    num_partitions: int
    num_classes_per_partition: int
    min_partition_size: int = 1

    def partition(self, labels: IntArray, rng: np.random.Generator) -> tuple[IntArray, ...]:
        """Splits examples into one array of indices a client.

        Args:
            labels: `(examples,)`.
            rng: Draws the classes of each client, and which examples of them it gets.
        """
        _check_one_label_each(labels)
        classes = np.unique(labels)
        each = self.num_classes_per_partition
        if not each <= len(classes) <= each * self.num_partitions:
            raise ValueError(
                "`num_classes_per_partition <= classes <= num_partitions * "
                f"num_classes_per_partition` must hold, but got {each} for {len(classes)} classes "
                f"and {self.num_partitions} partitions. Change num_classes_per_partition, or take "
                "more partitions."
            )
        parts: list[list[IntArray]] = [[] for _ in range(self.num_partitions)]
        holders = self._draw_holders(len(classes), rng)
        for label, own in zip(classes, holders, strict=True):
            members = rng.permutation(np.flatnonzero(labels == label))
            for client, piece in zip(own, np.array_split(members, len(own)), strict=True):
                parts[client].append(piece)
        return _checked([np.concatenate(part) for part in parts], self.min_partition_size)

    def _draw_holders(self, num_classes: int, rng: np.random.Generator) -> list[list[int]]:
        """`(classes,)` the clients that hold each: every client takes those that fewest hold."""
        holders: list[list[int]] = [[] for _ in range(num_classes)]
        for client in range(self.num_partitions):
            counts = np.array([len(own) for own in holders])
            order = np.lexsort((rng.random(num_classes), counts))
            for label in order[: self.num_classes_per_partition]:
                holders[label].append(client)
        return holders


@dataclass(frozen=True)
class ShardPartitioner:
    """Sorts the examples by class, cuts them into equal shards, and deals these out.

    Args:
        num_partitions: Clients.
        num_shards_per_partition: Shards that each gets.

    Raises:
        ValueError: If there are fewer examples than shards, or an example has more than one label.

    References:
        McMahan et al., Communication-efficient learning of deep networks (2017), section 3.

    Example:
        >>> labels = np.arange(60) % 6
        >>> parts = ShardPartitioner(3, 2).partition(labels, np.random.default_rng(0))
        >>> [len(part) for part in parts], max(len(np.unique(labels[part])) for part in parts)
        ([20, 20, 20], 2)
    """

    num_partitions: int
    num_shards_per_partition: int

    def partition(self, labels: IntArray, rng: np.random.Generator) -> tuple[IntArray, ...]:
        """Splits examples into one array of indices a client.

        Args:
            labels: `(examples,)`.
            rng: Draws the examples of each shard, and whose it is.
        """
        _check_one_label_each(labels)
        _check_size(len(labels), self.num_partitions, self.num_shards_per_partition)
        shuffled = rng.permutation(len(labels))
        by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
        num_shards = self.num_partitions * self.num_shards_per_partition
        shards = np.array_split(by_class, num_shards)
        dealt = rng.permutation(num_shards).reshape(self.num_partitions, -1)
        return _checked([np.concatenate([shards[k] for k in own]) for own in dealt], 1)


@dataclass(frozen=True)
class NaturalIdPartitioner:
    """Every client is one that the data name: a person, a writer, a role.

    Args:
        num_partitions: So many of them are drawn, and the examples of the others stay unused; all
            where None.
        min_partition_size: Those with fewer examples are left out.

    Raises:
        ValueError: If there are fewer than wanted.

    Example:
        >>> groups = np.array([7, 4, 7, 4, 4])
        >>> parts = NaturalIdPartitioner(None).partition(groups, np.random.default_rng(0))
        >>> [part.tolist() for part in parts]
        [[1, 3, 4], [0, 2]]
    """

    num_partitions: int | None
    min_partition_size: int = 1

    def partition(self, groups: IntArray, rng: np.random.Generator) -> tuple[IntArray, ...]:
        """Picks examples: one array of indices a client, clients in the order of their numbers.

        Args:
            groups: `(examples,)` whose each example is.
            rng: Draws the clients where not all are wanted.
        """
        order = np.argsort(groups, kind="stable")
        _, starts = np.unique(groups[order], return_index=True)
        parts = [p for p in np.split(order, starts[1:]) if len(p) >= self.min_partition_size]
        wanted = len(parts) if self.num_partitions is None else self.num_partitions
        if not 0 < wanted <= len(parts):
            raise ValueError(
                f"`num_partitions` = {self.num_partitions} must not exceed the natural clients, "
                f"but of {len(starts)} only {len(parts)} have at least {self.min_partition_size} "
                "examples. Take fewer or 'all', or lower min_partition_size."
            )
        if wanted == len(parts):
            return tuple(parts)
        return tuple(parts[k] for k in np.sort(rng.choice(len(parts), wanted, replace=False)))


def _check_one_label_each(labels: IntArray) -> None:
    if labels.ndim != 1:
        raise ValueError(
            f"`labels` must be one per example to be skewed, but got shape {labels.shape}: "
            'every text has characters of many classes. Take `partition.kind = "iid"`.'
        )


def _checked(parts: list[IntArray], least: int) -> tuple[IntArray, ...]:
    smallest = min(len(part) for part in parts)
    if smallest < least:
        raise ValueError(
            f"`min_partition_size` = {least} is not met: a partition has {smallest} examples. "
            "Lower it, or take fewer partitions."
        )
    return tuple(np.sort(part) for part in parts)


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
