"""Promises of all solvers on random problems; the reference is the enumeration."""

import dataclasses
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Budget,
    CoarseRule,
    Coverage,
    Cvx,
    DataOnly,
    Exhaustive,
    FastestWithin,
    FrontierPick,
    HardwareOnly,
    Milp,
    Random,
    Status,
    Sweep,
    Uniform,
    solve,
    violations,
)
from fedhq.allocator.solvers.sweep import Steps

RULES = [
    Uniform("qat-w2a2"),
    Random("qat-w2a2", "ptq-w2a2", share=0.5, seed=3),
    HardwareOnly("qat-w2a2", "ptq-w2a2"),
    CoarseRule("qat-w2a2", "ptq-w2a2"),
]
EXACT = [Milp(), *([Cvx()] if find_spec("cvxpy") else [])]
"""Solvers that are exact for the whole program: add yours, and it is held to the enumeration."""
OTHERS = [Milp(gap=0.5), Milp(node_limit=1), FrontierPick(FastestWithin(0.01)), Exhaustive()]
ANY_PROBLEM = [*EXACT, *OTHERS, *RULES]
BY_LABELS = DataOnly("qat-w2a2", "ptq-w2a2", share=0.5)
SEEDS = range(20)


def same(value, expected):
    return value == pytest.approx(expected, rel=1e-7, abs=1e-9)


def optimum(problem):
    """The least objective by enumeration; None if infeasible."""
    answer = Exhaustive()(problem)
    return None if answer.choice is None else problem.objective(answer.choice)


def assert_exact(problem, solver):
    expected, solution = optimum(problem), solve(problem, solver)
    if expected is None:
        assert solution.status is Status.INFEASIBLE
        return
    assert solution.status is Status.OPTIMAL
    assert same(solution.allocation.objective, expected)
    assert solution.gap <= 1e-6


@pytest.mark.parametrize("solver", [*ANY_PROBLEM, BY_LABELS], ids=repr)
def test_every_solver_keeps_its_promises(make_problem, solver):
    for seed in SEEDS:
        problem = make_problem(seed)
        if solver is BY_LABELS and problem.coverage is None:
            continue
        best, solution = optimum(problem), solve(problem, solver)
        if solution.status.has_allocation:
            choice = solution.allocation.choice
            assert violations(problem, choice) == ()
            assert problem.objective(choice) >= best - 1e-9
        if solution.status is Status.INFEASIBLE:
            assert best is None
        if best is not None:
            assert solution.bound <= best + 1e-9
        again = solve(problem, solver)
        assert again.status is solution.status
        if solution.status.has_allocation:
            assert again.allocation.choice.tolist() == solution.allocation.choice.tolist()


@pytest.mark.parametrize("rule", [*RULES, BY_LABELS], ids=repr)
def test_a_rule_claims_neither_a_bound_nor_an_optimum(make_problem, rule):
    for seed in SEEDS:
        problem = make_problem(seed)
        if rule is BY_LABELS and problem.coverage is None:
            continue
        answer = rule(problem)
        assert answer.status is Status.FEASIBLE
        assert answer.bound == -np.inf


@pytest.mark.parametrize("solver", EXACT, ids=repr)
@pytest.mark.parametrize("block", range(4))
def test_an_exact_solver_equals_the_enumeration(make_problem, block, solver):
    for seed in range(60 * block, 60 * (block + 1)):
        assert_exact(make_problem(seed), solver)


def rescaled(problem, losses, seconds, keep_tradeoff=False):
    """The same problem with its losses and its times in other units."""
    term, switching = problem.coverage, problem.switching_seconds
    tradeoff, deadline = problem.tradeoff, problem.deadline_seconds
    return replace(
        problem,
        loss=problem.loss * losses,
        seconds=problem.seconds * seconds,
        tradeoff=tradeoff and tradeoff * (1.0 if keep_tradeoff else seconds / losses),
        deadline_seconds=deadline and deadline * seconds,
        max_loss=problem.max_loss and problem.max_loss * losses,
        switching_seconds=None if switching is None else switching * seconds,
        coverage=term and replace(term, loss_curve=term.loss_curve * [1, losses]),
    )


