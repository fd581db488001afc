"""Counts and groups against plain enumeration of the original clients."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Budget,
    Count,
    Cvx,
    Milp,
    Status,
    explain_infeasibility,
    pareto_frontier,
    solve,
    violations,
)
from fedhq.allocator.groups import Merged


def keeps(problem, choice):
    """Counts and groups checked by loops; the rest by `violations`, tested on its own."""
    for count in problem.counts:
        done = sum(problem.strategies[s] in count.strategies for s in choice)
        if done < count.at_least or (count.at_most is not None and done > count.at_most):
            return False
    for i, name in enumerate(problem.groups or ()):
        for j in range(i):
            if name is not None and name == problem.groups[j] and choice[i] != choice[j]:
                return False
    plain = replace(problem, counts=(), groups=None)
    return not violations(plain, np.array(choice))


def best(problem):
    choices = product(range(len(problem.strategies)), repeat=problem.num_clients)
    values = [problem.objective(np.array(c)) for c in choices if keeps(problem, c)]
    return min(values, default=None)


def with_terms(problem, seed):
    rng = np.random.default_rng(seed)
    n, qat = problem.num_clients, [s for s in problem.strategies if str(s) == "qat-w2a2"]
    least = int(rng.integers(0, n + 1))
    most = int(rng.integers(least, n + 1))
    counts = [Count(qat, at_least=least, at_most=most if rng.random() < 0.7 else None)]
    if rng.random() < 0.3:
        counts.append(Count(["ptq-w2a2", "qat-w2a2"], at_most=int(rng.integers(1, n + 1))))
    names = [None, "a", "a", "b", "b"]
    groups = [names[rng.integers(5)] for _ in range(n)] if rng.random() < 0.7 else None
    allowed = np.ones_like(problem.allowed) if groups else problem.allowed
    return replace(problem, counts=counts, groups=groups, allowed=allowed)


@pytest.mark.parametrize("solver", [Milp(), Cvx()], ids=repr)
def test_counts_and_groups_equal_an_enumeration_of_the_original_clients(make_problem, solver):
    if isinstance(solver, Cvx):
        pytest.importorskip("cvxpy")
    feasible = 0
    for seed in range(80):
        problem = with_terms(make_problem(seed), seed)
        expected, solution = best(problem), solve(problem, solver)
        if expected is None:
            assert solution.status is Status.INFEASIBLE
            assert "No allocation" in solution.message or "conflict" in solution.message
            continue
        feasible += 1
        assert solution.allocation.objective == pytest.approx(expected, rel=1e-6, abs=1e-9)
        assert keeps(problem, solution.allocation.choice)
    assert feasible > 25


def test_violations_see_counts_and_groups_as_the_loops_do(make_problem):
    broken = 0
    for seed in range(60):
        problem = with_terms(make_problem(seed, max_clients=3), seed)
        for choice in product(range(len(problem.strategies)), repeat=problem.num_clients):
            assert (not violations(problem, np.array(choice))) == keeps(problem, choice)
            broken += not keeps(problem, choice)
    assert broken > 100


def test_a_frontier_keeps_groups_and_counts():
    problem = AllocationProblem(
        ("ptq-w2a2", "qat-w2a2"),
        [[1, 2], [3, 5], [1, 4]],
        [[0.1, 0], [0.1, 0], [0.3, 0]],
        counts=[Count(["qat-w2a2"], at_least=1)],
        groups=["pair", None, "pair"],
    )
    frontier = pareto_frontier(problem)
    assert frontier.round_seconds.tolist() == [4, 5]
    assert frontier.loss.tolist() == pytest.approx([0.1, 0.0])
    assert frontier.allocation(0).choice.tolist() == [1, 0, 1]


def test_merging_changes_no_value_of_a_choice(make_problem):
    for seed in range(40):
        problem = with_terms(make_problem(seed), seed)
        merged = Merged.of(problem)
        choice = np.random.default_rng(seed).integers(
            0, len(problem.strategies), merged.problem.num_clients
        )
        spread = merged.spread(choice)
        assert merged.problem.round_seconds(choice) == problem.round_seconds(spread)
        assert merged.problem.total_loss(choice) == pytest.approx(problem.total_loss(spread))
        assert merged.problem.usage(choice) == pytest.approx(problem.usage(spread))
        assert merged.problem.participation(choice) == pytest.approx(problem.participation(spread))
        for count in problem.counts:
            assert merged.problem.count(count, choice) == problem.count(count, spread)


def test_a_count_out_of_reach_is_explained_with_what_would_do():
    problem = AllocationProblem(
        ("skip", "qat-w2a2"),
        [[0, 2]] * 3,
        [[0, 0]] * 3,
        tradeoff=1.0,
        allowed=[[True, True], [True, False], [True, True]],
        counts=[Count(["qat-w2a2"], at_least=3)],
    )
    text = explain_infeasibility(problem)
    assert "at_least (count of qat-w2a2) = 3 is out of reach" in text
    assert "at_least (count of qat-w2a2) <= 2 is needed" in text


def test_a_count_that_conflicts_with_a_budget_is_explained():
    problem = AllocationProblem(
        ("skip", "qat-w2a2"),
        [[0, 2]] * 3,
        [[0, 0]] * 3,
        tradeoff=1.0,
        budgets=[Budget("uplink_bytes", [[0, 10]] * 3, 25)],
        counts=[Count(["qat-w2a2"], at_least=3)],
    )
    text = solve(problem, Milp()).message
    assert "at_least (count of qat-w2a2) <= 2" in text
    assert "uplink_bytes >= 30" in text


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Count([]), "must be a list of strategies"),
        (lambda: Count("qat-w2a2"), "must be a list of strategies"),
        (lambda: Count(["qat-w2a2"], 3, 2), "0 <= at_least <= at_most"),
        (lambda: Count(["qat-w2a2"], -1), "0 <= at_least <= at_most"),
        (lambda: problem_with(counts=[Count(["fp32"])]), "strategies of the menu"),
        (
            lambda: problem_with(counts=[Count(["qat-w2a2"]), Count(["qat-w2a2"], 1)]),
            "different strategies",
        ),
        (lambda: problem_with(groups=["a"]), "must hold 2 names"),
        (
            lambda: problem_with(groups=["a", "a"], allowed=[[True, False], [False, True]]),
            "share an allowed strategy",
        ),
    ],
)
def test_a_wrong_count_or_group_is_named(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()


def problem_with(**changes):
    return AllocationProblem(
        ("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]], [[0, 0], [0, 0]], 1.0, **changes
    )


def test_the_order_of_counted_strategies_does_not_matter():
    one, other = Count(["qat-w2a2", "ptq-w2a2"], 1), Count(["ptq-w2a2", "qat-w2a2"], 1)
    assert one == other
    with pytest.raises(ValueError, match="different strategies"):
        problem_with(counts=[one, Count(["ptq-w2a2", "qat-w2a2"], at_most=2)])
