"""The priced relaxation and its bounds by round time: slopes, weak duality, units."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import Budget, Count, Coverage
from fedhq.allocator.instances.families import FAMILIES
from fedhq.allocator.instances.random_program import random_program
from fedhq.allocator.instances.references import best_choice
from fedhq.allocator.solvers import smooth as module
from fedhq.allocator.solvers.relaxation import Relaxation
from fedhq.allocator.solvers.smooth import Smooth
from fedhq.allocator.solvers.thresholds import Thresholds


def every_term(seed, clients=12):
    """A fleet with every kind of limit."""
    problem = FAMILIES["federated"](seed, clients)
    return replace(
        problem,
        max_loss=0.3,
        min_participation=0.6,
        counts=(Count(["qat-w2a2"], at_least=2, at_most=clients - 2), Count(["skip"], at_most=5)),
        switching_seconds=np.random.default_rng(seed).random((clients, 3)),
    )


def random_prices(rng, relaxation):
    prices = rng.lognormal(-1, 1.5, relaxation.num_prices)
    return np.where(rng.random(len(prices)) < 0.2, 0.0, prices)


def relaxations(count, clients=5):
    """Random problems, whose clients all have something usable, with random prices."""
    for seed in range(count):
        problem = replace(random_program(seed, 1 + seed % clients), groups=None)
        relaxation = Relaxation.of(problem)
        if relaxation.usable.any(axis=1).all():
            yield problem, relaxation, random_prices(np.random.default_rng(seed), relaxation)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("width", [1.0, 0.1])
def test_slopes_of_the_smooth_dual_are_finite_differences(seed, width):
    relaxation = Relaxation.of(every_term(seed))
    mask = relaxation.usable
    prices = np.random.default_rng(seed).uniform(0.05, 0.5, relaxation.num_prices)
    smooth = Smooth.of(relaxation, prices, mask, width)
    step = 1e-6
    for k, along in enumerate(np.eye(len(prices)) * step):
        ahead = Smooth.of(relaxation, prices + along, mask, width)
        behind = Smooth.of(relaxation, prices - along, mask, width)
        slope = (ahead.value - behind.value) / (2 * step)
        assert slope == pytest.approx(smooth.gradient[k], rel=1e-5, abs=1e-7)
        bend = (behind.gradient - ahead.gradient) / (2 * step)
        assert bend == pytest.approx(smooth.curvature[:, k], rel=1e-4, abs=1e-6)


def test_the_smooth_dual_is_below_the_bound_by_the_width_at_most():
    checked = 0
    for problem, relaxation, prices in relaxations(200):
        for width in (1.0, 1e-2, 1e-6):
            smooth = Smooth.of(relaxation, prices, relaxation.usable, width)
            most = np.log(problem.seconds.shape[1]) + np.log(len(relaxation.points))
            softness = smooth.bound - smooth.value
            assert -1e-12 <= softness <= width * most + 1e-12
            checked += softness > 0
    assert checked > 300


def test_the_curvature_is_symmetric_and_never_negative():
    for _, relaxation, prices in relaxations(100):
        curvature = Smooth.of(relaxation, prices, relaxation.usable, 0.1).curvature
        assert curvature == pytest.approx(curvature.T, abs=1e-9)
        if len(curvature):
            least = np.linalg.eigvalsh(curvature).min()
            assert least >= -1e-9 * max(1.0, np.abs(curvature).max())


def test_no_prices_bound_the_optimum_from_above():
    rng, near = np.random.default_rng(0), 0
    for problem, relaxation, _ in relaxations(300):
        best = best_choice(problem)
        if best is None:
            continue
        optimum = problem.objective(best) / relaxation.unit
        thresholds = Thresholds.of(relaxation)
        at = int(np.searchsorted(thresholds.times, problem.round_seconds(best)))
        for _ in range(5):
            bounds = thresholds.bounds(random_prices(rng, relaxation))
            assert bounds.min() <= optimum + 1e-9 * max(1.0, abs(optimum))
            if problem.time_weight:  # and its own time's bound alone
                assert thresholds.times[at] == problem.round_seconds(best)
                assert bounds[at] <= optimum + 1e-9 * max(1.0, abs(optimum))
            near += bounds.min() > 0.5 * optimum
    assert near > 50


def bounds_by_loops(relaxation, prices, times):
    """D and the time term straight from its definition."""
    problem, found = relaxation.problem, []
    for time in times:
        value = problem.time_weight * time / relaxation.unit - prices @ relaxation.limits
        cost = relaxation.priced(prices)
        for i in range(problem.num_clients):
            value += min(
                cost[i, s]
                for s in range(cost.shape[1])
                if relaxation.usable[i, s] and problem.seconds[i, s] <= time
            )
        for ends in relaxation.curve_priced(prices):
            value += min(ends)
        found.append(value)
    return np.array(found)


def test_bounds_of_all_thresholds_are_the_minima_over_what_ends_in_time():
    several = 0
    for problem, relaxation, prices in relaxations(200):
        thresholds = Thresholds.of(relaxation)
        expected = bounds_by_loops(relaxation, prices, thresholds.times)
        assert thresholds.bounds(prices) == pytest.approx(expected, rel=1e-10, abs=1e-10)
        several += len(expected) > 2
        for k, time in enumerate(thresholds.times):
            smooth = Smooth.of(relaxation, prices, relaxation.within(time), 1.0)
            alone = smooth.bound + relaxation.time_cost(time)
            assert alone == pytest.approx(expected[k], rel=1e-10, abs=1e-10)
        floor = np.where(relaxation.usable, problem.seconds, np.inf).min(axis=1).max()
        assert thresholds.times[0] >= floor
    assert several > 50


def test_every_round_time_of_an_allocation_is_a_threshold():
    rng = np.random.default_rng(1)
    for problem, relaxation, _ in relaxations(100):
        if not problem.time_weight:
            continue
        times = Thresholds.of(relaxation).times
        for _ in range(20):
            choice = np.where(relaxation.usable, rng.random(relaxation.usable.shape), -1).argmax(1)
            assert problem.round_seconds(choice) in times


def test_blocks_of_clients_change_nothing(monkeypatch):
    relaxation = Relaxation.of(every_term(3, 17))
    prices = random_prices(np.random.default_rng(3), relaxation)
    whole = Smooth.of(relaxation, prices, relaxation.usable, 0.05)
    monkeypatch.setattr(module, "_BLOCK", 3)
    parts = Smooth.of(relaxation, prices, relaxation.usable, 0.05)
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    assert parts.bound == pytest.approx(whole.bound, rel=1e-12)
    assert parts.gradient == pytest.approx(whole.gradient, rel=1e-10, abs=1e-12)
    assert parts.curvature == pytest.approx(whole.curvature, rel=1e-10, abs=1e-10)


def test_a_sample_of_equal_clients_has_the_dual_of_all():
    one = every_term(1, 6)
    four = replace(
        one,
        seconds=np.repeat(one.seconds, 4, axis=0),
        loss=np.repeat(one.loss, 4, axis=0) / 4,
        allowed=np.repeat(one.allowed, 4, axis=0),
        budgets=tuple(
            Budget(b.resource, np.repeat(b.usage, 4, axis=0), 4 * b.limit) for b in one.budgets
        ),
        coverage=Coverage(
            np.repeat(one.coverage.label_counts, 4, axis=0),
            one.coverage.teaches,
            one.coverage.loss_curve,
        ),
        num_examples=np.repeat(one.num_examples, 4),
        switching_seconds=np.repeat(one.switching_seconds, 4, axis=0),
        members=np.ones(24),
        clients=range(24),
    )
    relaxation = Relaxation.of(four)
    sample = relaxation.sampled(np.arange(0, 24, 4))
    for seed in range(5):
        prices = random_prices(np.random.default_rng(seed), relaxation)
        whole = Thresholds.of(relaxation).bounds(prices)
        assert Thresholds.of(sample).bounds(prices) == pytest.approx(whole, rel=1e-10)


def in_original_units(problem, prices):
    """Priced costs by what the named prices mean."""
    cost = problem.loss_weight * problem.loss + prices.max_loss * problem.loss
    if problem.switching_seconds is not None:
        cost = cost + problem.switching_seconds
    for price, budget in zip(prices.budgets, problem.budgets, strict=True):
        cost = cost + price * budget.usage
    for price, count in zip(prices.counts, problem.counts, strict=True):
        sign = 1 if count.at_most is not None else -1
        cost = cost + sign * price * np.outer(problem.members, count.columns(problem.strategies))
    takes_part = np.outer(problem.example_shares, problem.participates)
    cost = cost - prices.min_participation * takes_part
    if problem.coverage is not None:
        worth = problem.coverage.share @ prices.coverage
        cost = cost - np.outer(worth, problem.coverage.teaches)
    return cost


def without_excess(relaxation, prices):
    """The prices, those of a class no higher than what its first coverage is worth."""
    first, count = relaxation.num_rows, relaxation.num_curves
    prices = prices.copy()
    if count and len(relaxation.points) > 1:
        free = prices.copy()
        free[first : first + count] = 0
        costs = relaxation.curve_priced(free)
        steepest = (costs[:, 0] - costs[:, 1]) / relaxation.points[1]
        prices[first : first + count] = np.minimum(prices[first : first + count], steepest)
    return prices


def test_a_class_is_worth_no_more_than_its_first_coverage():
    higher = 0
    for _, relaxation, prices in relaxations(200):
        thresholds, less = Thresholds.of(relaxation), without_excess(relaxation, prices)
        before, after = thresholds.bounds(prices), thresholds.bounds(less)
        assert (after >= before - 1e-9 * np.maximum(1.0, np.abs(before))).all()
        higher += (after > before + 1e-9).any()
        named, same = relaxation.named(prices), relaxation.named(less)
        assert named.coverage == pytest.approx(same.coverage, rel=1e-12)
    assert higher > 20


def test_named_prices_are_in_the_units_of_the_problem():
    kinds = np.zeros(5, dtype=int)
    for problem, relaxation, drawn in relaxations(300):
        prices = without_excess(relaxation, drawn)
        # That somebody takes part is a limit without a name.
        somebody = len(relaxation.rows.somebody)
        prices[relaxation.num_rows - somebody : relaxation.num_rows] = 0
        named = relaxation.named(prices)
        cost = relaxation.priced(prices) * relaxation.unit
        expected = in_original_units(problem, named)
        assert cost == pytest.approx(expected, rel=1e-9, abs=1e-9 * relaxation.unit)
        kinds += [
            named.budgets.any(),
            named.counts.any(),
            named.coverage.any(),
            named.max_loss > 0,
            named.min_participation > 0,
        ]
    assert (kinds > 10).all()


@pytest.mark.parametrize("factor", [2.0**-40, 2.0**40])
def test_a_budget_in_another_unit_has_the_inverse_price(factor):
    problem = every_term(0)
    first, second = problem.budgets
    other = replace(
        problem,
        budgets=(Budget(first.resource, first.usage * factor, first.limit * factor), second),
    )
    prices = random_prices(np.random.default_rng(0), Relaxation.of(problem)) + 0.1
    here, there = (Relaxation.of(p).named(prices) for p in (problem, other))
    assert there.budgets[0] * factor == pytest.approx(here.budgets[0], rel=1e-9)
    assert there.budgets[1] == pytest.approx(here.budgets[1], rel=1e-12)
    assert there.max_loss == here.max_loss
