"""The climb to the best prices: it ends at the linear relaxation of its round time."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import Budget
from fedhq.allocator.instances.families import FAMILIES
from fedhq.allocator.instances.random_program import random_program
from fedhq.allocator.instances.references import program_at
from fedhq.allocator.solvers import ascent
from fedhq.allocator.solvers.ascent import ascend
from fedhq.allocator.solvers.highs import HighsSettings, Outcome
from fedhq.allocator.solvers.relaxation import Relaxation
from fedhq.allocator.solvers.search import Bounds
from fedhq.allocator.solvers.smooth import Smooth
from fedhq.allocator.solvers.thresholds import Thresholds


def linear_optimum(problem, relaxation, time):
    """The linear relaxation's optimum with a fixed round time, in units; None if infeasible."""
    found = program_at(problem, time).relaxed().minimise(HighsSettings())
    return found.bound / relaxation.unit if found.outcome is Outcome.OPTIMAL else None


def fleets():
    for family, seed, clients in [
        ("federated", 0, 20), ("federated", 1, 60), ("federated", 2, 200), ("one giant", 0, 50),
        ("strongly correlated", 0, 100), ("ties", 1, 100), ("random", 6, 40), ("random", 9, 80),
        ("random", 17, 40), ("random", 20, 20),
    ]:  # fmt: skip
        problem = replace(FAMILIES[family](seed, clients), groups=None)
        relaxation = Relaxation.of(problem)
        if relaxation.usable.any(axis=1).all():
            yield problem, relaxation


def some_thresholds(relaxation, count=3):
    times = Thresholds.of(relaxation).times
    return times[np.unique(np.linspace(0, len(times) - 1, count).astype(int))]


def capped(problem):
    """With a maximum loss half-way between the least and that of the cheapest in time."""
    least, most = problem.loss.min(axis=1).sum(), problem.loss.max(axis=1).sum()
    if problem.coverage is not None:
        most += problem.coverage.loss(problem.coverage.carried)
    return replace(problem, max_loss=least + 0.3 * (most - least), tradeoff=problem.tradeoff or 5.0)


@pytest.mark.parametrize("precision", [1e-3, 1e-6])
@pytest.mark.parametrize("change", [lambda p: p, capped], ids=["", "capped"])
def test_a_climb_ends_at_the_linear_relaxation_from_wherever_it_starts(precision, change):
    checked = 0
    for problem, _ in fleets():
        problem = change(problem)
        relaxation = Relaxation.of(problem)
        elsewhere = None
        for time in some_thresholds(relaxation):
            expected = linear_optimum(problem, relaxation, time)
            if expected is None:
                continue
            for start in (None, elsewhere):
                peak = ascend(relaxation, time, start, precision)
                assert peak.bound <= expected + 1e-7 * max(1.0, abs(expected))
                assert peak.bound >= expected - precision - 1e-7 * max(1.0, abs(expected))
                assert (peak.prices >= 0).all()
            elsewhere = peak
            checked += 1
    assert checked > 10


def test_the_bound_of_a_peak_is_that_of_its_prices():
    for _, relaxation in fleets():
        for time in some_thresholds(relaxation):
            peak = ascend(relaxation, time, None, 1e-4)
            smooth = Smooth.of(relaxation, peak.prices, relaxation.within(time), 1.0)
            assert peak.bound == pytest.approx(smooth.bound + relaxation.time_cost(time), rel=1e-9)


def test_a_threshold_without_an_allocation_ends_above_the_ceiling_with_bounded_prices():
    checked = 0
    for seed in range(150):
        problem = replace(random_program(seed, 3 + seed % 20), groups=None)
        relaxation = Relaxation.of(problem)
        if not relaxation.num_prices or not relaxation.usable.any(axis=1).all():
            continue
        ceiling = Bounds(relaxation, 0.0).ceiling
        for time in some_thresholds(relaxation):
            if linear_optimum(problem, relaxation, time) is None:
                peak = ascend(relaxation, time, None, 1e-6, ceiling)
                assert peak.bound > ceiling, seed
                assert (peak.prices <= ascent._MOST).all()
                checked += 1
    assert checked > 20


def test_a_climb_without_a_cutoff_ends_though_nothing_holds_the_prices():
    problem = FAMILIES["federated"](0, 30)
    uplink, energy = problem.budgets
    short = replace(problem, budgets=(Budget(uplink.resource, uplink.usage, 0.1 * uplink.limit),
                                      energy))  # fmt: skip
    relaxation = Relaxation.of(short)
    for time in some_thresholds(relaxation):
        assert linear_optimum(short, relaxation, time) is None
        peak = ascend(relaxation, time, None, 1e-6)
        assert np.isfinite(peak.bound)
        assert (peak.prices <= ascent._MOST).all()


def test_a_climb_that_starts_where_it_ended_goes_nowhere_worse():
    for _, relaxation in fleets():
        time = some_thresholds(relaxation)[-1]
        once = ascend(relaxation, time, None, 1e-6)
        again = ascend(relaxation, time, once, 1e-6)
        assert again.bound >= once.bound - 2e-6


def test_a_cutoff_ends_the_climb_above_it():
    for _, relaxation in fleets():
        if not relaxation.num_prices:
            continue
        time = some_thresholds(relaxation)[-1]
        best = ascend(relaxation, time, None, 1e-6)
        low = best.bound - 1e-3 * abs(best.bound)
        assert low < ascend(relaxation, time, None, 1e-6, low).bound <= best.bound + 1e-6
