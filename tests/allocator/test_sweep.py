"""`Sweep` on large problems: the window of round times must hold what the full steps find."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import AllocationProblem, Exhaustive, Status, Sweep, solve
from fedhq.allocator.solvers import order, sweep, window
from fedhq.allocator.solvers.order import sort_columns
from fedhq.allocator.solvers.steps import Goal, Steps

MENU = ("skip", "ptq-w2a2", "ptq-w4a4", "ptq-w8a8", "qat-w2a2", "qat-w4a4", "qat-w8a8", "fp32")


def fleet(num_clients=2000, seed=0, tradeoff=20.0, **limits):
    """Unequal devices; losses fall with the bits, weighted by the share of the data."""
    rng = np.random.default_rng(seed)
    share = rng.gamma(0.5, size=(num_clients, 1))
    work = np.array([0, 1, 1.2, 1.5, 1.6, 2, 2.4, 4])
    loss = np.array([0.5, 0.3, 0.2, 0.1, 0.06, 0.03, 0.01, 0])
    shape = num_clients, len(MENU)
    seconds = rng.lognormal(0, 1, (num_clients, 1)) * rng.lognormal(0, 0.3, shape) * work
    losses = share / share.sum() * loss * rng.uniform(0.5, 1.5, shape)
    return AllocationProblem(MENU, seconds, losses, tradeoff, **limits)


def plain(seed=0, **changes):
    """Random tables, nobody may skip: the slowest client rules."""
    rng = np.random.default_rng(seed)
    tables = rng.lognormal(0, 1, (2000, 4)), rng.random((2000, 4)) / 2000
    return AllocationProblem(MENU[1:5], *tables, **({"tradeoff": 20.0} | changes))


def scaled(seconds, loss):
    base = fleet()
    return replace(
        base,
        seconds=base.seconds * seconds,
        loss=base.loss * loss,
        tradeoff=base.tradeoff * seconds / loss,
    )


def tied(seed):
    rng = np.random.default_rng(seed)
    seconds, loss = rng.integers(0, 5, (3000, 4)) * [0, 1, 1, 1], rng.integers(0, 4, (3000, 4))
    allowed = rng.random((3000, 4)) < 0.8
    allowed[:, 1] = True
    return AllocationProblem(MENU[:4], seconds, loss, 0.001, allowed=allowed)


def giant(seconds, loss):
    """A client whose tables are so many times the others', in no sample."""
    base = fleet()
    factor = np.ones((base.num_clients, 1))
    factor[7] = seconds
    weight = np.where(factor == seconds, loss, 1.0)
    return replace(base, seconds=base.seconds * factor, loss=base.loss * weight)


