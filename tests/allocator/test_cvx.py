import builtins
import functools
import itertools
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Budget,
    Coverage,
    Cvx,
    Exhaustive,
    InfeasibleError,
    Milp,
    SolverError,
    Status,
    solve,
    violations,
)
from fedhq.allocator.solvers import cvx, cvx_apart
from fedhq.allocator.solvers.cvx_backends import BACKENDS, Found, Settings
from fedhq.allocator.solvers.cvx_process import process_kept
from fedhq.allocator.solvers.exhaustive import enumerate_choices
from fedhq.allocator.solvers.phases import recording

cp = pytest.importorskip("cvxpy")
MENU = ("skip", "ptq-w2a2", "qat-w2a2")
PACKAGES = {
    "HIGHS": "highspy",
    "SCIPY": "scipy",
    "SCIP": "pyscipopt",
    "CBC": "cylp",
    "GLPK_MI": "cvxopt",
    "GUROBI": "gurobipy",
    "COPT": "coptpy",
    "XPRESS": "xpress",
    "CPLEX": "cplex",
}
INSTALLED = [name for name, package in PACKAGES.items() if find_spec(package)]
FREE = [name for name in ("HIGHS", "SCIPY", "SCIP", "CBC", "GLPK_MI") if name in INSTALLED]
WITHOUT_BOUND = ("CBC", "GLPK_MI", "XPRESS")


def assert_equals_enumeration(problem, backend):
    expected, found = Exhaustive()(problem), Cvx(backend)(problem)
    if expected.choice is None:
        assert found.status is Status.INFEASIBLE
        return
    assert not violations(problem, found.choice)
    objective = problem.objective(found.choice)
    assert objective == pytest.approx(expected.bound, abs=1e-9)
    if backend in WITHOUT_BOUND:
        assert (found.status, found.bound) == (Status.FEASIBLE, -np.inf)
        assert "no bound that proves it" in found.message
    else:
        assert found.bound <= objective + 1e-6 * max(abs(objective), 1)


@pytest.mark.parametrize("backend", FREE)
def test_every_free_backend_finds_what_enumeration_finds(make_problem, backend):
    for seed in range(25):
        assert_equals_enumeration(make_problem(seed), backend)


@pytest.mark.slow
@pytest.mark.parametrize("backend", INSTALLED)
def test_every_backend_equals_enumeration_on_more_problems(make_problem, backend):
    for seed in range(25, 65):
        assert_equals_enumeration(make_problem(seed), backend)


@pytest.mark.parametrize("backend", [None, "SCIPY"])
def test_highs_and_scipy_prove_what_milp_proves(make_problem, backend):
    for seed in range(30):
        problem = make_problem(seed)
        expected, found = Milp()(problem), Cvx(backend)(problem)
        assert found.status is expected.status
        if found.choice is not None:
            objective = problem.objective(expected.choice)
            assert problem.objective(found.choice) == pytest.approx(objective)
            assert found.bound == pytest.approx(objective, abs=1e-6)


RULES = {
    "not two clients at once": (
        lambda v, p: [v.choice[0, -1] + v.choice[-1, 0] <= 1],
        lambda choice, p: not (choice[0] == len(p.strategies) - 1 and choice[-1] == 0),
    ),
    "little data on ptq": (
        lambda v, p: [p.example_shares @ v.strategy("ptq-w2a2") <= 0.3],
        lambda choice, p: p.example_shares @ _does(p, choice, "ptq-w2a2") <= 0.3 + 1e-9,
    ),
    "an even number on qat": (
        lambda v, p: [cp.sum(v.strategy("qat-w2a2")) == 2 * cp.Variable(integer=True)],
        lambda choice, p: _does(p, choice, "qat-w2a2").sum() % 2 == 0,
    ),
    "neighbours differ by little": (
        lambda v, p: [cp.abs(v.of("0", "qat-w2a2") - v.of("1", "qat-w2a2")) <= 0.5],
        lambda choice, p: len(set(_does(p, choice, "qat-w2a2")[:2])) == 1,
    ),
    "little mean time of participants": (
        lambda v, p: [cp.sum(cp.multiply((p.seconds - 1.5) * p.participates, v.choice)) <= 0],
        lambda choice, p: _times(p, choice).mean() <= 1.5 + 1e-9,
    ),
    "little loss and a short round": (
        lambda v, p: [v.loss <= 0.4, v.round_seconds <= 4],
        lambda choice, p: p.total_loss(choice) <= 0.4 + 1e-9 and p.round_seconds(choice) <= 4,
    ),
}


