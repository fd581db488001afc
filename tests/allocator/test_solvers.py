"""Promises of all solvers, by the suite that `fedhq.allocator.testing` ships, and their own."""

import dataclasses
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
    Dual,
    Exact,
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
)
from fedhq.allocator.instances.references import small_cases
from fedhq.allocator.solvers.steps import Steps
from fedhq.allocator.solvers.sweep import is_separable
from fedhq.allocator.testing import BoundPromises, ExactPromises, SolverPromises

RULES = [
    Uniform("qat-w2a2"),
    Random("qat-w2a2", "ptq-w2a2", share=0.5, seed=3),
    HardwareOnly("qat-w2a2", "ptq-w2a2"),
    CoarseRule("qat-w2a2", "ptq-w2a2"),
]
BY_LABELS = DataOnly("qat-w2a2", "ptq-w2a2", share=0.5)


class TestSweep(ExactPromises):
    solver = Sweep()
    seeds = 10

    def takes(self, problem):
        priced = problem.max_loss is not None and problem.switching_seconds is not None
        return is_separable(problem) and not priced


class TestMilp(ExactPromises):
    solver = Milp()
    limited = Milp(node_limit=1)  # of medium size no optimum is asked for
    seeds = 2
    medium_clients = (50,)


@pytest.mark.skipif(find_spec("cvxpy") is None, reason="cvxpy is not installed")
class TestCvx(ExactPromises):
    solver = Cvx()
    seeds = 1
    medium_clients = ()


class TestExact(ExactPromises):
    solver = Exact()
    limited = Exact(gap=1e-3, node_limit=100)
    seeds = 2
    medium_clients = (50,)


class TestDual(BoundPromises):
    solver = Dual()
    seeds = 2
    medium_clients = (50,)


class TestExactWithANodeLimit(BoundPromises):
    solver = Exact(node_limit=1)
    seeds = 1
    medium_clients = (50,)


class TestExhaustive(ExactPromises):
    solver = Exhaustive()
    seeds = 2
    medium_clients = ()


class TestMilpWithAGap(BoundPromises):
    solver = Milp(gap=0.5)
    seeds = 2
    medium_clients = (50,)


class TestMilpWithANodeLimit(BoundPromises):
    solver = Milp(node_limit=1)
    seeds = 1
    medium_clients = (50,)


class TestFrontierPick(SolverPromises):
    solver = FrontierPick(FastestWithin(0.01))
    seeds = 2

    def takes(self, problem):
        return problem.num_clients < 10 or is_separable(problem)


class TestUniform(SolverPromises):
    solver = RULES[0]


class TestRandom(SolverPromises):
    solver = RULES[1]


class TestHardwareOnly(SolverPromises):
    solver = RULES[2]


class TestCoarseRule(SolverPromises):
    solver = RULES[3]


class TestDataOnly(SolverPromises):
    solver = BY_LABELS

    def takes(self, problem):
        return problem.coverage is not None


class More:
    """Asks what the class `fewer`, which is to be subclassed with it, asks of more problems."""

    fewer: type[SolverPromises]
    medium_clients = ()

    def cases(self, family=None):
        """Those that `fewer` has not; skips if none."""
        asked = set(small_cases(self.fewer.seeds))
        more = [case for case in super().cases(family) if case not in asked]
        return more or pytest.skip("`fewer` has all of this kind")


@pytest.mark.slow
class TestManySweep(More, TestSweep):
    fewer = TestSweep
    seeds = 15


@pytest.mark.slow
class TestManyExact(More, TestExact):
    fewer = TestExact
    seeds = 3


@pytest.mark.slow
class TestManyDual(More, TestDual):
    fewer = TestDual
    seeds = 4


@pytest.mark.parametrize("rule", [*RULES, BY_LABELS], ids=repr)
def test_a_rule_claims_neither_a_bound_nor_an_optimum(make_problem, rule):
    for seed in range(20):
        problem = make_problem(seed)
        if rule is BY_LABELS and problem.coverage is None:
            continue
        answer = rule(problem)
        assert answer.status is Status.FEASIBLE
        assert answer.bound == -np.inf


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
