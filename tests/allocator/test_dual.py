"""The prices and the bound of `Dual`, against finite differences of the linear relaxation."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import Budget, Count, Dual, Exact, solve
from fedhq.allocator.instances.families import FAMILIES
from fedhq.allocator.instances.references import program_at
from fedhq.allocator.solvers.highs import HighsSettings, Outcome
from fedhq.allocator.solvers.search import Search


def fleet(seed, clients=300, **changes):
    return replace(FAMILIES["federated"](seed, clients), **changes)


def tense(seed, **changes):
    """One where taking part has a price of its own, so that less loss is not always better."""
    price = np.random.default_rng(seed).uniform(0.02, 0.1, (300, 1)) * [0, 1, 1.5]
    return fleet(seed, switching_seconds=price, **changes)


def least_time(problem):
    """The round time of the least bound."""
    search = Search.of(problem, 1e-6)
    search.run()
    return float(search.bounds.thresholds.times[search.bounds.lower.argmin()])


def relaxed(problem, time):
    """The linear relaxation's optimum at a round time; None if there is none."""
    found = program_at(problem, time).relaxed().minimise(HighsSettings())
    return found.bound if found.outcome is Outcome.OPTIMAL else None


def assert_is_slope(price, problem, change, step):
    """That a price lies between the slopes to either side, widened by a twentieth."""
    time = least_time(problem)
    now, looser, tighter = (relaxed(p, time) for p in (problem, change(step), change(-step)))
    low, high = (now - looser) / step, (tighter - now) / step
    size = max(abs(low), abs(high), abs(price))
    # The relaxation is convex: its slope falls as the limit is relaxed.
    assert low - 0.05 * size <= price <= high + 0.05 * size
    return price


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("place", [0, 1])
def test_the_price_of_a_budget_is_what_relaxing_it_saves(seed, place):
    problem = fleet(seed)

    def with_limit(problem, factor):
        budgets = list(problem.budgets)
        old = budgets[place]
        budgets[place] = Budget(old.resource, old.usage, old.limit * factor)
        return replace(problem, budgets=tuple(budgets))

    tight = with_limit(problem, 0.6)
    limit = tight.budgets[place].limit
    price = solve(tight, Dual(gap=1e-6)).prices.budgets[place]
    step = 0.01 * limit
    assert_is_slope(price, tight, lambda by: with_limit(tight, 1 + by / limit), step)
    assert price > 0


@pytest.mark.parametrize("seed", range(3))
def test_the_price_of_the_loss_is_what_relaxing_it_saves(seed):
    free = solve(tense(seed), Dual()).allocation.loss
    capped = tense(seed, max_loss=0.9 * free)
    price = solve(capped, Dual(gap=1e-6)).prices.max_loss
    assert_is_slope(
        price,
        capped,
        lambda by: replace(capped, max_loss=capped.max_loss + by),
        0.01 * capped.max_loss,
    )
    assert price > 0


@pytest.mark.parametrize("seed", range(3))
def test_the_price_of_participation_is_what_a_smaller_share_saves(seed):
    problem = tense(seed, min_participation=0.7)
    price = solve(problem, Dual(gap=1e-6)).prices.min_participation
    assert_is_slope(
        price,
        problem,
        lambda by: replace(problem, min_participation=problem.min_participation - by),
        0.005,
    )
    assert price > 0


@pytest.mark.parametrize("seed", range(3))
def test_the_price_of_a_count_is_what_a_client_more_saves(seed):
    def most(clients):
        return fleet(seed, counts=(Count(["qat-w2a2"], at_most=clients),))

    problem = most(30)
    price = solve(problem, Dual(gap=1e-6)).prices.counts[0]
    assert_is_slope(price, problem, lambda by: most(30 + round(by)), 2)
    assert price > 0


def test_limits_that_do_not_bind_have_next_to_no_price():
    problem = fleet(0)
    loose = replace(
        problem,
        budgets=tuple(Budget(b.resource, b.usage, 10 * b.limit) for b in problem.budgets),
        max_loss=100.0,
        min_participation=0.01,
        counts=(Count(["qat-w2a2"], at_most=300),),
    )
    solution = solve(loose, Dual(gap=1e-6))
    prices, objective = solution.prices, solution.allocation.objective
    for budget, price in zip(loose.budgets, prices.budgets, strict=True):
        assert price * budget.limit < 1e-3 * objective
    assert prices.max_loss * 100.0 < 1e-3 * objective
    assert prices.min_participation * 0.01 < 1e-3 * objective
    assert prices.counts[0] * 300 < 1e-3 * objective


@pytest.mark.parametrize("family", ["federated", "one giant", "strongly correlated", "ties"])
def test_its_bound_is_the_least_linear_relaxation_over_the_round_times(family):
    problem = FAMILIES[family](1, 60)
    search = Search.of(problem, 1e-7)
    search.run()
    relaxation, times = search.bounds.relaxation, search.bounds.thresholds.times
    lower = search.bounds.lower * relaxation.unit
    for k in np.argsort(lower, kind="stable")[:5]:
        assert lower[k] <= (relaxed(problem, times[k]) or np.inf) * (1 + 1e-7)
    least = min(relaxed(problem, time) or np.inf for time in times)
    solution = solve(problem, Dual(gap=1e-7))
    assert solution.bound <= solution.allocation.objective
    assert least * (1 - 1e-4) <= solution.bound


def test_the_gap_vanishes_with_the_number_of_clients():
    small, large = (
        np.mean([solve(fleet(seed, clients), Dual(gap=0)).gap for seed in range(3)])
        for clients in (20, 2000)
    )
    assert large < 1e-4
    assert large < small or small < 1e-5


def test_a_sample_of_a_large_fleet_leads_to_the_same_gap():
    problem = fleet(0, 6000)
    solution = solve(problem, Dual())
    assert solution.status.has_allocation
    assert solution.gap < 1e-4


def test_its_bound_never_exceeds_the_optimum_of_exact():
    for seed in range(8):
        problem = fleet(seed, 30)
        best = solve(problem, Exact()).allocation.objective
        assert solve(problem, Dual()).bound <= best * (1 + 1e-9)