def _does(problem, choice, strategy):
    return np.array([str(problem.strategies[s]) == strategy for s in choice])


def _times(problem, choice):
    return problem.seconds[np.arange(len(choice)), choice][problem.participates[choice]]


@pytest.mark.parametrize("rule", RULES)
def test_own_constraints_equal_enumeration_with_a_plain_rule(make_problem, rule):
    constrain, holds = RULES[rule]
    seen = set()
    for seed in range(40):
        problem = make_problem(seed)
        if problem.num_clients < 2:
            continue
        kept = [c for c in enumerate_choices(problem, 10**6) if not violations(problem, c)]
        best = min((problem.objective(c) for c in kept if holds(c, problem)), default=None)
        free = min(map(problem.objective, kept), default=None)
        answer = Cvx(constraints=functools.partial(constrain, p=problem))(problem)
        seen.add("cannot" if best is None else "costs" if best > free else "free")
        if best is None:
            assert answer.status is Status.INFEASIBLE
            assert ("constraints=" in answer.message) == (free is not None)
        else:
            assert answer.status is Status.OPTIMAL
            assert holds(answer.choice, problem)
            assert problem.objective(answer.choice) == pytest.approx(best, abs=1e-6)
    assert seen == {"cannot", "costs", "free"}


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


@pytest.mark.parametrize("backend", FREE)
def test_a_time_limit_without_an_answer_yields_none(hard, backend):
    solution = solve(hard, Cvx(backend, time_limit_seconds=1e-4))
    assert solution.status is Status.UNKNOWN
    with pytest.raises(SolverError, match="found no allocation"):
        solution.allocation


@pytest.mark.slow
@pytest.mark.parametrize("backend", INSTALLED)
def test_what_a_time_limit_leaves_keeps_the_limits(hard, backend):
    answer = Cvx(backend, time_limit_seconds=1.0)(hard)
    assert answer.status is not Status.INFEASIBLE
    if answer.choice is not None:
        assert not violations(hard, answer.choice)
        assert answer.bound <= hard.objective(answer.choice) * (1 + 1e-6)


def test_a_process_of_its_own_gives_the_same_answer(make_problem):
    own = {"constraints": even_number_on_qat}
    for seed in (3, 8):
        problem = make_problem(seed)
        here = Cvx("SCIPY", **own)(problem)
        apart = Cvx("SCIPY", time_limit_seconds=60, **own)(problem)
        assert (apart.status, apart.bound) == (here.status, pytest.approx(here.bound))
        assert apart.choice.tolist() == here.choice.tolist()


def even_number_on_qat(variables):
    half = cp.Variable(integer=True)
    return [cp.sum(variables.strategy("qat-w2a2")) == 2 * half]


def children() -> set[str]:
    """Processes that this one has started and not waited for, those of other tests too."""
    lists = Path("/proc/self/task").glob("*/children")
    return {pid for file in lists for pid in file.read_text().split()}


def test_a_process_that_does_not_end_is_ended(hard, monkeypatch):
    before = children()
    monkeypatch.setattr(cvx_apart, "_LATEST", 0.0)
    monkeypatch.setattr(cvx_apart, "_AND_SECONDS", 0.2)
    answer = Cvx("SCIPY", time_limit_seconds=60)(hard)
    assert answer.status is Status.UNKNOWN
    assert "did not stop at its time limit" in answer.message
    assert children() <= before


