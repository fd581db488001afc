"""Counts of clusters stand for label counts where clusters are classes."""

import numpy as np
import pytest

from fedhq.allocator import Coverage, feature_counts, find_centres

PLACES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def blobs(labels, rng):
    return PLACES[labels] + rng.normal(0, 0.5, (len(labels), 2))


@pytest.mark.parametrize("seed", range(20))
def test_separate_clusters_are_found_and_counted_as_labels_would_be(seed):
    rng = np.random.default_rng(seed)
    centres = find_centres(blobs(np.repeat(range(4), 20), rng), 4, rng)
    order = [int(np.abs(centres - place).sum(axis=1).argmin()) for place in PLACES]
    assert sorted(order) == [0, 1, 2, 3]
    labels = rng.integers(4, size=50)
    counts = feature_counts(blobs(labels, rng), centres)
    np.testing.assert_array_equal(counts[order], np.bincount(labels, minlength=4))


def test_the_same_draws_give_the_same_centres():
    points = np.random.default_rng(0).normal(size=(60, 3, 4))
    once, again = (find_centres(points, 5, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert once.shape == (5, 12)


def test_no_centre_could_be_moved_to_the_better():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 3))
    centres = find_centres(points, 7, rng)
    nearest = ((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    means = [points[nearest == k].mean(axis=0) for k in range(7)]
    np.testing.assert_allclose(centres, means, atol=1e-9)


def test_equal_examples_leave_centres_that_count_nothing():
    centres = find_centres(np.ones((5, 2)), 3, np.random.default_rng(0))
    assert feature_counts(np.ones((4, 2)), centres).sum() == 4


def test_a_client_without_examples_counts_nothing_and_coverage_takes_it():
    centres = find_centres(PLACES, 2, np.random.default_rng(0))
    rows = [feature_counts(np.empty((0, 2)), centres), feature_counts(PLACES, centres)]
    assert Coverage(rows, (0, 1), ((0, 0.1), (0.5, 0))).loss(np.ones(2)) == 0


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: find_centres(PLACES, 5, np.random.default_rng(0)), "5 for 4 examples"),
        (lambda: find_centres([1.0, 2.0], 1, np.random.default_rng(0)), "row of numbers"),
        (lambda: find_centres([[np.nan]], 1, np.random.default_rng(0)), "finite"),
        (lambda: feature_counts([[1.0, 2.0, 3.0]], PLACES), "2 numbers an example"),
    ],
)
def test_bad_features_are_refused(call, told):
    with pytest.raises(ValueError, match=told):
        call()