def misleading(at):
    """Every k-th client, which are the sample, is quite unlike the others."""
    base = fleet()
    factor = np.ones((base.num_clients, 1))
    factor[:: base.num_clients // 64] = at
    return replace(base, seconds=base.seconds * factor, loss=base.loss / factor)


def forbidden():
    base = fleet()
    allowed = np.random.default_rng(3).random(base.seconds.shape) < 0.6
    allowed[:, 0] = np.arange(base.num_clients) % 3 > 0
    allowed[:, 4] |= ~allowed[:, 0]
    return replace(base, allowed=allowed)


def constant(seconds, loss):
    tables = np.full((2000, 3), seconds) * [0, 1, 1], np.full((2000, 3), loss)
    return AllocationProblem(MENU[:3], *tables, 1.0)


FAMILIES = {
    "fleet": fleet,
    "another fleet": lambda: fleet(seed=1, tradeoff=3.0),
    "accuracy matters most": lambda: fleet(tradeoff=1e6),
    "time matters most": lambda: fleet(tradeoff=1e-9),
    "nobody would take part": lambda: replace(fleet(), loss=fleet().loss[:, ::-1]),
    "deadline": lambda: fleet(deadline_seconds=1.5),
    "max_loss": lambda: fleet(max_loss=0.05),
    "least loss": lambda: fleet(tradeoff=None, deadline_seconds=2.0),
    "least loss, late deadline": lambda: fleet(tradeoff=None, deadline_seconds=1e6),
    "least time": lambda: fleet(tradeoff=None, max_loss=0.1),
    "switching": lambda: fleet(
        switching_seconds=np.random.default_rng(1).random((2000, len(MENU))) / 1e3
    ),
    "plain": plain,
    "plain, least time": lambda: plain(tradeoff=None, max_loss=0.3),
    "ties": lambda: tied(0),
    "other ties": lambda: tied(1),
    "all equal": lambda: constant(1.0, 0.1),
    "all zero": lambda: constant(0.0, 0.0),
    "a slow giant": lambda: giant(1e6, 1.0),
    "a giant that pays": lambda: giant(1e3, 1e8),
    "a quick giant": lambda: giant(1e-6, 1e3),
    "tiny": lambda: scaled(1e-9, 1e-9),
    "huge": lambda: scaled(1e9, 1e9),
    "tiny times, huge losses": lambda: scaled(1e-9, 1e9),
    "huge times, tiny losses": lambda: scaled(1e9, 1e-9),
    "slow sample": lambda: misleading(1e3),
    "fast sample": lambda: misleading(1e-3),
    "masks": forbidden,
}


@pytest.fixture
def windowed(monkeypatch):
    """Small problems are treated as large ones; returns the steps that the window left."""
    near, found = window.steps_near_optimum, []

    def spy(*arguments):
        found.append(near(*arguments))
        return found[-1]

    monkeypatch.setattr(sweep, "_LARGE", 0)
    monkeypatch.setattr(window, "_SAMPLE", 64)
    monkeypatch.setattr(order, "_BLOCK_ENTRIES", 4096)
    monkeypatch.setattr(sweep, "steps_near_optimum", spy)
    return found


def full(problem):
    """The best objective and choice by all steps."""
    cost, weight = problem.loss, problem.loss_weight
    if problem.switching_seconds is not None:
        cost, weight = weight * cost + problem.switching_seconds, 1.0
    steps = Steps.of(problem.seconds, cost, problem.allowed, problem.participates)
    best = Goal.of(problem, weight).best(steps.thresholds, steps.costs)
    return None if best is None else steps.choose(steps.thresholds[best])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_window_holds_the_best_of_all_steps(windowed, name):
    problem = FAMILIES[name]()
    expected, solution = full(problem), solve(problem, Sweep())
    assert len(windowed) == 1
    found = solution.allocation
    unit = max(abs(problem.objective(expected)), 1e-300)
    assert found.objective / unit == pytest.approx(problem.objective(expected) / unit, rel=1e-12)
    assert found.round_seconds == pytest.approx(problem.round_seconds(expected), rel=1e-9)
    assert solution.bound / unit == pytest.approx(found.objective / unit, rel=1e-9)


@pytest.mark.parametrize("block", range(4))
def test_the_window_loses_no_optimum_of_the_enumeration(windowed, make_problem, block):
    swept = 0
    for seed in range(100 * block, 100 * (block + 1)):
        problem = make_problem(seed, separable=True)
        if problem.max_loss is not None and problem.switching_seconds is not None:
            continue
        swept += 1
        reference, answer = Exhaustive()(problem), Sweep()(problem)
        assert answer.status is reference.status
        if reference.choice is not None:
            expected = problem.objective(reference.choice)
            assert problem.objective(answer.choice) == pytest.approx(expected, rel=1e-7, abs=1e-9)
    assert len(windowed) == swept > 80


@pytest.mark.parametrize(("missed", "status"), [(1 + 1e-4, "infeasible"), (1 - 1e-4, "optimal")])
@pytest.mark.parametrize("limit", ["deadline_seconds", "max_loss"])
def test_a_limit_missed_by_a_hair_is_infeasible(windowed, limit, missed, status):
    problem = plain()
    least = {
        "deadline_seconds": problem.seconds.min(axis=1).max(),
        "max_loss": problem.loss.min(axis=1).sum(),
    }
    answer = Sweep()(replace(problem, **{limit: least[limit] / missed}))
    assert windowed
    assert answer.status is Status(status)


def test_a_large_fleet_is_swept_through_a_narrow_window():
    problem = fleet(40_000)
    assert problem.seconds.size >= sweep._LARGE
    goal = Goal.of(problem, problem.loss_weight)
    near = sweep._steps(problem, problem.loss, goal)
    steps = Steps.of(problem.seconds, problem.loss, problem.allowed, problem.participates)
    assert 0 < len(near.thresholds) < len(steps.thresholds) / 20
    inside = np.isin(steps.thresholds, near.thresholds)
    assert np.ptp(np.flatnonzero(inside)) + 1 == inside.sum() == len(near.thresholds)
    assert near.costs == pytest.approx(steps.costs[inside], rel=1e-12)
    best = goal.value(steps.thresholds, steps.costs)
    assert inside[best <= best.min() * (1 + 1e-9)].all()


def test_equal_optima_of_a_large_problem_give_the_smallest_round_time(windowed):
    problem = AllocationProblem(MENU[1:3], [[1, 2]] * 500, [[1 / 512, 0]] * 500, 512 / 500)
    assert problem.objective(np.zeros(500, int)) == problem.objective(np.ones(500, int))
    assert not Sweep()(problem).choice.any()
    assert windowed


def test_equal_costs_go_to_the_fastest_strategy_and_then_to_the_first():
    seconds, loss = np.array([[3.0, 2, 2, 1]] * 3), np.array([[1.0, 1, 1, 2]] * 3)
    steps = Steps.of(seconds, loss, np.ones((3, 4), bool), np.ones(4, bool))
    assert steps.choose(3.0).tolist() == [1, 1, 1]
    assert steps.choose(1.5).tolist() == [3, 3, 3]


def test_times_that_differ_in_their_last_bits_are_told_apart():
    rng = np.random.default_rng(0)
    seconds = 1 + rng.integers(0, 8, (200, 8)) * np.finfo(float).eps
    loss = rng.random((200, 8))
    steps = Steps.of(seconds, loss, np.ones((200, 8), bool), np.ones(8, bool))
    floor = seconds.min(axis=1).max()
    for threshold, cost in zip(steps.thresholds, steps.costs, strict=True):
        least = np.where(seconds <= threshold, loss, np.inf).min(axis=1).sum()
        assert cost == pytest.approx(least, rel=1e-12)
    assert steps.thresholds[0] == floor
    assert len(steps.thresholds) == len(np.unique(seconds[seconds >= floor]))


@pytest.mark.parametrize("lines", range(1, 20))
def test_columns_are_sorted_whatever_the_number_of_lines(lines):
    keys = np.random.default_rng(lines).integers(0, 30, (lines, 500))
    expected = np.sort(keys, axis=0)
    sort_columns(keys)
    assert np.array_equal(keys, expected)


def test_blocks_and_threads_change_no_answer(monkeypatch):
    problem = fleet(40_000, deadline_seconds=3.0)
    once, again = Sweep()(problem), Sweep()(problem)
    assert np.array_equal(once.choice, again.choice)
    assert once.bound == again.bound
    monkeypatch.setattr(order, "_BLOCK_ENTRIES", 1 << 20)
    assert np.array_equal(Sweep()(problem).choice, once.choice)
