import dataclasses

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Answer,
    Budget,
    Coverage,
    FastestWithin,
    FrontierPick,
    InfeasibleError,
    Knee,
    MostAccurateWithin,
    Status,
    Sweep,
    Tradeoff,
    pareto_frontier,
    solve,
    violations,
)
from fedhq.allocator.groups import Merged
from fedhq.allocator.solvers.dominant import Dominant
from fedhq.allocator.solvers.exhaustive import enumerate_choices

MENU = ("skip", "ptq-w2a2", "qat-w2a2")


def enumerated(problem):
    """The points that no feasible allocation dominates, by enumeration."""
    points = sorted(
        (problem.round_seconds(choice), problem.total_loss(choice))
        for choice in enumerate_choices(problem, 10_000)
        if not violations(problem, choice)
    )
    kept = []
    for seconds, loss in points:
        if not kept or loss < kept[-1][1] - 1e-9:
            kept.append((seconds, loss))
    return np.array(kept).reshape(-1, 2)


def assert_equals_enumeration(problem):
    expected = enumerated(problem)
    if not len(expected):
        with pytest.raises(InfeasibleError, match="No allocation keeps every limit"):
            pareto_frontier(problem)
        return 0
    frontier = pareto_frontier(problem)
    assert frontier.round_seconds.tolist() == expected[:, 0].tolist()
    assert frontier.loss == pytest.approx(expected[:, 1], abs=1e-9)
    for k in range(len(frontier)):
        allocation = frontier.allocation(k)
        assert violations(problem, allocation.choice) == ()
        assert allocation.round_seconds == frontier.round_seconds[k]
        assert allocation.loss == pytest.approx(frontier.loss[k], abs=1e-12)
    return len(frontier)


def test_a_separable_frontier_equals_the_enumeration(make_problem):
    sizes = [assert_equals_enumeration(make_problem(seed, separable=True)) for seed in range(200)]
    assert max(sizes) > 5


@pytest.mark.parametrize("block", range(2))
def test_the_frontier_of_the_whole_program_equals_the_enumeration(make_problem, block):
    seeds = range(60 * block, 60 * (block + 1))
    sizes = [assert_equals_enumeration(make_problem(seed)) for seed in seeds]
    assert max(sizes) >= 5
    assert sum(sizes) > 40


def one_width(seed):
    """Skip, ptq and qat at one width of the wire: qat is the best of what is in time."""
    rng = np.random.default_rng(seed)
    clients = int(rng.integers(2, 6))
    seconds = rng.integers(1, 6, (clients, 3)).astype(float)
    seconds[:, 0] = 0
    loss = np.zeros((clients, 3))
    loss[:, 0] = rng.uniform(0, 0.1, clients) * (rng.random(clients) < 0.8)
    allowed = rng.random((clients, 3)) < 0.85
    allowed[[0, -1]] = True
    allowed[np.arange(clients), rng.integers(0, 3, clients)] = True
    counts = rng.integers(0, 9, (clients, 2))
    counts[0] += 1
    population = counts.sum(axis=0) * rng.integers(1, 3)
    curve = ((0, 0.5), (0.3, 0.1), (0.7, 0))
    return AllocationProblem(
        MENU,
        seconds,
        loss,
        coverage=Coverage(counts, (0, 0, 1), curve, population, rng.uniform(0, 0.2, 2)),
        allowed=allowed,
        min_participation=float(rng.choice([0, 0.5, 0.9])),
        deadline_seconds=float(rng.choice([3, 9])),
        max_loss=float(rng.choice([0.1, 0.3, 9])),
        groups=["a", *[None] * (clients - 2), "a"] if rng.random() < 0.3 else None,
    )


def test_where_nobody_has_to_choose_one_sort_equals_the_enumeration():
    problems = [one_width(seed) for seed in range(80)]
    assert all(Dominant.of(Merged.of(problem).problem) is not None for problem in problems)
    assert max(map(assert_equals_enumeration, problems)) >= 4


def test_where_clients_have_to_choose_no_sort_is_taken():
    problem = dataclasses.replace(one_width(0), groups=None)
    budget = Budget("uplink_bytes", problem.seconds, 5.0)
    noisy = problem.loss + np.array([0, 0, 0.01])  # to teach costs noise
    for changed in ({"budgets": (budget,)}, {"loss": noisy}, {"coverage": None}):
        assert Dominant.of(dataclasses.replace(problem, **changed)) is None


def test_a_frontier_needs_no_goal_and_ignores_tradeoff_and_switching(make_problem):
    for seed in range(20):
        problem = make_problem(seed, separable=True)
        if problem.max_loss is not None or problem.deadline_seconds is not None:
            continue
        aimless = dataclasses.replace(problem, tradeoff=None, switching_seconds=None)
        try:
            expected = pareto_frontier(problem)
        except InfeasibleError:
            continue
        found = pareto_frontier(aimless)
        assert found.loss.tolist() == expected.loss.tolist()
        assert np.isnan(found.allocation(0).objective)


