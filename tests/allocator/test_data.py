"""Skew measures against closed forms, and the loss model against sums written out."""

import numpy as np
import pytest

from fedhq.allocator import Coverage, FittedLoss, fitted_loss, parse_menu
from fedhq.allocator.data import (
    hellinger,
    normalised_entropy,
    separable_loss,
    total_variation,
    wire_noise,
)


def test_skew_is_zero_for_equal_clients_and_largest_for_single_class_clients() -> None:
    even, single = np.full((4, 5), 7), 9 * np.eye(5)
    assert total_variation(even) == pytest.approx(0)
    assert hellinger(even) == pytest.approx(0, abs=1e-7)
    assert normalised_entropy(even) == pytest.approx(1)
    assert total_variation(single) == pytest.approx(1 - 1 / 5)
    assert hellinger(single) == pytest.approx(np.sqrt(1 - np.sqrt(1 / 5)))
    assert normalised_entropy(single) == pytest.approx(0)


@pytest.mark.parametrize(
    ("alpha", "variation", "entropy", "distance"),
    [(0.1, 0.711, 0.368, 0.660), (1.0, 0.349, 0.838, 0.314), (10.0, 0.119, 0.981, 0.103)],
)
def test_skew_of_dirichlet_clients_has_the_known_expectation(
    alpha, variation, entropy, distance
) -> None:
    """Monte-Carlo values for ten classes around an even population, to +-0.01."""
    draws = np.random.default_rng(0).dirichlet(np.full(10, alpha), size=20_000)
    assert total_variation(draws).mean() == pytest.approx(variation, abs=0.01)
    assert normalised_entropy(draws).mean() == pytest.approx(entropy, abs=0.01)
    assert hellinger(draws).mean() == pytest.approx(distance, abs=0.01)


def test_wire_noise_falls_with_bits_and_vanishes_for_floats_and_absent_clients() -> None:
    noise = wire_noise(parse_menu(["skip", "fp32", "qat-w2a2-u2", "qat-w2a2", "qat-w2a2-u8"]))
    assert noise.tolist() == [0, 0, 1, 1 / 49, 1 / 127**2]


def test_absent_data_and_noise_are_priced_by_the_share_of_examples() -> None:
    menu = parse_menu(["skip", "fp32", "qat-w2a2"])
    loss = separable_loss(menu, [0.25, 0.75], FittedLoss(((0, 0),), 0.8, 0.49, 0.01, "by hand"))
    assert loss == pytest.approx(np.array([[0.2, 0, 0.0025], [0.6, 0, 0.0075]]))


def test_the_shipped_fit_is_a_convex_falling_curve_with_its_origin() -> None:
    fitted = fitted_loss()
    curve = np.array(fitted.loss_curve)
    slopes = np.diff(curve[:, 1]) / np.diff(curve[:, 0])
    assert curve[0, 0] == 0
    assert curve[-1, 1] == 0
    assert (slopes < 0).all()
    assert (np.diff(slopes) > 0).all()
    assert min(fitted.skip_price, fitted.wire_price, fitted.rule_loss) >= 0
    assert "fedhq study validity" in fitted.origin


def test_skew_is_defined_without_labels_and_without_examples() -> None:
    assert normalised_entropy([[3], [0]]).tolist() == [1, 1]
    for distance in (total_variation, hellinger):
        assert distance(np.zeros((2, 3))) == pytest.approx(0, abs=1e-7)
    with pytest.raises(ValueError, match="as many classes for every client"):
        total_variation([[1, 2], [3]])


def test_the_distance_to_a_given_population_counts_the_whole_fleet() -> None:
    assert total_variation([[4, 0]], [6, 2]).tolist() == [0.25]


def test_a_population_whose_sum_overflows_is_refused():
    with pytest.raises(ValueError, match="finite sum"):
        Coverage([[1, 1]], (1,), ((0, 0.5), (1, 0)), population=[1e308, 1e308])