@pytest.mark.parametrize("solver", EXACT, ids=repr)
@pytest.mark.parametrize("losses", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("seconds", [1e-6, 1.0, 1e6])
def test_an_exact_solver_is_exact_in_any_units(make_problem, solver, losses, seconds):
    for seed in range(24):
        problem = rescaled(make_problem(seed), losses, seconds, keep_tradeoff=seed % 3 == 0)
        unit = losses if problem.time_weight == 0 else seconds
        expected, solution = optimum(problem), solve(problem, solver)
        assert solution.status is (Status.INFEASIBLE if expected is None else Status.OPTIMAL)
        if expected is not None:
            assert same(solution.allocation.objective / unit, expected / unit)
            assert solution.bound <= expected + 1e-6 * abs(expected) + 1e-8 * unit


def in_the_band(problem, factor):
    """The problem with every limit moved so that its optimum misses it by a relative factor."""
    choice = Exhaustive()(problem).choice
    return replace(
        problem,
        tradeoff=problem.tradeoff or 1.0,
        deadline_seconds=problem.round_seconds(choice) / factor,
        max_loss=problem.total_loss(choice) / factor,
        min_participation=min(problem.participation(choice) * factor, 1.0),
        budgets=tuple(
            Budget(b.resource, b.usage, used / factor)
            for b, used in zip(problem.budgets, problem.usage(choice), strict=True)
        ),
    )


@pytest.mark.parametrize("solver", EXACT, ids=repr)
@pytest.mark.parametrize("factor", [1.0, 1 + 5e-7, 1 + 9e-7, 1 + 1.1e-6, 1 + 2e-6])
def test_all_agree_on_what_is_within_the_tolerance_of_a_limit(make_problem, solver, factor):
    for seed in range(40):
        problem = make_problem(seed)
        if optimum(problem) is not None:
            assert_exact(in_the_band(problem, factor), solver)


@pytest.mark.parametrize("block", range(4))
def test_the_sweep_equals_the_enumeration_where_the_problem_is_separable(make_problem, block):
    swept = 0
    for seed in range(100 * block, 100 * (block + 1)):
        problem = make_problem(seed, separable=True)
        if problem.max_loss is None or problem.switching_seconds is None:
            assert_exact(problem, Sweep())
            swept += 1
    assert swept > 80


def test_the_random_problems_are_of_every_kind(make_problem):
    problems = [make_problem(seed) for seed in range(200)]
    infeasible = sum(optimum(p) is None for p in problems)
    assert 20 < infeasible < 150
    assert sum(p.coverage is not None for p in problems) > 80
    assert sum(len(p.budgets) == 2 for p in problems) > 30
    assert sum(p.switching_seconds is not None for p in problems) > 10


def test_the_sweep_takes_the_smallest_round_time_of_equal_optima(make_problem):
    for seed in range(200):
        problem = make_problem(seed, separable=True)
        reference = Exhaustive()(problem)
        if reference.choice is None or problem.tradeoff is not None:
            continue
        found = Sweep()(problem)
        assert problem.round_seconds(found.choice) == problem.round_seconds(reference.choice)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"budgets": [Budget("a_bytes", [[0, 1], [0, 1]], 1)]}, "budgets"),
        ({"coverage": Coverage([[1], [1]], (0, 1), ((0, 0.1), (1, 0)))}, "coverage"),
        ({"min_participation": 0.5}, "min_participation"),
        ({"max_loss": 1.0, "switching_seconds": [[0, 1], [0, 1]]}, "max_loss together with"),
    ],
)
def test_the_sweep_names_the_term_that_it_cannot_handle(changes, name):
    problem = AllocationProblem(
        ("skip", "fp32"), [[0, 1], [0, 2]], np.zeros((2, 2)), 1.0, **changes
    )
    with pytest.raises(ValueError, match=f"Sweep cannot handle `{name}"):
        Sweep()(problem)


