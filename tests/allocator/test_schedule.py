"""Schedules: the knapsack against enumeration, what a total time buys, and rounds that keep it."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Count,
    Coverage,
    Exact,
    FittedLoss,
    Goal,
    HardwareTables,
    HybridAllocator,
    InfeasibleError,
    MostAccurateWithin,
    Outcome,
    Recency,
    Uniform,
    fastest_schedule,
    pareto_frontier,
    parse_menu,
    plan_schedule,
    teaches,
    violations,
)
from fedhq.allocator.data import separable_loss
from fedhq.allocator.over_rounds import spread
from fedhq.allocator.solvers.knapsack import lower_hull, pack

MENU = parse_menu(["skip", "ptq-w2a2", "qat-w2a2"])
SLOWDOWN = np.array([1.0, 1.5, 2.0, 2.5, 4.0])
SECONDS = np.outer(SLOWDOWN, [0.0, 1.0, 2.0])
COUNTS = np.array([[8, 0, 1], [4, 4, 0], [0, 9, 3], [2, 2, 2], [1, 1, 10]])
FITTED = FittedLoss(((0.0, 0.4), (0.3, 0.1), (1.0, 0.0)), 0.3, 0.0, 0.01, "by hand")


def round_problem(**changes) -> AllocationProblem:
    coverage = Coverage(COUNTS, (0, 0, 1), FITTED.loss_curve)
    loss = np.outer(COUNTS.sum(axis=1) / COUNTS.sum(), [0.3, 0, 0])
    return AllocationProblem(MENU, SECONDS, loss, coverage=coverage, **changes)


def allocator(goal: Goal, seconds=SECONDS, **changes) -> HybridAllocator:
    nothing = np.zeros(SECONDS.shape)
    tables = HardwareTables(seconds, nothing, nothing, nothing == 0, MENU)
    made = HybridAllocator.open(
        MENU, "qat-w2a2", goal=goal, **{"fitted": FITTED, "explore": 0.0, **changes}
    )
    made.join(tables, num_examples=COUNTS.sum(axis=1), label_counts=COUNTS)
    return made


def run(planner: HybridAllocator, rounds: range, factor: float = 1.0) -> list[float]:
    """Plans and does the rounds, each client as slow as told times a factor; their times."""
    took = []
    for number in rounds:
        plan = planner.plan(number)
        seconds = planner.hardware.seconds[np.arange(5), plan.choice] * factor
        planner.observe(
            [Outcome(i, plan.strategy(i), float(s), bool(s)) for i, s in enumerate(seconds)]
        )
        took.append(float(seconds.max()))
    return took


@pytest.mark.parametrize("seed", range(60))
def test_the_knapsack_is_that_of_enumeration_and_its_bound_holds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, rounds = int(rng.integers(1, 6)), int(rng.integers(1, 6))
    seconds = np.sort(rng.choice(np.arange(1.0, 9.0), points, replace=False))  # ties of sums
    if seed % 2:
        seconds = np.sort(rng.uniform(1, 5, points))
    loss = np.sort(rng.uniform(0, 0.5, points))[::-1].copy()
    weights = rng.uniform(0, 1, rounds) * (rng.random(rounds) < 0.9)
    budget = rounds * (seconds[0] + rng.uniform(0, 1.1) * (seconds[-1] - seconds[0]))
    found = pack(seconds, loss, weights, budget)
    everything = itertools.product(range(points), repeat=rounds)
    best = min(weights @ loss[list(c)] for c in everything if seconds[list(c)].sum() <= budget)
    assert weights @ loss[found.points] == pytest.approx(best, abs=1e-9)
    assert found.bound <= best + 1e-8
    assert seconds[found.points].sum() <= budget * (1 + 1e-8)


def test_with_a_gap_the_search_ends_early_but_within_it() -> None:
    rng = np.random.default_rng(1)
    seconds = np.sort(rng.uniform(1, 5, 2000))
    loss = 0.3 * np.exp(-2 * (seconds - 1))
    weights = Recency(0.1).weights(50)
    found = pack(seconds, loss, weights, 90.0, 1e-4)
    assert weights @ loss[found.points] <= found.bound + 1e-4
    assert seconds[found.points].sum() <= 90.0 * (1 + 1e-8)


def test_the_hull_holds_just_the_points_that_some_price_picks() -> None:
    rng = np.random.default_rng(2)
    seconds, loss = np.sort(rng.random(30)), np.sort(rng.random(30))[::-1]
    prices = np.geomspace(1e-4, 1e4, 20_000)
    picked = np.unique((loss + prices[:, None] * seconds).argmin(axis=1))
    assert set(picked) <= set(lower_hull(seconds, loss).tolist())


@pytest.mark.parametrize("seed", range(12))
def test_a_schedule_is_near_the_best_of_all_and_its_bound_below(seed: int) -> None:
    rng = np.random.default_rng(seed)
    menu = MENU if seed % 2 else parse_menu(["ptq-w2a2", "qat-w2a2-u2", "qat-w2a2-u8"])
    counts = rng.integers(0, 9, (3, 3)) + 1.0
    seconds = np.outer(rng.lognormal(0, 0.6, 3), [0, 1, 1.6] if seed % 2 else [1, 1.5, 2])
    loss = separable_loss(menu, counts.sum(axis=1) / counts.sum(), FITTED)
    coverage = Coverage(counts, teaches(menu, menu[-1]), FITTED.loss_curve)
    problem = AllocationProblem(
        menu, seconds, loss, coverage=coverage, min_participation=0.4 if seed % 3 else None
    )
    choices = np.array(list(itertools.product(range(3), repeat=3)))
    choices = choices[[not violations(problem, c) for c in choices]]
    took = np.array([problem.round_seconds(c) for c in choices])
    total = 3 * (took.min() + 0.6 * rng.random() * (took.max() - took.min()))
    weights = Recency(0.3).weights(3)
    threes = np.array(list(itertools.product(range(len(choices)), repeat=3)))
    own = loss[np.arange(3), choices].sum(axis=1)[threes] @ weights
    covered = np.einsum("ntc,t->nc", (coverage.teaches[choices] @ coverage.share)[threes], weights)
    losses, totals = own + coverage.phi(covered) @ coverage.class_weights, took[threes].sum(axis=1)
    best = losses[totals <= total].min()
    found = plan_schedule(problem, total, 3, Recency(0.3), gap=0.0)
    assert found.bound - 1e-9 <= best <= found.loss + 1e-9
    assert found.loss <= best + 0.01
    assert found.round_seconds.sum() <= total * (1 + 1e-8)
    fast = fastest_schedule(problem, 3, 0.02, Recency(0.3), gap=0.0)
    least = totals[losses <= losses.min() + 0.02 + 1e-9].min()
    assert fast.loss <= losses.min() + 0.02 + 1e-9
    assert least * (1 - 1e-9) <= fast.round_seconds.sum() <= least * 1.1


def test_a_schedule_keeps_its_time_and_beats_equal_rounds() -> None:
    problem = round_problem()
    schedule = plan_schedule(problem, 40.0, 20, Recency(0.3), gap=0.0)
    assert schedule.round_seconds.sum() <= 40.0 * (1 + 1e-9)
    assert schedule.bound <= schedule.loss <= schedule.bound + 0.01
    even = pareto_frontier(problem)
    assert schedule.loss < even.loss[even.pick(MostAccurateWithin(2.0))]
    assert (np.diff(schedule.tradeoffs) > 0).all()
    early, late = schedule.round_seconds[:10], schedule.round_seconds[10:]
    assert early.mean() < late.mean()


def test_what_earlier_rounds_taught_need_not_be_taught_again() -> None:
    problem = round_problem()
    weights = Recency(0.2).weights(10)[-4:]
    fresh, full = (spread(problem, weights, 16.0, past) for past in (np.zeros(3), np.ones(3)))
    assert fresh.loss > full.loss
    assert full.loss == pytest.approx(0, abs=1e-9)


def test_budgets_and_counts_hold_in_every_round() -> None:
    problem = round_problem(counts=[Count(["qat-w2a2"], at_most=2)])
    schedule = plan_schedule(problem, 60.0, 6)
    for number in range(1, 7):
        assert not violations(problem, schedule.allocation(number).choice)


def test_more_time_never_loses_more_and_all_the_time_loses_nothing_to_spare() -> None:
    losses = [plan_schedule(round_problem(), s, 8, gap=0.0).loss for s in (32, 36, 40, 50, 64, 99)]
    assert (np.diff(losses) <= 1e-12).all()
    free = plan_schedule(round_problem(), 99.0, 8)
    assert free.price == 0
    assert free.loss == pytest.approx(pareto_frontier(round_problem()).loss[-1])


def test_a_maximum_loss_of_one_round_does_not_count_in_a_schedule() -> None:
    free, limited = round_problem(), round_problem(max_loss=0.0)
    for schedule in (
        lambda problem: plan_schedule(problem, 24.0, 6),
        lambda problem: fastest_schedule(problem, 6, 0.05),
    ):
        assert schedule(limited).round_seconds.tolist() == schedule(free).round_seconds.tolist()
    with pytest.raises(InfeasibleError, match=r"6 rounds of at least 2 s, but got 0\.5"):
        plan_schedule(round_problem(max_loss=0.0, min_participation=0.5), 0.5, 6)


def test_a_schedule_tells_itself_in_words() -> None:
    text = str(plan_schedule(round_problem(counts=()), 40.0, 8, Recency(0.5)))
    assert text.startswith("8 rounds in ")
    assert text.count("Rounds ") >= 2


def test_too_little_time_or_limits_that_cannot_be_kept_raise() -> None:
    with pytest.raises(InfeasibleError, match=r"`total_seconds >= 20`.*10 rounds of at least 2 s"):
        plan_schedule(round_problem(min_participation=0.5), 9.0, 10)
    with pytest.raises(InfeasibleError):
        plan_schedule(round_problem(deadline_seconds=0.5, min_participation=1.0), 99.0, 10)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Recency(0.0), "`0 < forgetting <= 1`"),
        (lambda: Recency(0.5).weights(0), "`rounds >= 1`"),
        (lambda: plan_schedule(round_problem(), -1.0, 3), "`total_seconds`"),
        (lambda: plan_schedule(round_problem(), 9.0, 3).allocation(4), "`1 <= round_number <= 3`"),
        (lambda: Goal(total_seconds=9.0), "`rounds` must be given with `total_seconds`"),
        (lambda: Goal(total_seconds=9.0, rounds=0), "`rounds >= 1`"),
        (lambda: Goal(total_seconds=9.0, rounds=2.5), "whole number of rounds, but got 2.5"),
        (lambda: plan_schedule(round_problem(), 9.0, 2.0), "whole number of rounds"),
        (lambda: fastest_schedule(round_problem(), True, 0.1), "whole number of rounds"),
        (lambda: Goal(total_seconds=9.0, rounds=3, tradeoff=2.0), "both say what time is worth"),
        (lambda: Goal(total_seconds=9.0, rounds=3, max_loss=0.1), "`max_loss` = 0.1 is"),
        (lambda: replace(FITTED, skip_memory=1.0), "`0 <= skip_memory < 1`"),
    ],
)
def test_what_cannot_be_is_said(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize("total", [25.0, 45.0, 70.0])
def test_rounds_keep_the_total_time_when_times_are_as_told(total: float) -> None:
    planner = allocator(Goal(total_seconds=total, rounds=10, min_participation=0.5))
    took = run(planner, range(1, 11))
    assert sum(took) <= total * (1 + 1e-6)
    assert sum(took) >= min(total, 80.0) * 0.85  # and use it


@pytest.mark.parametrize("factor", [0.6, 1.6])
def test_rounds_make_up_for_times_that_are_not_as_told(factor: float) -> None:
    planner = allocator(Goal(total_seconds=60.0, rounds=12, min_participation=0.5))
    took = run(planner, range(1, 13), factor)
    assert sum(took) <= 60.0 * 1.02
    assert sum(took) >= 60.0 * 0.7  # what is found to spare is used


def test_time_that_is_short_is_said_but_fails_no_round() -> None:
    planner = allocator(Goal(total_seconds=12.0, rounds=10, min_participation=1.0))
    run(planner, range(1, 13))  # two rounds more than were asked for, too
    assert "`total_seconds` is short" in planner.note


def test_strict_refuses_a_total_that_was_never_enough_but_no_round_that_came_out_late() -> None:
    strict = {"strict": True}
    with pytest.raises(InfeasibleError, match="`total_seconds` is short"):
        allocator(Goal(total_seconds=12.0, rounds=10, min_participation=1.0), **strict).plan(1)
    late = allocator(Goal(total_seconds=45.0, rounds=10, min_participation=1.0), **strict)
    run(late, range(1, 11), factor=3.0)


def test_limits_that_cannot_be_kept_are_relaxed_within_the_total_time() -> None:
    goal = Goal(total_seconds=40.0, rounds=10, deadline_seconds=1.0, min_participation=1.0)
    planner = allocator(goal)
    assert planner.plan(1).round_seconds == 4.0
    assert "relaxed" in planner.note
    with pytest.raises(InfeasibleError):
        allocator(goal, strict=True).plan(1)


def test_a_rule_that_asks_for_no_goal_goes_its_own_way() -> None:
    planner = allocator(Goal(total_seconds=90.0, rounds=10), solver=Uniform(MENU[2]))
    assert planner.plan(1).choice.tolist() == [2] * 5


def test_the_rest_of_a_schedule_is_that_of_a_run_taken_up_from_its_state() -> None:
    goal = Goal(total_seconds=50.0, rounds=12)
    whole, first = allocator(goal), allocator(goal)
    took = run(whole, range(1, 13))
    run(first, range(1, 6))
    later = allocator(goal)
    later.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert run(later, range(6, 13)) == took[5:]


def resting(memory: float, **goal: float) -> HybridAllocator:
    straggler = np.append(SECONDS[:4], 5 * SECONDS[4:], axis=0)
    fitted = replace(FITTED, skip_memory=memory)
    return allocator(Goal(**goal), straggler, fitted=fitted, solver=Exact())


def test_who_just_took_part_may_rest_and_comes_back_before_it_is_forgotten() -> None:
    assert min(run(resting(0.0, tradeoff=300.0), range(1, 21))) >= 20  # nobody ever rests
    back = np.flatnonzero(np.array(run(resting(0.75, tradeoff=300.0), range(1, 21))) >= 20)
    assert 3 <= len(back) <= 10
    assert len(set(np.diff(back).tolist())) == 1  # a rhythm
    assert max(run(resting(0.0, tradeoff=100.0), range(1, 21))) < 20  # and nobody ever returns


def test_an_absence_grows_dearer_with_every_round() -> None:
    planner = resting(0.5, tradeoff=15.0)
    prices = []
    for _ in range(3):
        prices.append(float(planner.problem().loss[4, 0]))
        planner.observe([Outcome(4, MENU[0], 0.0, False)])
    full = 0.3 * 12 / COUNTS.sum()
    assert prices == pytest.approx([full * 0.5, full * 0.75, full * 0.875])
    planner.observe([Outcome(4, MENU[1], 4.0, True)])
    assert planner.problem().loss[4, 0] == pytest.approx(prices[0])


def test_states_of_before_schedules_load_as_if_nothing_was_spent_and_nobody_absent() -> None:
    goal = {"total_seconds": 50.0, "rounds": 10}
    fresh, planner = resting(0.5, **goal), resting(0.5, **goal)
    old = fresh.state_dict()
    del old["absent"], old["spent_seconds"]
    run(planner, range(1, 3))
    planner.load_state_dict(old)
    assert planner.problem().loss.tolist() == fresh.problem().loss.tolist()
    assert planner.state_dict() == fresh.state_dict()
