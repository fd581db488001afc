"""Unevenness in the loss: its value, and every solver that takes it, by enumeration and cvxpy."""

from dataclasses import replace

import numpy as np
import pytest
from skewed_programs import CURVE, skewed

from fedhq.allocator import AllocationProblem, Coverage, Cvx, Dual, Exact, Milp, Status, solve
from fedhq.allocator.instances.references import enumerated, slack_of


def test_unevenness_is_how_far_classes_lag_behind_the_share():
    term = Coverage([[6, 0, 0], [0, 3, 0], [2, 1, 4]], (0, 1), CURVE, unevenness_price=2.0)
    rng = np.random.default_rng(0)
    for choice in rng.integers(0, 2, (20, 3)):
        covered = term.covered(choice)
        share = sum(g * c for g, c in zip(term.class_weights, covered, strict=True))
        lags = [max(0.0, share - c) for c in covered]
        expected = sum(g * lag for g, lag in zip(term.class_weights, lags, strict=True))
        assert term.unevenness(covered) == pytest.approx(expected)
        assert term.loss(covered) == pytest.approx(
            term.class_weights @ term.phi(covered) + 2.0 * expected
        )
        assert term.loss(covered) <= term.most
    assert term.unevenness(np.zeros(3)) == 0
    assert term.unevenness(np.ones(3)) == pytest.approx(0, abs=1e-15)
    assert term.unevenness(np.array([1.0, 0.0, 0.0])) == pytest.approx(0.5 * 0.5)


def test_losses_of_many_coverages_are_those_of_each():
    term = skewed(3, 5, price=1.5).coverage
    covered = np.random.default_rng(1).random((2, 7, 4))
    expected = [[term.loss(c) for c in row] for row in covered]
    np.testing.assert_allclose(term.losses(covered), expected, rtol=1e-12)


def test_unevenness_is_convex_along_every_line():
    term = skewed(5, 5, price=1.0).coverage
    rng = np.random.default_rng(2)
    ends = rng.random((100, 2, 4))
    middle = term.lags(ends.mean(axis=1)) @ term.class_weights
    assert (middle <= (term.lags(ends) @ term.class_weights).mean(axis=1) + 1e-12).all()


def test_it_says_that_more_qat_hurts():
    labels = [[8, 0], [0, 8], [1, 1]]
    even = Coverage(labels, (0, 1), ((0, 0.1), (1, 0)))
    term = replace(even, unevenness_price=1.0)
    problem = AllocationProblem(
        ("ptq-w2a2", "qat-w2a2"),
        [[1, 1], [1, 9], [1, 1]],
        np.zeros((3, 2)),
        deadline_seconds=2.0,
        coverage=even,
    )
    assert solve(problem, Exact()).allocation.choice.tolist() == [1, 0, 1]
    uneven = replace(problem, coverage=term)
    assert solve(uneven, Exact()).allocation.choice.tolist() == [0, 0, 1]
    late = replace(uneven, deadline_seconds=10.0)
    assert solve(late, Exact()).allocation.choice.tolist() == [1, 1, 1]


@pytest.mark.parametrize("price", [-1.0, np.nan, np.inf])
def test_a_price_is_a_number_from_zero_on(price):
    with pytest.raises(ValueError, match="`unevenness_price`"):
        Coverage([[1, 1]], (0, 1), CURVE, unevenness_price=price)


def test_a_single_class_is_never_uneven():
    for labels in ([[3], [5]], [[3, 0], [5, 0]]):
        term = Coverage(labels, (0, 1), CURVE, unevenness_price=5.0)
        assert not term.has_unevenness
        covered = term.covered(np.array([0, 1]))
        assert term.loss(covered) == replace(term, unevenness_price=0.0).loss(covered)


@pytest.mark.parametrize("solver", [Milp(), Exact()], ids=["milp", "exact"])
def test_an_exact_solver_equals_the_enumeration(solver):
    feasible = changed = 0
    for seed in range(45):
        problem = skewed(seed, 1 + seed % 6)
        best, solution = enumerated(problem), solve(problem, solver)
        if best is None:
            assert solution.status is Status.INFEASIBLE, seed
            continue
        slack = slack_of(problem, best)
        assert solution.status is Status.OPTIMAL, seed
        assert solution.allocation.objective == pytest.approx(best, abs=slack), seed
        assert best - slack <= solution.bound <= best + slack, seed
        feasible += 1
        without = replace(problem, coverage=replace(problem.coverage, unevenness_price=0.0))
        other = solve(without, solver).allocation.choice
        changed += problem.objective(other) > best + slack
    assert feasible > 20
    assert changed >= 4


def test_cvxpy_and_the_exact_search_agree_at_medium_size():
    for seed in range(8):
        problem = skewed(seed, 14)
        ours, reference = solve(problem, Exact()), solve(problem, Cvx())
        assert ours.status is reference.status
        if ours.status.has_allocation:
            best = reference.allocation.objective
            assert ours.allocation.objective == pytest.approx(best, abs=2 * slack_of(problem, best))


def test_no_bound_exceeds_the_optimum_at_strong_prices():
    near = 0
    for seed in range(50):
        problem = skewed(seed, 2 + seed % 5, price=float(10.0 ** (seed % 4 - 1)))
        best = enumerated(problem)
        if best is None:
            continue
        solution = solve(problem, Dual(), explain_infeasible=False)
        assert solution.status is not Status.INFEASIBLE, seed
        assert solution.bound <= best + slack_of(problem, best), seed
        near += solution.bound > 0.5 * best
    assert near > 12