@pytest.mark.parametrize("solver", [Sweep(), Milp()], ids=repr)
def test_a_maximum_loss_of_zero_is_not_missed_by_rounding(solver):
    rng = np.random.default_rng(0)
    for _ in range(30):
        clients = int(rng.integers(3, 30))
        seconds, loss = (
            rng.random((clients, 2)) + np.array([0, 1]),
            rng.random((clients, 2)) * [1, 0],
        )
        problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), seconds, loss, max_loss=0.0)
        assert solve(problem, solver).allocation.choice.tolist() == [1] * clients


def test_a_budget_of_zero_forbids_even_small_usage():
    usage = Budget("a_bytes", [[1e-7, 0, 1]], 0)
    menu = ("ptq-w2a2", "qat-w2a2", "fp32")
    problem = AllocationProblem(menu, [[1, 9, 1]], [[0, 0, 0]], 1.0, budgets=[usage])
    assert solve(problem, Milp()).allocation.choice.tolist() == [1]


def test_a_small_minimum_participation_counts():
    problem = AllocationProblem(
        ("skip", "fp32"), [[0, 9], [0, 1]], [[0, 0], [0, 0]], 1.0,
        num_examples=[1e8, 1], min_participation=5e-8,
    )  # fmt: skip
    assert solve(problem, Milp()).allocation.choice.tolist() == [1, 0]


def test_steps_fall_strictly_and_never_below_zero():
    rng = np.random.default_rng(1)
    seconds, loss = rng.random((500, 4)), rng.random((500, 4))
    loss[:, 3] = 0
    steps = Steps.of(seconds, loss, np.ones((500, 4), bool), np.ones(4, bool))
    assert (np.diff(steps.thresholds) > 0).all()
    assert (np.diff(steps.costs) < 0).all()
    assert steps.costs[-1] == 0
    for k in range(0, len(steps.costs), 50):
        choice = steps.choose(steps.thresholds[k])
        assert loss[np.arange(500), choice].sum() == pytest.approx(steps.costs[k])
        assert seconds[np.arange(500), choice].max() == steps.thresholds[k]


def reordered(problem, order):
    """The same problem with its clients in another order and renamed."""
    term = problem.coverage
    return replace(
        problem,
        seconds=problem.seconds[order],
        loss=problem.loss[order],
        allowed=problem.allowed[order],
        budgets=tuple(Budget(b.resource, b.usage[order], b.limit) for b in problem.budgets),
        coverage=None
        if term is None
        else Coverage(
            term.label_counts[order], term.teaches, term.loss_curve, term.population, term.carried
        ),
        num_examples=problem.num_examples[order],
        switching_seconds=None
        if problem.switching_seconds is None
        else problem.switching_seconds[order],
        clients=tuple(f"device-{i}" for i in order),
    )


@pytest.mark.parametrize(("solver", "separable"), [(Sweep(), True), (Milp(), False)], ids=repr)
def test_renaming_and_reordering_clients_changes_nothing(make_problem, solver, separable):
    for seed in range(40):
        problem = make_problem(seed, separable=separable)
        order = np.random.default_rng(seed).permutation(problem.num_clients)
        first, second = solve(problem, solver), solve(reordered(problem, order), solver)
        assert first.status is second.status
        if first.status.has_allocation:
            assert same(second.allocation.objective, first.allocation.objective)


def scaled(budget, factor):
    return Budget(budget.resource, budget.usage * factor, budget.limit * factor)


