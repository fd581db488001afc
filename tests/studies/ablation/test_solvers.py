"""The solvers that an ablation compares keep their promises, and prove no more than is true."""

import builtins
from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    BlackBox,
    Budget,
    Exact,
    Milp,
    SolverError,
    Status,
    solve,
    violations,
)
from fedhq.allocator.instances import FAMILIES
from fedhq.allocator.instances.references import small_cases
from fedhq.allocator.solvers.highs import HighsSettings
from fedhq.allocator.solvers.phases import recording
from fedhq.allocator.solvers.program import Program
from fedhq.allocator.testing import BoundPromises, ExactPromises, SolverPromises
from fedhq.studies.ablation.solvers import library
from fedhq.studies.ablation.solvers.cp_sat import CpSat
from fedhq.studies.ablation.solvers.cp_sat_model import CpSatModel
from fedhq.studies.ablation.solvers.greedy import Greedy
from fedhq.studies.ablation.solvers.lp_rounding import LpRounding
from fedhq.studies.ablation.solvers.per_client import PerClient
from fedhq.studies.ablation.solvers.pulp_cbc import PuLp
from fedhq.studies.ablation.solvers.scipy_milp import ScipyMilp
from fedhq.studies.ablation.solvers.walk import Walk

EXACT = [ScipyMilp(), CpSat()]
HEURISTICS = [Greedy(), LpRounding()]


def kind(value):
    return type(value).__name__


class TestScipyMilp(ExactPromises):
    solver = ScipyMilp()
    limited = ScipyMilp(node_limit=1)
    seeds = 1
    medium_clients = ()


class TestGreedy(SolverPromises):
    solver = Greedy(tries=4)
    seeds = 1
    medium_clients = (20,)


class TestLpRounding(BoundPromises):
    solver = LpRounding(tries=4)
    seeds = 1
    medium_clients = (20,)


class TestPerClient(SolverPromises):
    solver = PerClient(trials=3)
    seeds = 1
    medium_clients = ()


@pytest.mark.slow
class TestPuLp(SolverPromises):
    """Exact by its word, which is no proof: see below."""

    solver = PuLp()
    limited = PuLp(node_limit=1)
    seeds = 1
    medium_clients = (20,)


@pytest.mark.slow
class TestCpSat(ExactPromises):
    """Where its strategies race, which of equal allocations they find is not promised."""

    solver = CpSat(deterministic=True)
    limited = CpSat(deterministic=True, effort=0.1)
    seeds = 1
    medium_clients = (20,)


@pytest.mark.parametrize("solver", EXACT, ids=kind)
def test_what_is_proven_equals_the_enumeration(solver):
    for case in small_cases(2):
        problem, best = case.problem(), case.optimum()
        solution = solve(problem, solver, explain_infeasible=False)
        assert solution.status is (Status.INFEASIBLE if best is None else Status.OPTIMAL), case
        if best is not None:
            assert solution.allocation.objective == pytest.approx(best, rel=1e-6, abs=1e-12), case


def test_what_cbc_calls_optimal_equals_the_enumeration_but_is_not_called_proven():
    for case in small_cases(2):
        best, solution = case.optimum(), solve(case.problem(), PuLp(), explain_infeasible=False)
        if best is None:
            assert solution.status is Status.INFEASIBLE, case
        else:
            assert (solution.status, solution.bound) == (Status.FEASIBLE, -np.inf), case
            assert "Optimal Solution Found, but it gives no bound" in solution.message
            assert solution.allocation.objective == pytest.approx(best, rel=1e-6, abs=1e-12), case


@pytest.mark.slow
def test_cp_sat_is_right_on_hundreds_of_problems():
    """Its presolve was not, by a third of the optimum: google/or-tools issue 5293."""
    for case in small_cases(15):
        best, solution = case.optimum(), solve(case.problem(), CpSat(), explain_infeasible=False)
        assert solution.status is (Status.INFEASIBLE if best is None else Status.OPTIMAL), case
        if best is not None:
            assert solution.allocation.objective == pytest.approx(best, rel=1e-6, abs=1e-12), case


