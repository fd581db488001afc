"""From prices to an allocation: limits kept, never worse, and sums that stay true."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import AllocationProblem, Budget, Dual, solve, violations
from fedhq.allocator.instances.families import FAMILIES
from fedhq.allocator.instances.random_program import random_program
from fedhq.allocator.instances.references import best_choice
from fedhq.allocator.solvers.recovery import Recovery
from fedhq.allocator.solvers.relaxation import Relaxation
from fedhq.allocator.solvers.thresholds import Thresholds


def recoveries(count, most_clients=9):
    """Random problems, each with recoveries from random prices at some round times."""
    for seed in range(count):
        problem = replace(random_program(seed, 1 + seed % most_clients), groups=None)
        relaxation = Relaxation.of(problem)
        if not relaxation.usable.any(axis=1).all():
            continue
        rng = np.random.default_rng(seed)
        times = Thresholds.of(relaxation).times
        mask = relaxation.within(times[rng.integers(len(times))])
        yield problem, relaxation, mask, rng.lognormal(-1, 1, relaxation.num_prices)


def cost_and_missed(relaxation, choice):
    """Objective without time, in units, and by how much limits are missed, by their definitions."""
    problem, missed = relaxation.problem, 0.0
    for row, scale in zip(relaxation.rows.all, relaxation.scales, strict=False):
        missed += max(0.0, row.taken(choice) - row.limit) / scale
    if problem.max_loss is not None:
        most = problem.max_loss * (1 + 1e-6) + (1e-15 if problem.max_loss == 0 else 0)
        missed += max(0.0, problem.total_loss(choice) - most) / relaxation.scales[-1]
    cost = problem.loss_weight * problem.total_loss(choice) + problem.switching(choice)
    return cost / relaxation.unit, missed


def merit(relaxation, recovery, choice):
    """By the present penalty, which rises where limits stay missed."""
    cost, missed = cost_and_missed(relaxation, choice)
    return cost + recovery._penalty * missed


def test_it_starts_with_everybodys_best_choice_at_the_prices():
    for problem, relaxation, mask, prices in recoveries(100):
        choice = Recovery(relaxation, prices, mask).choice
        cost = np.where(mask, relaxation.priced(prices), np.inf)
        assert (cost[np.arange(problem.num_clients), choice] == cost.min(axis=1)).all()


def test_its_sums_equal_a_recount_after_any_moves():
    moved = 0
    for _, relaxation, mask, prices in recoveries(250):
        recovery = Recovery(relaxation, prices, mask)
        before = recovery.choice.copy()
        for act in (lambda r: None, lambda r: r.improve(in_pairs=True), lambda r: r.kick(5)):
            act(recovery)
            cost, missed = cost_and_missed(relaxation, recovery.choice)
            expected = cost + recovery._penalty * missed
            assert recovery._merit_now() == pytest.approx(expected, rel=1e-9, abs=1e-9)
            assert recovery.missed == pytest.approx(missed, rel=1e-7, abs=1e-9)
        moved += (recovery.choice != before).any()
    assert moved > 50


def test_no_move_and_no_kick_makes_it_worse_or_leaves_the_mask():
    better = 0
    for problem, relaxation, mask, prices in recoveries(250):
        recovery = Recovery(relaxation, prices, mask)
        choices = [recovery.choice.copy()]
        for act in (lambda r: r.improve(in_pairs=True), lambda r: r.kick(10)):
            act(recovery)
            choices.append(recovery.choice.copy())
            before, after = (merit(relaxation, recovery, choice) for choice in choices[-2:])
            assert after <= before + 1e-9 * max(1.0, abs(before))
            better += after < before - 1e-9
        assert mask[np.arange(problem.num_clients), recovery.choice].all()
    assert better > 50


def test_nothing_is_missed_where_no_limit_is_broken_and_only_there():
    kept = broken = 0
    for problem, relaxation, mask, prices in recoveries(250):
        recovery = Recovery(relaxation, prices, mask)
        recovery.improve(in_pairs=True)
        is_kept = not violations(problem, recovery.choice)
        if recovery.missed == 0:
            # Sums of scaled tables round; what they take for kept is kept but for that.
            assert is_kept
        if recovery.missed > 1e-9:
            assert not is_kept
        kept += is_kept
        broken += not is_kept
    assert kept > 50
    assert broken > 10


def test_after_improving_no_single_move_is_better():
    for problem, relaxation, mask, prices in recoveries(150, 6):
        recovery = Recovery(relaxation, prices, mask)
        recovery.improve(in_pairs=True)
        now = merit(relaxation, recovery, recovery.choice)
        for client, strategy in np.argwhere(mask):
            other = recovery.choice.copy()
            other[client] = strategy
            there = merit(relaxation, recovery, other)
            assert there >= now - 1e-9 * max(1.0, abs(now)), (problem, client, strategy)


def test_the_same_prices_give_the_same_choice():
    problem = FAMILIES["federated"](3, 300)
    relaxation = Relaxation.of(problem)
    prices = np.random.default_rng(0).lognormal(-1, 1, relaxation.num_prices)
    choices = []
    for _ in range(2):
        recovery = Recovery(relaxation, prices, relaxation.usable)
        recovery.improve(in_pairs=True)
        recovery.kick(5)
        choices.append(recovery.choice.tolist())
    assert choices[0] == choices[1]


def test_feasible_problems_get_an_allocation_in_most_cases():
    answered = []
    for seed in range(160):
        problem = replace(random_program(seed, 1 + seed % 6), groups=None)
        if best_choice(problem) is not None:
            answered.append(solve(problem, Dual()).status.has_allocation)
    assert len(answered) > 80
    assert np.mean(answered) > 0.9


@pytest.mark.parametrize("family", ["federated", "one giant", "ties", "strongly correlated"])
def test_fleets_get_an_allocation_from_prices_alone(family):
    for seed in range(3):
        solution = solve(FAMILIES[family](seed, 150), Dual())
        assert solution.status.has_allocation
        assert solution.gap < 0.05


def test_more_clients_move_where_the_nearest_do_not_suffice():
    clients = 600
    usage = np.tile([1.0, 0.0], (clients, 1))
    loss = np.tile([0.0, 1.0], (clients, 1))
    problem = AllocationProblem(
        ("qat-w2a2", "ptq-w2a2"), np.ones((clients, 2)), loss, 1.0,
        budgets=[Budget("a_bytes", usage, 50)],
    )  # fmt: skip
    relaxation = Relaxation.of(problem)
    recovery = Recovery(relaxation, np.zeros(1), relaxation.usable)
    assert recovery.missed > 0
    recovery.improve(in_pairs=True)
    assert recovery.missed == 0
    assert (recovery.choice == 0).sum() == 50
