"""Partitions are partitions, and as skewed as asked."""

import numpy as np
import pytest
import torch

from fedhq.allocator.data import total_variation
from fedhq.fl_core.data.datasets import Dataset
from fedhq.fl_core.data.partitions import (
    DirichletPartitioner,
    IidPartitioner,
    NaturalIdPartitioner,
    PathologicalPartitioner,
    ShardPartitioner,
    count_labels,
)
from fedhq.fl_core.data.spread import spread_dataset
from fedhq.fl_core.settings import PartitionSettings

LABELS = np.repeat(np.arange(10), 400)


@pytest.mark.parametrize(
    "partitioner",
    [
        IidPartitioner(7),
        DirichletPartitioner(7, 0.3, min_partition_size=5),
        PathologicalPartitioner(7, 3),
        ShardPartitioner(7, 3),
    ],
)
def test_every_example_lies_with_exactly_one_client(partitioner) -> None:
    parts = partitioner.partition(LABELS, np.random.default_rng(0))
    assert len(parts) == 7
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(LABELS)))


def test_the_same_seed_gives_the_same_partition_and_another_seed_another() -> None:
    make = DirichletPartitioner(5, 0.5)
    first, again, other = (make.partition(LABELS, np.random.default_rng(s)) for s in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_smaller_alpha_means_more_skew_and_iid_means_none() -> None:
    def skew(partitioner) -> float:
        parts = partitioner.partition(LABELS, np.random.default_rng(3))
        return float(total_variation(count_labels(LABELS, parts, 10)).mean())

    skews = [skew(DirichletPartitioner(10, alpha, 1)) for alpha in (0.1, 1.0, 100.0)]
    assert skews[0] > skews[1] > skews[2]
    assert skew(IidPartitioner(10)) < 0.1


def test_min_partition_size_is_kept() -> None:
    parts = DirichletPartitioner(20, 0.2, min_partition_size=30).partition(
        LABELS, np.random.default_rng(0)
    )
    assert min(len(p) for p in parts) >= 30


def test_impossible_sizes_are_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match="need 5000 examples, but there are 4000"):
        DirichletPartitioner(50, 1.0, 100).partition(LABELS, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"min_partition_size.*alpha"):
        DirichletPartitioner(40, 0.01, 99).partition(LABELS, np.random.default_rng(0))


def test_label_counts_count() -> None:
    parts = IidPartitioner(3).partition(LABELS, np.random.default_rng(0))
    counts = count_labels(LABELS, parts, 10)
    assert counts.sum() == len(LABELS)
    assert counts[1, 4] == (LABELS[parts[1]] == 4).sum()


@pytest.mark.filterwarnings("error")
def test_extreme_skew_still_gives_a_partition() -> None:
    parts = DirichletPartitioner(10, alpha=1e-4, min_partition_size=1)._draw(
        LABELS, np.random.default_rng(0)
    )
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(LABELS)))


def test_texts_are_dealt_out_evenly_their_characters_counted_and_never_skewed() -> None:
    texts = np.arange(30).reshape(10, 3) % 5
    parts = IidPartitioner(4).partition(texts, np.random.default_rng(0))
    assert [len(part) for part in parts] == [3, 3, 2, 2]
    counts = count_labels(texts, parts, 6)
    assert counts.sum(axis=1).tolist() == [9, 9, 6, 6]
    assert counts.sum(axis=0).tolist() == [6, 6, 6, 6, 6, 0]
    for skewed in (
        DirichletPartitioner(4, 1.0, 1),
        PathologicalPartitioner(4, 2),
        ShardPartitioner(4, 2),
    ):
        with pytest.raises(ValueError, match=r"got shape \(10, 3\).*kind = \"iid\""):
            skewed.partition(texts, np.random.default_rng(0))


