import builtins
import functools
import re
import sys

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Budget,
    Coverage,
    Cvx,
    InfeasibleError,
    Milp,
    SolverError,
    Status,
    solve,
)
from fedhq.allocator.solvers.cvx_model import CvxModel

cp = pytest.importorskip("cvxpy")
MENU = ("skip", "ptq-w2a2", "qat-w2a2")


@pytest.mark.parametrize("backend", [None, "SCIPY"])
def test_it_equals_milp_on_the_whole_program(make_problem, backend):
    for seed in range(40):
        problem = make_problem(seed)
        expected, found = solve(problem, Milp()), solve(problem, Cvx(backend))
        assert found.status is expected.status
        if found.status.has_allocation:
            assert found.allocation.objective == pytest.approx(expected.allocation.objective)
            assert found.bound > -np.inf
            assert found.gap < 1e-6


@pytest.mark.slow
def test_it_equals_milp_on_hundreds_of_problems(make_problem):
    for seed in range(40, 400):
        problem = make_problem(seed)
        expected, found = solve(problem, Milp()), solve(problem, Cvx())
        assert found.status is expected.status
        if found.status.has_allocation:
            assert found.allocation.objective == pytest.approx(expected.allocation.objective)


@pytest.fixture
def fleet():
    """Four clients with budgets, coverage and a trade-off that favours qat."""
    return AllocationProblem(
        MENU,
        [[0, 1, 2], [0, 2, 3], [0, 3, 5], [0, 4, 9]],
        np.tile([0.2, 0, 0], (4, 1)),
        tradeoff=40.0,
        budgets=[
            Budget("uplink_bytes", np.tile([0, 10, 20], (4, 1)), 80),
            Budget("energy_joules", np.tile([0, 1, 2], (4, 1)), 8),
        ],
        coverage=Coverage([[9, 0], [0, 9], [9, 0], [0, 9]], (0, 0, 1), ((0, 0.5), (1, 0))),
    )


def test_own_constraints_hold_and_cost(fleet):
    free = solve(fleet, Cvx()).allocation
    assert free.choice[2] == 2
    bound = solve(fleet, Cvx(constraints=lambda v: [v.choice[2, 2] == 0])).allocation
    assert bound.choice[2] != 2
    assert bound.objective > free.objective


@pytest.mark.parametrize(
    ("constraint", "holds"),
    [
        (lambda v: v.round_seconds <= 5, lambda a, f: a.round_seconds <= 5),
        (lambda v: v.loss <= 0.1, lambda a, f: a.loss <= 0.1 + 1e-6),
        (lambda v: v.usage[0] <= 50, lambda a, f: a.usage[0] <= 50),
        (lambda v: v.usage[1] <= 6, lambda a, f: a.usage[1] <= 6),
        (lambda v: v.coverage >= 0.5, lambda a, f: (f.coverage.covered(a.choice) >= 0.5).all()),
        (lambda v: cp.sum(v.choice[:, 2]) == 1, lambda a, f: (a.choice == 2).sum() == 1),
    ],
)
def test_a_constraint_may_speak_about_every_variable(fleet, constraint, holds):
    allocation = solve(fleet, Cvx(constraints=lambda v: [constraint(v)])).allocation
    assert holds(allocation, fleet)


def test_expressions_are_in_the_units_of_the_problem(fleet):
    seen = []

    def look(variables):
        seen.append(variables)
        return []

    allocation = solve(fleet, Cvx(constraints=look)).allocation
    (variables,) = seen
    assert float(variables.round_seconds.value) == pytest.approx(allocation.round_seconds)
    assert float(variables.loss.value) == pytest.approx(allocation.loss)
    assert [float(u.value) for u in variables.usage] == pytest.approx(allocation.usage.tolist())
    assert variables.coverage.value == pytest.approx(fleet.coverage.covered(allocation.choice))


def test_a_problem_without_coverage_offers_none(pair):
    seen = []
    Cvx(constraints=lambda v: seen.append(v.coverage) or [])(pair)
    assert seen == [None]


def test_own_constraints_that_cannot_hold_are_blamed_rather_than_the_limits(fleet):
    solution = solve(fleet, Cvx(constraints=lambda v: [v.round_seconds <= 0]))
    assert solution.status is Status.INFEASIBLE
    with pytest.raises(InfeasibleError, match=r"can be kept, but not together .*constraints="):
        solution.allocation


