"""`FrontierPick` lies on the frontier, and `use_slack` takes only what is free."""

import sys
import time

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Budget,
    Coverage,
    Dual,
    FastestWithin,
    FrontierPick,
    InfeasibleError,
    MostAccurateWithin,
    Status,
    pareto_frontier,
    solve,
    violations,
)
from fedhq.allocator.solvers.pick import use_slack

MENU = ("skip", "ptq-w2a2", "qat-w2a2")


def make(seed: int, **changes) -> AllocationProblem:
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.lognormal(0, 1, (6, 3)), axis=1)
    seconds[:, 0] = 0
    loss = np.zeros((6, 3))
    loss[:, 0] = rng.random(6) * 0.1
    coverage = Coverage(rng.integers(1, 9, (6, 3)), (0, 0, 1), ((0, 0.4), (0.1, 0.1), (0.3, 0)))
    budgets = (Budget("energy_joules", rng.random((6, 3)), 2.5),)
    return AllocationProblem(MENU, seconds, loss, coverage=coverage, budgets=budgets, **changes)


@pytest.mark.parametrize("seed", range(20))
def test_slack_raises_neither_time_nor_loss_and_keeps_every_limit(seed) -> None:
    problem = make(seed)
    frontier = pareto_frontier(problem)
    for k in range(len(frontier)):
        before = frontier.allocation(k).choice
        after = use_slack(problem, before)
        assert problem.round_seconds(after) == problem.round_seconds(before)
        assert problem.total_loss(after) <= problem.total_loss(before) + 1e-12
        assert violations(problem, after) == ()
        assert (problem.coverage.covered(after) >= problem.coverage.covered(before) - 1e-12).all()


def test_slack_is_really_used() -> None:
    gained = 0.0
    for seed in range(20):
        problem = make(seed)
        frontier = pareto_frontier(problem)
        choice = frontier.allocation(len(frontier) - 1).choice
        more = problem.coverage.covered(use_slack(problem, choice))
        gained += float((more - problem.coverage.covered(choice)).sum())
    assert gained > 0.1


@pytest.mark.parametrize("seed", range(10))
def test_the_picked_point_is_the_one_that_the_rule_names(seed) -> None:
    problem = make(seed)
    frontier = pareto_frontier(problem)
    k = frontier.pick(FastestWithin(0.05))
    allocation = solve(problem, FrontierPick(FastestWithin(0.05))).allocation
    assert allocation.round_seconds == pytest.approx(frontier.round_seconds[k])
    assert allocation.loss == pytest.approx(frontier.loss[k])


def uneven(num_clients: int) -> AllocationProblem:
    rng = np.random.default_rng(num_clients)
    seconds = np.outer(rng.lognormal(0, 0.5, num_clients), [0.0, 1.0, 2.0])
    loss = np.zeros((num_clients, 3))
    loss[:, 0] = 0.1 / num_clients
    counts = np.round(100 * rng.dirichlet(np.full(5, 0.3), num_clients))
    curve = ((0, 0.4), (0.1, 0.1), (0.3, 0))
    coverage = Coverage(counts, (0, 0, 1), curve, unevenness_price=0.5)
    return AllocationProblem(MENU, seconds, loss, coverage=coverage)


def test_where_unevenness_counts_few_times_are_solved() -> None:
    """Eleven, if it went on until nothing is left between two."""
    problem, solved = uneven(500), []

    def solver(within):
        solved.append(within.deadline_seconds)
        return Dual()(within)

    answer = FrontierPick(FastestWithin(0.01), solver=solver)(problem)
    assert len(solved) == 10
    everybody = problem.total_loss(np.full(500, 2))  # nothing is lost where all teach
    assert everybody == pytest.approx(0.0, abs=1e-9)
    assert problem.total_loss(answer.choice) <= 0.01 + 1e-6
    assert problem.round_seconds(answer.choice) < 0.8 * problem.seconds.max()
    assert violations(problem, answer.choice) == ()


def test_slack_of_an_uneven_fleet_keeps_the_loss_and_is_quick() -> None:
    problem = uneven(3000)
    choice = np.ones(3000, np.int64)
    start = time.process_time()
    after = use_slack(problem, choice)
    assert time.process_time() - start < 0.4  # 0.05; with all sums anew for every client 0.5
    assert problem.total_loss(after) <= problem.total_loss(choice) * (1 + 1e-12)
    assert (after != choice).any()


def test_infeasible_problems_are_reported_with_their_limits() -> None:
    problem = make(0, max_loss=0.0, deadline_seconds=1e-3)
    with pytest.raises(InfeasibleError, match="deadline_seconds"):
        solve(problem, FrontierPick(FastestWithin(0.01))).allocation


def test_an_infeasible_problem_is_explained_only_where_that_is_asked_for(monkeypatch) -> None:
    problem = make(0, max_loss=0.0, deadline_seconds=1e-3)
    rule = FrontierPick(FastestWithin(0.01))
    assert solve(problem, rule).message.startswith("No allocation keeps every limit.")

    def not_asked_for(problem):
        raise AssertionError("explaining takes up to 20 s")

    for name in ("solve", "frontier"):
        module = sys.modules[f"fedhq.allocator.{name}"]
        monkeypatch.setattr(module, "explain_infeasibility", not_asked_for)
    assert solve(problem, rule, explain_infeasible=False).status is Status.INFEASIBLE


def test_a_rule_that_no_point_satisfies_finds_nothing_and_says_why() -> None:
    solution = solve(make(0), FrontierPick(MostAccurateWithin(1e-6)))
    assert solution.status is Status.UNKNOWN
    assert "Allow more time" in solution.message