@pytest.mark.parametrize(("num_partitions", "each"), [(7, 3), (10, 1), (4, 10), (33, 2)])
def test_pathological_clients_hold_their_classes_and_classes_their_share_of_clients(
    num_partitions, each
) -> None:
    make = PathologicalPartitioner(num_partitions, each)
    parts = make.partition(LABELS, np.random.default_rng(4))
    held = count_labels(LABELS, parts, 10) > 0
    assert (held.sum(axis=1) == each).all()
    holders = held.sum(axis=0)
    assert holders.max() - holders.min() <= 1
    counts = count_labels(LABELS, parts, 10)
    for label in range(10):
        own = counts[held[:, label], label]
        assert own.max() - own.min() <= 1
    other = make.partition(LABELS, np.random.default_rng(5))
    assert not all(np.array_equal(a, b) for a, b in zip(parts, other, strict=True))


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (PathologicalPartitioner(4, 2), r"got 2 for 10 classes and 4 partitions"),
        (PathologicalPartitioner(4, 11), r"got 11 for 10 classes"),
        (PathologicalPartitioner(100, 1, 60), r"`min_partition_size` = 60 .* has 40 examples"),
        (ShardPartitioner(1000, 5), "need 5000 examples, but there are 4000"),
    ],
)
def test_pathological_and_shard_partitions_that_cannot_be_are_refused(make, rule) -> None:
    with pytest.raises(ValueError, match=rule):
        make.partition(LABELS, np.random.default_rng(0))


def test_shards_are_equal_and_of_neighbouring_classes() -> None:
    parts = ShardPartitioner(20, 2).partition(LABELS, np.random.default_rng(0))
    assert {len(part) for part in parts} == {200}
    assert ((count_labels(LABELS, parts, 10) > 0).sum(axis=1) <= 2).all()
    uneven = ShardPartitioner(7, 3).partition(LABELS[:1000], np.random.default_rng(0))
    assert max(len(p) for p in uneven) - min(len(p) for p in uneven) <= 3


GROUPS = np.repeat([5, 3, 9, 4], [40, 30, 20, 10])


def test_natural_clients_are_those_of_the_data_in_the_order_of_their_ids() -> None:
    shuffled = np.random.default_rng(1).permutation(GROUPS)
    parts = NaturalIdPartitioner(None).partition(shuffled, np.random.default_rng(0))
    assert [set(shuffled[part]) for part in parts] == [{3}, {4}, {5}, {9}]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(100))
    large = NaturalIdPartitioner(None, 20).partition(GROUPS, np.random.default_rng(0))
    assert [len(part) for part in large] == [30, 40, 20]


def test_fewer_natural_clients_are_drawn_and_more_refused() -> None:
    def drawn(seed: int) -> tuple[int, ...]:
        parts = NaturalIdPartitioner(2).partition(GROUPS, np.random.default_rng(seed))
        assert all(len(set(GROUPS[part])) == 1 for part in parts)
        return tuple(int(GROUPS[part[0]]) for part in parts)

    assert drawn(0) == drawn(0)
    assert len({drawn(seed) for seed in range(20)}) > 3
    with pytest.raises(ValueError, match=r"= 4 must not exceed .* of 4 only 3 have at least 20"):
        NaturalIdPartitioner(4, 20).partition(GROUPS, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"of 4 only 0 have at least 50"):
        NaturalIdPartitioner(None, 50).partition(GROUPS, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("settings", "partitioner"),
    [
        (PartitionSettings("iid", 5), IidPartitioner(5)),
        (PartitionSettings("dirichlet", 5, 0.7, 3), DirichletPartitioner(5, 0.7, 3)),
        (
            PartitionSettings("pathological", 5, num_classes_per_partition=4),
            PathologicalPartitioner(5, 4, 16),
        ),
        (PartitionSettings("shards", 5, num_shards_per_partition=4), ShardPartitioner(5, 4)),
    ],
)
def test_settings_give_the_partition_of_their_kind(settings, partitioner) -> None:
    data = Dataset(torch.zeros(len(LABELS), 1), torch.from_numpy(LABELS), 10)
    clients = spread_dataset(data, settings, np.random.default_rng(2))
    parts = partitioner.partition(LABELS, np.random.default_rng(2))
    assert all(np.array_equal(a, b) for a, b in zip(clients.parts, parts, strict=True))


def test_settings_give_natural_clients_only_where_the_data_name_them() -> None:
    data = Dataset(torch.zeros(100, 1), torch.zeros(100, dtype=torch.int64), 2, GROUPS)
    rng = np.random.default_rng(0)
    everybody = spread_dataset(data, PartitionSettings("natural", "all", min_partition_size=1), rng)
    assert everybody.num_examples.tolist() == [30, 10, 40, 20]
    assert len(spread_dataset(data, PartitionSettings("natural", 2), rng)) == 2
    nameless = Dataset(data.inputs, data.labels, 2)
    with pytest.raises(ValueError, match="whose each example is"):
        spread_dataset(nameless, PartitionSettings("natural", "all"), rng)
    with pytest.raises(ValueError, match=r"num_clients = \"all\"` needs .*\"natural\""):
        PartitionSettings("iid", "all")
