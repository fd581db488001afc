"""Choices that a known allocation excludes, and tables in which one entry dwarfs the rest."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Answer,
    Budget,
    Count,
    Coverage,
    Dual,
    Exact,
    Exhaustive,
    FrontierPick,
    Knee,
    Milp,
    Status,
    pareto_frontier,
    solve,
)
from fedhq.allocator.relax import settle
from fedhq.allocator.solvers.prune import without_dear


def with_never(never, seed):
    """Eight clients under a budget; some would do one strategy at a forbidding loss."""
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.random((8, 3)) * 10, axis=1)
    loss = np.stack([rng.random(8) * 0.05, rng.random(8) * 0.02, np.zeros(8)], axis=1)
    loss[::3, 2] = never
    usage = rng.random((8, 3)) * 10
    budget = Budget("b_bytes", usage, usage.min(axis=1).sum() * 1.5)
    menu = ("fp32", "ptq-w2a2", "qat-w2a2")
    return AllocationProblem(menu, seconds, loss, 100.0, budgets=[budget])


@pytest.mark.parametrize("solver", [Exact(), Milp()], ids=repr)
@pytest.mark.parametrize("never", [1e6, 1e9, 1e12, 1e15])
def test_one_forbidding_entry_does_not_spoil_an_optimum(never, solver):
    for seed in range(6):
        problem = with_never(never, seed)
        best = solve(problem, Exhaustive()).allocation.objective
        solution = solve(problem, solver)
        assert solution.status is Status.OPTIMAL
        assert solution.allocation.objective == pytest.approx(best, rel=1e-9)
        assert solution.gap <= 1e-6


def test_the_dual_claims_no_optimum_that_it_has_not_proven():
    for seed in range(6):
        solution = solve(with_never(1e12, seed), Dual())
        assert solution.status is Status.FEASIBLE or solution.gap <= 1e-6


def test_only_what_no_better_allocation_can_hold_is_excluded():
    for seed in range(30):
        problem = with_never(1e9, seed)
        reference = Exhaustive()(problem)
        narrower = without_dear(problem, reference)
        assert narrower is not None
        assert narrower.allowed[::3, 2].sum() == 0
        assert narrower.allowed[np.arange(8), reference.choice].all()
        assert Exhaustive()(narrower).bound == pytest.approx(reference.bound)


def test_an_allocation_that_breaks_a_limit_excludes_nothing():
    problem = with_never(1e9, 0)
    worst = np.argmax(problem.budgets[0].usage, axis=1)
    assert without_dear(problem, Answer(Status.FEASIBLE, worst)) is None


def test_a_forbidding_entry_hides_no_point_of_the_frontier():
    problem = replace(with_never(1e8, 3), tradeoff=None)
    masked = replace(problem, allowed=problem.loss < 1e8)
    points = pareto_frontier(masked)
    found = pareto_frontier(problem)
    assert found.round_seconds[found.loss < 1] == pytest.approx(points.round_seconds)


def test_a_frontier_by_a_rule_that_breaks_limits_ends_and_keeps_them():
    problem = AllocationProblem(
        ("skip", "qat-w2a2"),
        [[0, 2], [0, 9]],
        [[0.5, 0], [0.5, 0]],
        budgets=[Budget("b_bytes", [[0, 1], [0, 1]], 1)],
    )

    def everything(within):
        return Answer(Status.FEASIBLE, within.seconds.argmax(axis=1), 0.0)

    frontier = pareto_frontier(problem, solver=everything)
    for k in range(len(frontier)):
        assert problem.usage(frontier.allocation(k).choice)[0] <= 1


def test_using_the_slack_keeps_counts():
    problem = AllocationProblem(
        ("ptq-w2a2", "qat-w2a2"),
        [[1, 1], [1, 1]],
        [[0, 0], [0, 0]],
        coverage=Coverage([[5], [5]], (0, 1), ((0, 0.4), (0.5, 0))),
        counts=[Count(["qat-w2a2"], at_most=1)],
    )
    solution = solve(problem, FrontierPick(Knee()))
    assert solution.allocation.choice.sum() == 1


def test_limits_that_were_relaxed_come_with_an_allocation_that_keeps_them():
    def nothing(problem):
        return Answer(Status.UNKNOWN, message="out of order")

    problem = AllocationProblem(
        ("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]], [[0.1, 0], [0.1, 0]], deadline_seconds=2.0
    )
    problem = replace(problem, max_loss=0.1, tradeoff=None)
    allocation, note = settle(problem, nothing)
    assert allocation.loss <= 0.1 + 1e-9
    assert allocation.round_seconds == 3.0
    assert "relaxed: deadline_seconds = 2 (now 3)" in note