@pytest.mark.parametrize("family", ["federated", "ties", "strongly correlated"])
def test_rounding_to_whole_numbers_loses_a_billionth(family):
    cp_model = pytest.importorskip("ortools.sat.python.cp_model")
    for seed in range(5):
        problem = FAMILIES[family](seed, 20)
        optimum = Milp()(problem).choice
        model = CpSatModel.of(cp_model, problem)
        for literals, strategy in zip(model.choice, optimum, strict=True):
            model.program.add(literals[int(strategy)] == 1)
        solver = cp_model.CpSolver()
        assert solver.solve(model.program) == cp_model.OPTIMAL
        assert (model.decode(solver) == optimum).all()
        objective, rounded = problem.objective(optimum), model.bound(solver.objective_value)
        assert objective * (1 - 1e-8) <= rounded <= objective * (1 + 1e-12)


@pytest.mark.parametrize("solver", [PuLp(time_limit_seconds=0.3), CpSat(time_limit_seconds=0.3)])
def test_what_a_time_limit_cuts_short_is_not_called_optimal(solver):
    problem = FAMILIES["subset sum"](0, 60)  # whose proof takes CBC minutes
    solution = solve(problem, solver, explain_infeasible=False)
    if solution.status is Status.OPTIMAL:
        assert solution.allocation.objective == pytest.approx(Exact()(problem).bound, rel=1e-6)
    assert solution.solve_seconds < 3


def test_a_node_limit_of_pulp_leaves_what_was_found_unproven():
    answer = PuLp(node_limit=1)(FAMILIES["subset sum"](0, 20))
    assert answer.status is Status.FEASIBLE
    assert answer.bound == -np.inf
    assert "Optimal" not in answer.message


def test_cp_sat_with_turns_gives_the_same_answer_twice():
    problem = FAMILIES["ties"](3, 30)
    answers = [CpSat(deterministic=True, effort=0.02)(problem) for _ in range(2)]
    assert answers[0].status is answers[1].status
    assert answers[0].bound == answers[1].bound
    assert (answers[0].choice == answers[1].choice).all()


@pytest.mark.parametrize("solver", HEURISTICS, ids=kind)
@pytest.mark.parametrize("family", ["federated", "strongly correlated", "ties", "one giant"])
def test_a_heuristic_comes_near_the_optimum_of_fleets(solver, family):
    for seed in range(3):
        problem = FAMILIES[family](seed, 30)
        optimum = solve(problem, Exact()).allocation.objective
        found = solve(problem, solver).allocation.objective
        assert optimum <= found * (1 + 1e-9)
        assert found <= 1.35 * optimum, (family, seed)


def test_the_bound_of_lp_rounding_is_the_optimum_of_scipys_relaxation():
    optimize = pytest.importorskip("scipy.optimize")
    for family in ("federated", "ties"):
        problem = FAMILIES[family](1, 25)
        program = Program.of(problem)
        linear = program.linear
        found = optimize.linprog(
            linear.cost,
            linear.rows,
            linear.limits,
            linear.equalities,
            linear.right,
            list(zip(linear.lower, linear.upper, strict=True)),
        )
        bound = LpRounding()(problem).bound
        assert bound == pytest.approx(found.fun * program.unit, rel=1e-7)
        assert bound <= Milp()(problem).bound + 1e-9


def test_what_a_walk_foresees_is_what_comes():
    for seed in range(12):
        problem = replace(FAMILIES["random"](seed, 6), groups=None)
        rng = np.random.default_rng(seed)
        choice = np.array([rng.choice(np.flatnonzero(row)) for row in problem.allowed])
        walk = Walk(problem, problem.allowed, choice)
        foreseen = walk.changes(np.arange(6))
        for client, strategy in np.argwhere(problem.allowed):
            other = choice.copy()
            other[client] = strategy
            cost = problem.loss_weight * problem.total_loss(other) + problem.switching(other)
            assert foreseen.cost[client, strategy] == pytest.approx(cost, abs=1e-12)
            other_walk = Walk(problem, problem.allowed, other)
            assert foreseen.missed[client, strategy] == pytest.approx(other_walk.missed, abs=1e-12)
            within = replace(problem, deadline_seconds=None)
            assert (other_walk.missed == 0) == (violations(within, other) == ())


