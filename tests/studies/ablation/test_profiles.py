"""Performance profiles against their definition, and against shapes that are known."""

import numpy as np
import pytest
from ablation_cells import cell, failed

from fedhq.studies.ablation.judged import Criterion, judge
from fedhq.studies.ablation.profiles import Profile, Race, ratios

INF = np.inf


def race(seconds) -> Race:
    table = np.array(seconds, dtype=float)
    return Race(tuple("abcdefgh"[: table.shape[1]]), table, 0)


def test_profiles_are_those_of_the_definition():
    """Random tables with ties and failures, counted problem by problem."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        shape = (int(rng.integers(1, 12)), int(rng.integers(1, 5)))
        seconds = rng.integers(1, 6, shape).astype(float)
        seconds[rng.random(shape) < 0.3] = INF
        places = np.unique([1.0, *np.outer(range(1, 6), 1 / np.arange(1, 6)).ravel(), 6.0])
        both = (race(seconds).performance_profiles(), race(seconds).time_profiles())
        for solver, (relative, absolute) in enumerate(zip(*both, strict=True)):
            for place in places:
                within = [row[solver] < INF and row[solver] <= place * row.min() for row in seconds]
                assert relative(place * (1 + 1e-12)) == pytest.approx(np.mean(within))
                assert absolute(place) == pytest.approx(np.mean(seconds[:, solver] <= place))


def test_a_solver_that_is_twice_as_slow_everywhere_steps_once_at_two():
    fast, slow = race([[1, 2], [5, 10], [0.1, 0.2]]).performance_profiles()
    assert (fast.at.tolist(), fast.share.tolist()) == ([1.0], [1.0])
    assert (slow.at.tolist(), slow.share.tolist()) == ([2.0], [1.0])


def test_geometric_ratios_give_a_straight_line_of_steps():
    table = [[1.0, 2.0**k] for k in range(8)]
    profile = race(table).performance_profiles()[1]
    assert profile.at.tolist() == [2.0**k for k in range(8)]
    np.testing.assert_allclose(profile.share, np.arange(1, 9) / 8)


def test_ties_count_for_everybody_and_failures_for_nobody():
    first, second, none = race([[2, 2, INF], [INF, 3, INF], [INF, INF, INF]]).performance_profiles()
    assert first(1.0) == pytest.approx(1 / 3)
    assert second(1.0) == pytest.approx(2 / 3)
    assert second(1e9) == pytest.approx(2 / 3)
    assert (len(none.at), none(1e9)) == (0, 0.0)


def test_a_problem_that_nobody_solved_stays_unsolved_for_all():
    assert (ratios(np.array([[INF, INF]])) == INF).all()


def test_no_problem_at_all_gives_empty_profiles():
    assert Profile.of([])(1.0) == 0.0
    assert [p(1.0) for p in race(np.empty((0, 2))).performance_profiles()] == [0.0, 0.0]


def test_criteria_decide_what_counts_as_solved():
    proven = cell("proven", total=0.3)
    near = cell("near", outcome="feasible", objective=4.0 * (1 + 5e-5), bound=None, total=0.1)
    far = cell("far", outcome="feasible", objective=5.0, bound=None, total=0.01)
    judged = judge([proven, near, far, failed("none", total=0.01)])
    wanted = {
        Criterion.PROVEN: [0.3, INF, INF, INF],
        Criterion.NEAR: [0.3, 0.1, INF, INF],
        Criterion.ANSWERED: [0.3, 0.1, 0.01, INF],
    }
    for criterion, seconds in wanted.items():
        assert Race.of(judged, criterion).seconds.tolist() == [seconds]


def test_what_is_late_is_not_solved_and_ties_at_the_limit_are():
    judged = judge([cell("in time", total=1.05), cell("late", total=1.15)])
    for criterion in Criterion:
        assert Race.of(judged, criterion).seconds.tolist() == [[1.05, INF]]


def test_only_problems_that_all_solvers_were_given_are_raced():
    whole = [cell(solver, f"ties, 2, {seed}") for solver in "ab" for seed in (0, 1)]
    extra = cell("a", "ties, 2, 2")
    found = Race.of(judge([*whole, extra, failed("gone", outcome="missing")]), Criterion.NEAR)
    assert (found.solvers, len(found.seconds), found.left_out) == (("a", "b"), 2, 1)
