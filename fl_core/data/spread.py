"""Spreads a data set over the clients as settings say."""

from __future__ import annotations

import numpy as np

from ..settings.data import PartitionSettings
from .clients import PartitionedClients
from .datasets import Dataset, natural_groups
from .partitions import (
    DirichletPartitioner,
    IidPartitioner,
    NaturalIdPartitioner,
    PathologicalPartitioner,
    ShardPartitioner,
)


def spread_dataset(
    dataset: Dataset, settings: PartitionSettings, rng: np.random.Generator
) -> PartitionedClients:
    """Gives every client its examples.

    Args:
        dataset: What the clients share out.
        settings: How.
        rng: Draws.

    Raises:
        ValueError: If the data cannot be spread so.

    Example:
        >>> import torch
        >>> data = Dataset(torch.zeros(9, 1), torch.arange(9) % 3, 3)
        >>> clients = spread_dataset(data, PartitionSettings("iid", 3), np.random.default_rng(0))
        >>> clients.num_examples.tolist()
        [3, 3, 3]
    """
    if settings.kind == "natural":
        wanted = None if settings.num_clients == "all" else settings.num_clients
        natural = NaturalIdPartitioner(wanted, settings.min_partition_size)
        return PartitionedClients(dataset, natural.partition(natural_groups(dataset), rng))
    partitioner = _by_labels(settings, int(settings.num_clients))
    return PartitionedClients(dataset, partitioner.partition(dataset.labels.numpy(), rng))


def _by_labels(
    settings: PartitionSettings, num_clients: int
) -> IidPartitioner | DirichletPartitioner | PathologicalPartitioner | ShardPartitioner:
    if settings.kind == "iid":
        return IidPartitioner(num_clients)
    if settings.kind == "shards":
        return ShardPartitioner(num_clients, settings.num_shards_per_partition)
    if settings.kind == "pathological":
        classes = settings.num_classes_per_partition
        return PathologicalPartitioner(num_clients, classes, settings.min_partition_size)
    return DirichletPartitioner(num_clients, settings.alpha, settings.min_partition_size)
