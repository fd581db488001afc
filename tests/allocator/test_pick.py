"""`FrontierPick` lies on the frontier, and `use_slack` takes only what is free."""

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Budget,
    Coverage,
    FastestWithin,
    FrontierPick,
    InfeasibleError,
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


def test_infeasible_problems_are_reported_with_their_limits() -> None:
    problem = make(0, max_loss=0.0, deadline_seconds=1e-3)
    with pytest.raises(InfeasibleError, match="deadline_seconds"):
        solve(problem, FrontierPick(FastestWithin(0.01))).allocation


def test_the_explanation_of_an_infeasible_problem_is_passed_on() -> None:
    answer = FrontierPick(FastestWithin(0.01))(make(0, max_loss=0.0, deadline_seconds=1e-3))
    assert answer.message.startswith("No allocation keeps every limit.")