def test_a_process_that_is_kept_starts_once_and_answers_as_the_backend_does_here(make_problem):
    starts, before = [], children()
    with process_kept():
        for seed in range(4):
            problem = make_problem(seed)
            with recording() as seconds:
                apart = Cvx("SCIPY", time_limit_seconds=60)(problem)
            here = Cvx("SCIPY")(problem)
            assert (apart.status, apart.bound) == (here.status, pytest.approx(here.bound))
            starts.append("start" in seconds)
    assert starts == [True, False, False, False]
    assert children() <= before


def test_a_process_that_was_ended_or_crashed_is_replaced_by_a_new_one(pair, hard, monkeypatch):
    def seconds(problem):
        with recording() as found:
            answer = Cvx("SCIPY", time_limit_seconds=60)(problem)
        return answer.choice is not None, "start" in found

    with process_kept():
        assert seconds(pair) == (True, True)
        with monkeypatch.context() as short:
            short.setattr(cvx_apart, "_LATEST", 0.0)
            short.setattr(cvx_apart, "_AND_SECONDS", 0.2)
            assert seconds(hard) == (False, False)
        assert seconds(pair) == (True, True)
        with monkeypatch.context() as broken:
            broken.setattr(cvx, "solve_apart", lambda p, n, s: cvx_apart.solve_apart(p, "NONE", s))
            assert seconds(pair) == (False, False)
        assert seconds(pair) == (True, True)


def test_what_backends_print_does_not_stand_between_the_answers(pair):
    """GLPK prints by itself; CBC, too, of a program without an allocation."""
    with process_kept():
        for backend in (*FREE, *FREE):
            assert Cvx(backend, time_limit_seconds=60)(pair).choice.tolist() == (
                Exhaustive()(pair).choice.tolist()
            )


def test_a_process_that_breaks_down_is_no_answer(pair, monkeypatch):
    monkeypatch.setattr(cvx, "solve_apart", lambda p, n, s: cvx_apart.solve_apart(p, "NONE", s))
    answer = Cvx("SCIPY", time_limit_seconds=60)(pair)
    assert answer.status is Status.UNKNOWN
    assert "failed with exit status 1: KeyError: 'NONE'" in answer.message


def test_a_gap_is_enough_for_an_answer_but_not_for_an_optimum(hard):
    solution = solve(hard, Cvx(gap=0.2))
    assert solution.status is Status.FEASIBLE
    assert 0 <= solution.gap <= 0.2


@pytest.mark.parametrize("backend", [name for name in FREE if BACKENDS[name].threads])
def test_the_number_of_threads_may_change_from_run_to_run(pair, backend):
    for threads in (1, 2, None, 1):
        assert Cvx(backend, threads=threads)(pair).choice.tolist() == [1, 0]
        assert Milp()(pair).choice.tolist() == [1, 0]  # HiGHS too, on one thread


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_is_told_every_setting_once(name):
    backend = BACKENDS[name]
    options = backend.options(Settings(0.1, 1e-9, 3 if backend.threads else None))
    named = options[backend.group] if backend.group else options
    assert named[backend.gap] == 0.1
    assert named[backend.seconds] > 0  # some read 0 as no limit
    assert named.get(backend.threads) == (3 if backend.threads else None)
    assert backend.seconds not in backend.options(Settings(0.1, None, None))
    assert len(named) == 2 + bool(backend.threads) + len(backend.fixed)


def pretending(values, status="optimal", bound=-np.inf):
    """A backend that puts values into the choice, and claims something of them."""

    def pretend(program, name, settings):
        for variable in program.variables():
            matrix = variable.shape == (2, 2)
            variable.save_value(values if matrix else np.zeros(variable.shape))
        return Found(status, bound)

    return pretend


NO_ALLOCATION = [*(np.full((2, 2), value) for value in (0, 0.5, 1, np.nan)), None]