def test_greedy_repairs_what_its_beginning_breaks():
    """The least uplink is skip, but two must take part; the cheapest two are the last."""
    problem = AllocationProblem(
        ("skip", "qat-w2a2"),
        [[0, 1]] * 4,
        [[0.1, 0]] * 4,
        deadline_seconds=1.0,
        budgets=[Budget("uplink_bytes", [[0, 9], [0, 9], [0, 2], [0, 3]], 6)],
        min_participation=0.5,
    )
    assert Greedy()(problem).choice.tolist() == [0, 0, 1, 1]


def test_categories_of_clients_are_the_known_bad_way():
    """60 trials over the policy find the optimum, 100 over the clients do not come near."""
    problem = FAMILIES["federated"](0, 60)
    optimum = solve(problem, Exact(gap=1e-4)).allocation.objective
    policy = solve(problem, BlackBox(trials=20, own_first=False)).allocation.objective
    clients = solve(problem, PerClient(trials=100, sampler="random"))
    assert policy < 1.01 * optimum
    assert not clients.status.has_allocation or clients.allocation.objective > 1.3 * optimum


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_every_sampler_finds_the_optimum_of_few_clients_the_same_way_twice(sampler):
    problem = FAMILIES["federated"](1, 4)
    solver = PerClient(trials=150, sampler=sampler)
    once, again = solve(problem, solver), solve(problem, solver)
    assert (once.allocation.choice == again.allocation.choice).all()
    assert once.allocation.objective <= 1.05 * solve(problem, Exact()).allocation.objective


def test_a_sampler_that_does_not_exist_is_refused():
    problem = FAMILIES["ties"](0, 3)
    with pytest.raises(ValueError, match=r"`sampler` must be one of \['tpe'"):
        PerClient(sampler="tbe")(problem)


@pytest.mark.parametrize("solver", [*EXACT, *HEURISTICS], ids=kind)
def test_its_phases_are_told_and_lie_within_the_call(solver):
    problem = FAMILIES["federated"](0, 10)
    with recording() as seconds:
        solution = solve(problem, solver)
    expected = {"solve"} if isinstance(solver, Greedy) else {"build", "solve"}
    assert set(seconds) == expected
    assert sum(seconds.values()) <= solution.solve_seconds


@pytest.mark.parametrize(
    ("package", "solver"), [("ortools", CpSat()), ("pulp", PuLp()), ("optuna", PerClient())]
)
def test_a_missing_library_is_named_with_its_mend(monkeypatch, package, solver):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(name, *arguments, **keywords)

    def missing(name):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(library, "import_module", missing)
    with pytest.raises(SolverError, match=r"not installed: pip install"):
        solve(FAMILIES["ties"](0, 3), solver)


@pytest.mark.parametrize(
    ("solver", "settings", "message"),
    [
        (CpSat, {"workers": 0}, "`workers >= 1`"),
        (CpSat, {"effort": 0.0}, "`effort > 0`"),
        (PuLp, {"gap": -1.0}, "`0 <= gap < inf`"),
        (ScipyMilp, {"node_limit": 0}, "`node_limit > 0`"),
        (Greedy, {"tries": 0}, "`tries >= 1`"),
        (LpRounding, {"time_limit_seconds": 0.0}, "`time_limit_seconds > 0`"),
        (PerClient, {"trials": 0}, "`trials >= 1`"),
    ],
)
def test_a_setting_out_of_range_is_refused(solver, settings, message):
    with pytest.raises(ValueError, match=message):
        solver(**settings)


def test_a_relaxation_that_highs_does_not_finish_gives_no_answer(monkeypatch):
    problem = FAMILIES["federated"](0, 30)
    monkeypatch.setattr(
        HighsSettings,
        "options",
        lambda self: {"output_flag": False, "simplex_iteration_limit": 0, "presolve": "off"},
    )
    assert LpRounding()(problem).status is Status.UNKNOWN
