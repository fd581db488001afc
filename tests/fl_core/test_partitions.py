"""Partitions are partitions, and as skewed as asked."""

import numpy as np
import pytest

from fedhq.allocator.data import total_variation
from fedhq.fl_core.data.partitions import DirichletPartitioner, IidPartitioner, count_labels

LABELS = np.repeat(np.arange(10), 400)


@pytest.mark.parametrize(
    "partitioner", [IidPartitioner(7), DirichletPartitioner(7, 0.3, min_partition_size=5)]
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
    with pytest.raises(ValueError, match=r"got shape \(10, 3\).*kind = \"iid\""):
        DirichletPartitioner(4, 1.0, 1).partition(texts, np.random.default_rng(0))