@pytest.mark.parametrize("status", ["optimal", "user_limit", "optimal_inaccurate"])
@pytest.mark.parametrize("values", NO_ALLOCATION)
def test_values_that_are_no_allocation_are_refused(pair, values, status, monkeypatch):
    monkeypatch.setattr(cvx, "solve_here", pretending(values, status))
    answer = Cvx()(pair)
    assert (answer.status, answer.choice) == (Status.UNKNOWN, None)
    assert f"({status}) without a whole allocation" in answer.message


BEST, WORSE = np.array([[0.0, 1], [1, 0]]), np.array([[1.0, 0], [1, 0]])  # 4 and 5 s


@pytest.mark.parametrize(
    ("values", "status", "bound", "expected"),
    [
        (BEST, "optimal", 4.0, Status.OPTIMAL),
        (BEST + 1e-7, "optimal", 4.0, Status.OPTIMAL),
        (BEST, "optimal", 3.99, Status.FEASIBLE),
        (WORSE, "optimal", 4.0, Status.FEASIBLE),
        (BEST, "optimal", -np.inf, Status.FEASIBLE),
        (BEST, "optimal_inaccurate", 4.0, Status.FEASIBLE),
        (BEST, "user_limit", 4.0, Status.FEASIBLE),
        (BEST, "infeasible_inaccurate", 4.0, Status.FEASIBLE),
    ],
)
def test_an_optimum_is_claimed_only_if_a_bound_proves_it(
    pair, values, status, bound, expected, monkeypatch
):
    unit = 5 / 1e3  # of the objective: a thousandth of its largest term
    monkeypatch.setattr(cvx, "solve_here", pretending(values, status, bound / unit))
    solution = solve(pair, Cvx())
    assert solution.status is expected
    assert solution.bound == pytest.approx(bound)


def test_a_bound_above_the_answer_is_a_fault_of_the_backend(pair, monkeypatch):
    monkeypatch.setattr(cvx, "solve_here", pretending(BEST, "optimal", 1e6))
    with pytest.raises(SolverError, match="claims that no allocation is below"):
        solve(pair, Cvx())


def test_infeasibility_of_a_feasible_problem_is_a_fault_of_the_backend(pair, monkeypatch):
    monkeypatch.setattr(cvx, "solve_here", pretending(None, "infeasible"))
    with pytest.raises(SolverError, match="claims that no allocation exists"):
        solve(pair, Cvx())


def test_a_choice_that_breaks_a_limit_is_refused_whatever_is_claimed(pair, monkeypatch):
    limited = AllocationProblem(
        pair.strategies, pair.seconds, pair.loss, 10.0, budgets=[Budget("x_bytes", [[0, 1]] * 2, 0)]
    )
    monkeypatch.setattr(cvx, "solve_here", pretending(BEST, "optimal", 4.0))
    answer = Cvx()(limited)
    assert (answer.status, answer.choice) == (Status.UNKNOWN, None)
    assert "HIGHS's choice breaks a limit: x_bytes 1 exceeds" in answer.message


def test_an_answer_that_breaks_an_own_constraint_is_refused(pair, monkeypatch):
    monkeypatch.setattr(cvx, "solve_here", pretending(WORSE))
    assert Cvx()(pair).choice.tolist() == [0, 0]
    assert Cvx(constraints=lambda v: [v.choice[1, 1] == 1])(pair).choice is None


def highs_that(monkeypatch, method, do):
    interface = cp.reductions.solvers.conic_solvers.highs_conif.HIGHS
    monkeypatch.setattr(interface, method, do)


def test_a_backend_that_raises_is_no_answer(pair, monkeypatch):
    def fail(*arguments):
        raise cp.error.SolverError("out of licences")

    highs_that(monkeypatch, "solve_via_data", fail)
    answer = Cvx()(pair)
    assert (answer.status, answer.choice) == (Status.UNKNOWN, None)
    assert answer.message == "HIGHS failed or stopped without an answer: out of licences"


