"""Times to a target, with misses, and spreads over seeds."""

import numpy as np
import pytest

from fedhq.studies.headline.course import Course, Difference, faster


def course(round_seconds, *curves):
    deployed = np.array(curves)
    ends = np.cumsum(np.full(deployed.shape, float(round_seconds)), axis=1)
    return Course(ends, deployed)


RISING = [
    [0.1, 0.4, 0.7, 0.9, 0.9, 0.9],
    [0.2, 0.5, 0.7, 0.8, 0.8, 0.8],
    [0.1, 0.5, 0.7, 0.9, 0.9, 0.9],
]
"""Each is at .65, in the mean of three rounds, after its fourth."""


def test_equal_curves_on_a_slower_clock_give_its_factor_for_all_draws():
    ratio = faster(course(1.0, *RISING), course(1.7, *RISING), 0.65)
    assert ratio.kind == "="
    assert [ratio.value, ratio.low, ratio.high, *ratio.seeds] == pytest.approx([1.7] * 6)


def test_a_round_more_costs_its_share():
    late = [[0.0, *curve[:-1]] for curve in RISING]
    ratio = faster(course(1.0, *late), course(1.5, *RISING), 0.65)
    assert ratio.value == pytest.approx(4 * 1.5 / 5)


@pytest.mark.parametrize(
    ("arm", "other", "kind", "value", "least", "most"),
    [
        (0.5, 1.0, "<", 8 / 6, 0.0, 8 / 6),  # the arm waited for 6 s, the other took 8 s
        (1.0, 0.5, ">", 12 / 4, 12 / 4, np.inf),
        (1.0, 1.0, "=", 2.0, 2.0, 2.0),
    ],
)
def test_a_miss_leaves_a_bound(arm, other, kind, value, least, most):
    curves = np.array(RISING)
    ratio = faster(course(1.0, *arm * curves), course(2.0, *other * curves), 0.65)
    assert ratio.kind == kind
    assert (ratio.value, ratio.least, ratio.most) == pytest.approx((value, least, most))
    assert ratio.low <= least or kind == "="
    assert ratio.high >= most or kind == "="


def test_two_misses_tell_nothing():
    ratio = faster(course(1.0, *RISING), course(2.0, *RISING), 0.95)
    assert str(ratio) == "both missed"
    assert (ratio.least, ratio.most) == (0.0, np.inf)
    assert np.isnan(ratio.seeds).all()


def test_the_mean_over_seeds_may_get_there_where_one_seed_does_not():
    curves = [[0.6, 0.9], [0.1, 0.6]]
    ratio = faster(course(1.0, *curves), course(1.0, *curves), 0.5)
    assert ratio.kind == "="
    assert ratio.seeds[0] == 1.0
    assert np.isnan(ratio.seeds[1])
    assert ratio.low == 0.0  # draws of the second seed alone never get there


def test_one_lucky_round_is_no_target_reached():
    steady, lucky = [0.3, 0.8, 0.8, 0.8, 0.8], [0.3, 0.6, 0.85, 0.6, 0.6]
    ratio = faster(course(1.0, lucky), course(1.0, steady), 0.75)
    assert ratio.kind == "<"


def test_one_seed_has_no_spread_to_show():
    ratio = faster(course(1.0, RISING[0]), course(2.0, RISING[0]), 0.65)
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 0.0, np.inf)


def test_accuracy_within_a_time_is_that_of_the_last_rounds_done():
    arm = course(1.0, [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.5, 0.9])
    assert arm.within(np.array([4.0, 3.5])) == pytest.approx([0.3, 0.5])
    assert arm.within(np.array([0.5, 1.0])) == pytest.approx([0.0, 0.5])


def test_an_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [Difference.of(rng.normal(0.3, 1.0, size=5).tolist()) for _ in range(400)]
    covered = np.mean([d.low <= 0.3 <= d.high for d in found])
    assert 0.92 < covered < 0.98