def test_limits_that_cannot_hold_are_explained_even_with_own_constraints(pair):
    hasty = AllocationProblem(pair.strategies, pair.seconds, pair.loss, 1.0, deadline_seconds=1)
    solution = solve(hasty, Cvx(constraints=lambda v: [v.loss <= 1]))
    with pytest.raises(InfeasibleError, match="deadline_seconds >= 3"):
        solution.allocation


@pytest.fixture
def hard():
    """A multi-dimensional knapsack that no solver finishes in no time."""
    rng = np.random.default_rng(0)
    n = 300
    budgets = [Budget(f"r{k}_bytes", rng.random((n, 3)) * [0, 1, 1], n / 5) for k in range(3)]
    seconds, loss = rng.random((n, 3)) * [0, 1, 2], rng.random((n, 3))
    return AllocationProblem(MENU, seconds, loss, 1.0, budgets=budgets)


@pytest.mark.parametrize("backend", ["HIGHS", "SCIPY"])
def test_a_time_limit_without_an_answer_yields_none(hard, backend):
    solution = solve(hard, Cvx(backend, time_limit_seconds=1e-4))
    assert solution.status is Status.UNKNOWN
    with pytest.raises(SolverError, match="found no allocation"):
        solution.allocation


def test_a_gap_is_enough_for_an_answer_but_not_for_an_optimum(hard):
    solution = solve(hard, Cvx(gap=0.2))
    assert solution.status is Status.FEASIBLE
    assert 0 <= solution.gap <= 0.2


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.full((2, 2), 0.5), np.ones((2, 2)), None])
def test_values_that_are_no_allocation_are_refused(pair, values, monkeypatch):
    def pretend(program, **settings):
        program.variables()[0].value = None
        for variable in program.variables():
            if variable.shape == (2, 2):
                variable.save_value(values)
            else:
                variable.save_value(np.zeros(variable.shape))
        program._status = cp.USER_LIMIT

    monkeypatch.setattr(cp.Problem, "solve", pretend)
    answer = Cvx()(pair)
    assert answer.status is Status.UNKNOWN
    assert answer.choice is None
    assert "without a whole allocation" in answer.message


def test_an_answer_that_breaks_an_own_constraint_is_refused(pair, monkeypatch):
    def pretend(program, **settings):
        for variable in program.variables():
            whole = variable.shape == (2, 2)
            variable.save_value(np.array([[1.0, 0], [1, 0]]) if whole else np.zeros(()))
        program._status = cp.USER_LIMIT

    monkeypatch.setattr(cp.Problem, "solve", pretend)
    assert Cvx()(pair).choice.tolist() == [0, 0]
    assert Cvx(constraints=lambda v: [v.choice[1, 1] == 1])(pair).choice is None


def test_a_backend_that_is_not_installed_names_those_that_are(pair):
    with pytest.raises(
        ValueError, match=r"installed mixed-integer solver, \['HIGHS', .*'CLARABEL'"
    ):
        Cvx("CLARABEL")(pair)


def test_a_missing_cvxpy_says_how_to_install_it(pair, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == "cvxpy":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "cvxpy")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SolverError, match=re.escape("pip install 'fedhq[cvxpy]'")):
        Cvx()(pair)


def test_its_name_is_the_same_in_every_run():
    assert repr(Cvx(gap=0.1)) == "Cvx(backend=None, gap=0.1, time_limit_seconds=None)"
    assert repr(Cvx(constraints=limit_nothing)).endswith("constraints=limit_nothing)")


def limit_nothing(variables):
    return []


def test_a_constraint_may_be_any_callable(pair):
    bound = functools.partial(limit_nothing)
    assert repr(Cvx(constraints=bound)).endswith("constraints=limit_nothing)")
    assert Cvx(constraints=bound)(pair).status is Status.OPTIMAL
    assert "constraints=Nothing)" in repr(Cvx(constraints=Nothing()))


class Nothing:
    def __call__(self, variables):
        return []


def test_an_optimum_without_a_bound_is_not_claimed(pair, monkeypatch):
    monkeypatch.setattr(CvxModel, "bound", lambda self: -np.inf)
    assert Cvx()(pair).status is Status.FEASIBLE