def test_an_error_status_is_no_answer(pair, monkeypatch):
    failure = cp.reductions.solution.failure_solution
    highs_that(monkeypatch, "invert", lambda *arguments: failure("solver_error"))
    assert "HIGHS failed" in Cvx()(pair).message


@pytest.mark.parametrize("backend", ["MOSEK", "KNITRO"])
def test_a_missing_licence_is_no_answer(pair, backend):
    if not find_spec(backend.lower()):
        pytest.skip("not installed")
    answer = Cvx(backend)(pair)
    assert answer.status in (Status.UNKNOWN, Status.OPTIMAL)  # with a licence


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (lambda v: None, "returned `None`. End it with `return"),
        (lambda v: v.loss <= 1, "returned `.*`. Put it into a list"),
        (lambda v: True, "returned `True`. Put it into a list"),
        (lambda v: v.loss, "Put it into a list"),
        (lambda v: [v.loss <= 1, True], "number 1 of .*lambda.*, `True`, is a bool, not a const"),
        (lambda v: [np.True_], "is a bool, not a constraint. Compare an expression"),
        (lambda v: [v.loss], "not a constraint"),
        (lambda v: [v.loss >= 0.1], "is not convex: its sides are constant and convex"),
        (lambda v: [v.choice[0, 0] * v.choice[1, 0] <= 0], "is not convex: .*z >= x [+] y - 1"),
        (lambda v: [cp.sum_squares(v.choice) <= 1], "is convex, but not linear by pieces"),
        (lambda v: [cp.SOC(v.round_seconds, v.choice[0])], "is a SOC. Use `==`"),
        (lambda v: [v.of("phone", "fp32") == 1], r"on the menu \['ptq-w2a2', 'qat-w2a2'\]"),
        (lambda v: [v.client("fridge")[0] == 1], r"one of \['phone', 'watch'\] \(2 in all\)"),
        (lambda v: [v.choice @ np.ones(3) <= 1], r"`choice` has shape .* = \(2, 2\)"),
    ],
)
def test_what_is_no_mixed_integer_linear_constraint_is_explained(pair, constraints, message):
    coverage = Coverage([[1], [2]], (0, 1), ((0, 0.5), (1, 0)))
    problem = AllocationProblem(
        pair.strategies, pair.seconds, pair.loss, 10.0, coverage=coverage, clients=pair.clients
    )
    with pytest.raises(ValueError, match=message):
        Cvx(constraints=constraints)(problem)


def test_clients_and_strategies_are_found_by_name(pair):
    for client, strategy in itertools.product(pair.clients, pair.strategies):
        for wanted in (strategy, str(strategy), f"{strategy}-u4"):  # the default, written out
            answer = Cvx(constraints=lambda v, c=client, s=wanted: [v.of(c, s) == 1])(pair)
            chosen = pair.strategies[answer.choice[pair.clients.index(client)]]
            assert chosen == strategy
    one = Cvx(constraints=lambda v: [v.client("phone")[0] == 1, v.strategy("qat-w2a2")[1] == 1])
    assert one(pair).choice.tolist() == [0, 1]


@pytest.mark.parametrize("backend", ["CLARABEL", "ECOS_BB", "highs"])
def test_a_backend_that_cannot_be_used_names_those_that_can(pair, backend):
    with pytest.raises(ValueError, match=r"installed mixed-integer solver, \['HIGHS', .*'CUOPT'"):
        Cvx(backend)(pair)


def test_threads_are_refused_where_they_cannot_be_set(pair):
    with pytest.raises(ValueError, match=r"`threads=None` must hold for SCIPY.*'HIGHS'"):
        Cvx("SCIPY", threads=1)(pair)
    with pytest.raises(ValueError, match="`threads >= 1` must hold, but got 0"):
        Cvx(threads=0)


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
    assert repr(Cvx(gap=0.1)) == "Cvx(backend=None, gap=0.1, time_limit_seconds=None, threads=None)"
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
