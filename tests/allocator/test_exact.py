"""`Exact` beyond the conformance suite: larger fleets, early stops, one answer in every process."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import Count, Dual, Exact, Exhaustive, Milp, Status, solve, violations
from fedhq.allocator.instances.families import FAMILIES
from fedhq.allocator.instances.random_program import random_program
from fedhq.allocator.solvers import residual

federated = FAMILIES["federated"]


def capped(problem, part):
    """With a maximum loss between the least and that of the cheapest, and no trade-off."""
    least = problem.loss.min(axis=1).sum()
    most = problem.loss.max(axis=1).sum() + problem.coverage.loss(problem.coverage.carried)
    return replace(problem, tradeoff=None, max_loss=least + part * (most - least))


def assert_equal_optima(problem):
    found, expected = solve(problem, Exact()), solve(problem, Milp())
    assert found.status is expected.status
    if expected.status is Status.OPTIMAL:
        objective = expected.allocation.objective
        assert found.allocation.objective == pytest.approx(objective, rel=2e-6)
        assert found.bound == pytest.approx(objective, rel=2e-6)
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("clients", [30, 45, 60])
def test_fleets_get_the_optimum_of_the_mixed_integer_program(seed, clients):
    assert assert_equal_optima(federated(seed, clients)).status is Status.OPTIMAL


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5, 20))
@pytest.mark.parametrize("clients", [20, 30, 60])
def test_many_fleets_get_the_optimum_of_the_mixed_integer_program(seed, clients):
    assert_equal_optima(federated(seed, clients))


@pytest.mark.parametrize("seed", range(4))
def test_counts_and_groups_through_solve_equal_the_mixed_integer_program(seed):
    rng = np.random.default_rng(seed)
    names = [f"home-{k}" if k < 8 else None for k in rng.integers(0, 20, 40)]
    problem = federated(seed, 40)
    allowed = problem.allowed.copy()
    allowed[[name is not None for name in names], 1] = True
    problem = replace(
        problem,
        allowed=allowed,
        groups=names,
        counts=(Count(["qat-w2a2"], at_least=5, at_most=15), Count(["skip"], at_most=12)),
        switching_seconds=rng.random((40, 3)) * 0.05,
    )
    solution = assert_equal_optima(problem)
    assert solution.status is Status.OPTIMAL
    assert violations(problem, solution.allocation.choice) == ()


@pytest.mark.parametrize("seed", range(4))
def test_the_least_loss_before_a_deadline_equals_the_mixed_integer_program(seed):
    problem = federated(seed, 40)
    floor = problem.seconds.min(axis=1).max()
    deadline = max(floor, float(np.quantile(problem.seconds, 0.7)))
    problem = replace(problem, tradeoff=None, deadline_seconds=deadline)
    solution = assert_equal_optima(problem)
    assert solution.allocation.round_seconds <= deadline * (1 + 1e-6)


def test_the_fastest_round_within_a_loss_equals_the_enumeration():
    answered = refused = 0
    for seed in range(400):
        problem = replace(random_program(seed, 1 + seed % 5), groups=None)
        if problem.tradeoff is not None or problem.max_loss is None or not problem.has_goal:
            continue
        expected, found = Exhaustive()(problem), solve(problem, Exact())
        assert found.status is expected.status
        if expected.choice is not None:
            assert found.allocation.objective == pytest.approx(expected.bound, rel=1e-12)
            assert found.bound == pytest.approx(expected.bound, rel=1e-12)
        answered += expected.choice is not None
        refused += expected.choice is None
    assert answered > 40
    assert refused > 10


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("part", [0.05, 0.2])
def test_the_fastest_round_of_a_fleet_equals_the_mixed_integer_program(seed, part):
    problem = capped(federated(seed, 25), part)
    solution = assert_equal_optima(problem)
    assert solution.allocation.loss <= problem.max_loss * (1 + 1e-6)


@pytest.mark.parametrize(
    "solver",
    [
        Exact(node_limit=1),
        Exact(time_limit_seconds=1e-3),
        Exact(time_limit_seconds=1e-9),
        Exact(gap=0.5),
    ],
    ids=repr,
)
@pytest.mark.parametrize("family", ["federated", "one giant", "strongly correlated", "ties"])
def test_an_early_stop_leaves_an_allocation_and_a_valid_gap(solver, family):
    problem = FAMILIES[family](2, 30)
    solution = solve(problem, solver)
    assert solution.status.has_allocation
    assert violations(problem, solution.allocation.choice) == ()
    best = solve(problem, Exact()).allocation.objective
    assert solution.bound <= best * (1 + 1e-6)
    objective = solution.allocation.objective
    assert objective - best <= (solution.gap + 1e-6) * objective
    if solution.status is Status.OPTIMAL:
        assert solution.allocation.objective == pytest.approx(best, rel=2e-6)


def test_an_early_stop_of_the_fastest_round_is_feasible_and_bounded():
    problem = capped(federated(1, 40), 0.1)
    best = solve(problem, Exact()).allocation.objective
    for solver in (Exact(node_limit=1), Exact(gap=0.1), Dual()):
        solution = solve(problem, solver)
        assert solution.status.has_allocation
        assert solution.bound <= best * (1 + 1e-9)
        assert solution.allocation.objective >= best * (1 - 1e-9)


@pytest.mark.parametrize("family", ["federated", "strongly correlated", "ties", "one giant"])
def test_a_gap_is_kept_and_its_certificate_holds(family):
    for seed in range(3):
        problem = FAMILIES[family](seed, 40)
        best = solve(problem, Exact()).allocation.objective
        for gap in (0.1, 1e-2, 1e-4):
            solution = solve(problem, Exact(gap=gap))
            assert solution.gap <= gap * (1 + 1e-6) + 1e-9
            assert solution.bound <= best * (1 + 1e-6)
            assert solution.allocation.objective <= best * (1 + gap) * (1 + 1e-6)


def test_a_gap_saves_programs(monkeypatch):
    minimise, runs = residual.minimise, []
    monkeypatch.setattr(residual, "minimise", lambda *given: runs.append(0) or minimise(*given))
    counts = []
    for gap in (0.0, 0.02):
        runs.clear()
        for seed in range(6):
            solve(FAMILIES["strongly correlated"](seed, 40), Exact(gap=gap))
        counts.append(len(runs))
    assert counts[1] < counts[0]


_SCRIPT = """
from fedhq.allocator import Dual, Exact, solve
from fedhq.allocator.instances.families import FAMILIES
for family in ("federated", "strongly correlated", "random"):
    for solver in (Exact(node_limit=50), Exact(gap=1e-3, node_limit=50), Dual()):
        solution = solve(FAMILIES[family](6, 40), solver)
        print(solution.status, solution.bound.hex(), solution.message, end=" ")
        print(solution.allocation.choice.tobytes().hex())
"""


def test_another_process_gives_the_same_bytes():
    outputs = []
    for hash_seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", _SCRIPT],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        outputs.append(run.stdout)
    assert len(outputs[0].splitlines()) == 9
    assert outputs[0] == outputs[1]