@pytest.mark.parametrize("factor", [1e-9, 1e9])
def test_scaling_usage_and_limit_together_changes_nothing(make_problem, factor):
    for seed in range(60):
        problem = make_problem(seed)
        other = replace(problem, budgets=tuple(scaled(b, factor) for b in problem.budgets))
        first, second = solve(problem, Milp()), solve(other, Milp())
        assert first.status is second.status
        if first.status.has_allocation:
            assert same(second.allocation.objective, first.allocation.objective)


def test_a_larger_budget_never_hurts(make_problem):
    for seed in range(60):
        problem = make_problem(seed)
        larger = replace(
            problem,
            budgets=tuple(Budget(b.resource, b.usage, 1.5 * b.limit) for b in problem.budgets),
        )
        before, after = solve(problem, Milp()), solve(larger, Milp())
        if before.status.has_allocation:
            assert after.allocation.objective <= before.allocation.objective + 1e-9


def test_a_dominated_strategy_changes_nothing(make_problem):
    for seed in range(40):
        problem = make_problem(seed, separable=True)
        if problem.switching_seconds is not None:
            continue
        worst = problem.seconds.max(axis=1)[:, None] + 1, problem.loss.max(axis=1)[:, None] + 1
        more = AllocationProblem(
            (*problem.strategies, "qat-w8a8"),
            np.hstack([problem.seconds, worst[0]]),
            np.hstack([problem.loss, worst[1]]),
            problem.tradeoff,
            deadline_seconds=problem.deadline_seconds,
            max_loss=problem.max_loss,
            allowed=np.hstack([problem.allowed, np.ones_like(worst[0], dtype=bool)]),
        )
        before, after = solve(problem, Sweep()), solve(more, Sweep())
        if before.status.has_allocation:
            assert same(after.allocation.objective, before.allocation.objective)


def test_the_enumeration_refuses_what_is_too_large(pair):
    with pytest.raises(ValueError, match=r"`allocations <= 3` must hold .* but 4 exist"):
        Exhaustive(max_allocations=3)(pair)


@pytest.fixture
def knapsack():
    """Three budgets for three hundred clients: nothing that HiGHS proves at once."""
    rng, n = np.random.default_rng(0), 300
    budgets = [Budget(f"r{k}_bytes", rng.random((n, 3)) * [0, 1, 1], n / 5) for k in range(3)]
    menu = ("skip", "ptq-w2a2", "qat-w2a2")
    seconds, loss = rng.random((n, 3)) * [0, 1, 2], rng.random((n, 3))
    return AllocationProblem(menu, seconds, loss, 1.0, budgets=budgets)


def test_milp_without_an_answer_says_so(knapsack):
    solution = solve(knapsack, Milp(time_limit_seconds=1e-9))
    assert solution.status is Status.UNKNOWN
    assert "imit" in solution.message


@pytest.mark.parametrize("solver", [Milp(gap=0.2), Milp(node_limit=1)], ids=repr)
def test_milp_claims_no_optimum_that_it_has_not_proven(knapsack, solver):
    solution = solve(knapsack, solver)
    assert solution.status is Status.FEASIBLE
    assert 0 < solution.gap <= 0.2


def test_settings_of_a_solver_are_its_fields():
    assert [f.name for f in dataclasses.fields(Milp)] == [
        "gap", "time_limit_seconds", "node_limit", "with_prices"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("solver", "settings", "rule"),
    [
        (Milp, {"gap": -0.1}, "0 <= gap < inf"),
        (Milp, {"gap": np.nan}, "0 <= gap < inf"),
        (Milp, {"time_limit_seconds": 0.0}, "time_limit_seconds > 0"),
        (Milp, {"node_limit": -1}, "node_limit > 0"),
        (Cvx, {"gap": np.inf}, "0 <= gap < inf"),
        (Cvx, {"time_limit_seconds": np.nan}, "time_limit_seconds > 0"),
    ],
)
def test_settings_out_of_range_are_named(solver, settings, rule):
    with pytest.raises(ValueError, match=f"`{rule}` must hold"):
        solver(**settings)