def test_points_rise_in_time_and_fall_in_loss():
    rng = np.random.default_rng(0)
    seconds, loss = rng.integers(1, 60, (50, 3)), rng.integers(0, 9, (50, 3)) / 100
    frontier = pareto_frontier(AllocationProblem(MENU, seconds * [0, 1, 1], loss))
    assert len(frontier) > 20
    assert (np.diff(frontier.round_seconds) > 0).all()
    assert (np.diff(frontier.loss) < 0).all()
    assert not frontier.loss.flags.writeable


def test_the_frontier_scales_to_a_hundred_thousand_clients():
    rng = np.random.default_rng(0)
    seconds = rng.lognormal(0, 1, (100_000, 3)) * [0, 1, 1]
    loss = np.sort(rng.random((100_000, 3)), axis=1)[:, ::-1] / 100_000
    problem = AllocationProblem(MENU, seconds, loss)
    frontier = pareto_frontier(problem)
    k = frontier.pick(Knee())
    assert len(frontier) > 50_000
    assert frontier.allocation(k).round_seconds == frontier.round_seconds[k]
    assert frontier.allocation(k).loss == pytest.approx(frontier.loss[k])


@pytest.fixture
def frontier():
    """Losses .3, .12, .1, .0 after 1, 2, 3, 10 s."""
    menu = ("ptq-w2a2", "qat-w2a2", "qat-w4a4", "qat-w8a8")
    problem = AllocationProblem(menu, [[1, 2, 3, 10]], [[0.3, 0.12, 0.1, 0]])
    return pareto_frontier(problem)


@pytest.mark.parametrize(
    ("rule", "point"),
    [
        (FastestWithin(0.0), 3),
        (FastestWithin(0.1), 2),
        (FastestWithin(0.12), 1),
        (FastestWithin(1.0), 0),
        (MostAccurateWithin(1.0), 0),
        (MostAccurateWithin(2.99), 1),
        (MostAccurateWithin(100.0), 3),
        (Knee(), 1),
        (Tradeoff(0.001), 0),
        (Tradeoff(20.0), 1),
        (Tradeoff(1000.0), 3),
    ],
    ids=repr,
)
def test_a_rule_picks_its_point(frontier, rule, point):
    assert frontier.pick(rule) == point


def test_a_tradeoff_picks_the_optimum_of_the_program(make_problem):
    for seed in range(40):
        problem = make_problem(seed, separable=True)
        if problem.tradeoff is None or problem.switching_seconds is not None:
            continue
        solution = solve(problem, Sweep())
        if solution.status is Status.OPTIMAL:
            found = pareto_frontier(problem)
            best = found.allocation(found.pick(Tradeoff(problem.tradeoff)))
            assert best.objective == pytest.approx(solution.allocation.objective)


def test_a_frontier_of_one_point_has_that_as_its_knee():
    problem = AllocationProblem(("fp32",), [[2]], [[0.1]])
    assert pareto_frontier(problem).pick(Knee()) == 0


def test_a_rule_of_ones_own_is_any_callable(frontier):
    assert frontier.pick(lambda round_seconds, loss: len(loss) - 2) == 2


def test_too_short_a_time_names_the_fastest_point(frontier):
    with pytest.raises(ValueError, match=r"`round_seconds >= 1` must hold, .* but got 0.5"):
        frontier.pick(MostAccurateWithin(0.5))


@pytest.mark.parametrize("k", [-1, 4])
def test_a_point_that_is_not_there_is_refused(frontier, k):
    with pytest.raises(ValueError, match=r"`0 <= k < 4` must hold"):
        frontier.allocation(k)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("rule", [FastestWithin, MostAccurateWithin, Tradeoff])
def test_a_rule_refuses_a_number_that_makes_no_sense(rule, value):
    with pytest.raises(ValueError, match="must be finite and >= 0"):
        rule(value)


def test_a_tradeoff_of_zero_is_refused():
    with pytest.raises(ValueError, match="`seconds_per_loss > 0` must hold"):
        Tradeoff(0.0)


def test_a_solver_may_decide_by_a_rule(pair):
    aimless = dataclasses.replace(pair, tradeoff=None)
    assert solve(aimless, FrontierPick(FastestWithin(0.2))).allocation.choice.tolist() == [1, 0]
    hasty = dataclasses.replace(pair, deadline_seconds=0.5)
    assert isinstance(FrontierPick(Knee())(hasty), Answer)
    assert solve(hasty, FrontierPick(Knee())).status is Status.INFEASIBLE
