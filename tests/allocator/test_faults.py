"""Broken parts under `solve`: a status or a clear error, and never an optimum that is none."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from fedhq.allocator import Answer, Dual, Exact, Milp, SolverError, Status, solve
from fedhq.allocator import violations as broken_limits
from fedhq.allocator.instances.families import FAMILIES
from fedhq.allocator.instances.random_program import random_program
from fedhq.allocator.instances.references import enumerated
from fedhq.allocator.solvers import program, residual, search
from fedhq.allocator.solvers.ascent import Peak
from fedhq.allocator.solvers.highs import Outcome
from fedhq.allocator.solvers.recovery import Recovery
from fedhq.allocator.solvers.smooth import Smooth


@cache
def small_problems(count=60):
    """Random problems with their optima by enumeration, None where infeasible."""
    found = []
    for seed in range(count):
        problem = replace(random_program(seed, 2 + seed % 4), groups=None)
        if problem.has_goal:
            found.append((problem, enumerated(problem)))
    return found


@cache
def hard_fleet():
    """One where prices alone miss the optimum by a hundredth, with its optimum."""
    problem = FAMILIES["strongly correlated"](2, 25)
    return problem, solve(problem, Milp()).allocation.objective


def assert_honest(problem, solver, optimum):
    """No wrong claim; the solution, or None where `solve` caught the solver."""
    try:
        solution = solve(problem, solver)
    except SolverError:
        return None
    slack = 1e-6 * max(1.0, abs(optimum or 0.0))
    if solution.status is Status.INFEASIBLE:
        assert optimum is None
    if solution.status.has_allocation:
        assert optimum is not None
        assert broken_limits(problem, solution.allocation.choice) == ()
        assert solution.bound <= optimum + slack
    if solution.status is Status.OPTIMAL:
        assert solution.allocation.objective <= optimum + slack
    return solution


def patched(monkeypatch, fault):
    """Puts a fault where `Exact` and `Milp` call HiGHS; returns a list as long as the calls."""
    calls = []

    def changed(linear, settings, *start):
        calls.append(0)
        return fault(linear, settings, *start)

    monkeypatch.setattr(residual, "minimise", changed)
    monkeypatch.setattr(program, "minimise", changed)
    return calls


def crash(*_):
    raise SolverError("HiGHS broke down.")


def with_changes(make):
    """A fault that changes what HiGHS found."""
    real = residual.minimise

    def fault(linear, settings, *start):
        found = real(linear, settings, *start)
        return replace(found, **make(found, np.random.default_rng(len(linear.cost))))

    return fault


def nonsense(values, draw):
    return None if values is None else draw


FAULTS = {
    "raises": crash,
    "fractional": with_changes(lambda f, rng: {"values": nonsense(
        f.values, rng.random(np.shape(f.values)))}),
    "out of range": with_changes(lambda f, rng: {"values": nonsense(
        f.values, rng.normal(0, 1e9, np.shape(f.values)))}),
    "nan values": with_changes(lambda f, _: {"values": nonsense(
        f.values, np.full(np.shape(f.values), np.nan))}),
    "nothing chosen": with_changes(lambda f, _: {"values": nonsense(
        f.values, np.zeros(np.shape(f.values)))}),
    "nan bound": with_changes(lambda f, _: {"bound": np.nan}),
    "no bound": with_changes(lambda f, _: {"bound": -np.inf}),
    "no answer in time": with_changes(lambda f, _: {
        "outcome": Outcome.STOPPED, "values": None, "bound": -np.inf}),
    "a worse answer, its bound true": with_changes(lambda f, rng: {"values": nonsense(
        f.values, rng.permutation(f.values if f.values is not None else 0))}),
}  # fmt: skip


@pytest.mark.parametrize("solver", [Exact(), Milp()], ids=repr)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_of_highs_makes_a_wrong_claim(monkeypatch, solver, fault):
    problems = [*small_problems()[:25], hard_fleet()]
    calls = patched(monkeypatch, FAULTS[fault])
    for problem, optimum in problems:
        assert_honest(problem, solver, optimum)
    assert calls


@pytest.mark.parametrize("fault", FAULTS)
def test_exact_keeps_what_its_prices_give_whatever_highs_does(monkeypatch, fault):
    problem, least = hard_fleet()
    calls = patched(monkeypatch, FAULTS[fault])
    solution = assert_honest(problem, Exact(), least)
    assert calls
    assert solution is not None
    assert solution.status.has_allocation
    assert solution.bound == pytest.approx(least, rel=0.1)


def test_a_highs_that_breaks_down_is_named_in_the_message(monkeypatch):
    problem, _ = hard_fleet()
    patched(monkeypatch, crash)
    solution = solve(problem, Exact())
    assert solution.status is Status.FEASIBLE
    assert "HiGHS broke down" in solution.message


def test_what_was_never_found_is_not_proven_to_be_missing(monkeypatch):
    monkeypatch.setattr(search.Search, "offer", lambda *_: None)
    for problem, optimum in small_problems():
        if optimum is not None:
            assert_honest(problem, Exact(), optimum)


def test_a_bound_above_the_cost_of_its_own_answer_proves_nothing(monkeypatch):
    """Every open choice at once, and a bound that no answer reaches: HiGHS contradicts itself."""
    problem, least = hard_fleet()
    real = residual.minimise

    def lying(linear, settings, *start):
        found = real(linear, settings, *start)
        return replace(found, values=linear.whole.astype(float), bound=found.bound + 1e6)

    patched(monkeypatch, lying)
    solution = assert_honest(problem, Exact(), least)
    assert solution.status is Status.FEASIBLE
    assert "bound above the cost of its own answer" in solution.message


class Stubborn(Recovery):
    """Gives a choice that breaks every limit that can be broken."""

    def improve(self, in_pairs):
        self.choice[:] = np.asarray(self._relaxation.tables.sum(axis=0).argmax(axis=1))


def test_a_recovery_that_breaks_limits_is_never_believed(monkeypatch):
    monkeypatch.setattr(search, "Recovery", Stubborn)
    for problem, optimum in small_problems():
        solution = assert_honest(problem, Exact(), optimum)
        # HiGHS finds it all the same.
        assert solution.status is (Status.INFEASIBLE if optimum is None else Status.OPTIMAL)
        assert_honest(problem, Dual(), optimum)


@pytest.mark.parametrize("solver", [Exact(), Dual(), Exact(node_limit=1)], ids=repr)
def test_prices_that_are_not_numbers_are_never_a_proof(monkeypatch, solver):
    def lost(relaxation, threshold, start, precision, cutoff=np.inf):
        return Peak(np.full(relaxation.num_prices, np.nan), np.nan, 1.0, np.nan)

    monkeypatch.setattr(search, "ascend", lost)
    unproven = 0
    for problem, optimum in small_problems():
        solution = assert_honest(problem, solver, optimum)
        unproven += solution is None or solution.status is not Status.OPTIMAL
    assert unproven > 10


@pytest.mark.parametrize("solver", [Exact(), Dual()], ids=repr)
def test_poor_prices_cost_time_and_not_truth(monkeypatch, solver):
    rng = np.random.default_rng(0)

    def poor(relaxation, threshold, start, precision, cutoff=np.inf):
        prices = rng.lognormal(0, 3, relaxation.num_prices)
        smooth = Smooth.of(relaxation, prices, relaxation.within(threshold), 1.0)
        bound = smooth.bound + relaxation.time_cost(threshold)
        return Peak(prices, bound, 1.0, precision)

    monkeypatch.setattr(search, "ascend", poor)
    for problem, optimum in small_problems():
        solution = assert_honest(problem, solver, optimum)
        if solver == Exact():
            assert solution.status is (Status.INFEASIBLE if optimum is None else Status.OPTIMAL)


@dataclass(frozen=True)
class Crashing:
    def __call__(self, problem):
        return 1 / 0


@dataclass(frozen=True)
class Silent:
    def __call__(self, problem):
        return Answer(Status.UNKNOWN, message="no idea")


@dataclass(frozen=True)
class Lying:
    """Claims that its first allowed choice is the optimum, and costs nothing."""

    def __call__(self, problem):
        return Answer(Status.OPTIMAL, problem.allowed.argmax(axis=1), -1e9)


@dataclass(frozen=True)
class Refusing:
    def __call__(self, problem):
        raise ValueError("Refusing cannot handle `budgets`.")


@dataclass(frozen=True)
class Garbling:
    """Gives what is no choice at all."""

    choice: tuple[int, ...]

    def __call__(self, problem):
        return Answer(Status.FEASIBLE, np.array(self.choice))


REASONS = {
    Crashing(): "ZeroDivisionError",
    Silent(): "no idea",
    Lying(): "claims an optimum",
    Garbling((0,)): "`choice` must be 2 indices",
    Garbling((0, 2)): "`choice` must be 2 indices",
    Garbling((-1, 0)): "`choice` must be 2 indices",
}


@pytest.mark.parametrize("fault", REASONS, ids=repr)
def test_a_fallback_answers_where_a_solver_fails_and_the_solution_says_why(pair, fault):
    solution = solve(pair, fault, fallbacks=[Exact(), Crashing()])
    assert solution.status is Status.OPTIMAL
    assert solution.allocation.choice.tolist() == [1, 0]
    assert solution.solver == repr(Exact())
    assert repr(fault) in solution.message
    assert REASONS[fault] in solution.message
    assert repr(Exact()) in solution.message


def test_every_failure_before_the_answer_is_told_in_order(pair):
    faults = (Crashing(), Silent(), Lying())
    message = solve(pair, faults[0], [*faults[1:], Exact()]).message
    places = [message.index(repr(fault)) for fault in faults]
    assert places == sorted(places)
    assert all(REASONS[fault] in message for fault in faults)


def test_a_term_that_a_solver_cannot_express_is_no_failure_to_fall_back_from(pair):
    with pytest.raises(ValueError, match="Refusing cannot handle `budgets`"):
        solve(pair, Refusing(), [Exact()])


def test_a_solver_that_answers_needs_no_fallback(pair):
    alone, followed = solve(pair, Exact()), solve(pair, Exact(), [Crashing(), Lying()])
    assert followed.solver == alone.solver
    assert followed.message == alone.message
    assert followed.allocation.choice.tolist() == alone.allocation.choice.tolist()


def test_a_proof_that_there_is_nothing_needs_no_fallback(pair):
    impossible = replace(pair, deadline_seconds=2.0)
    solution = solve(impossible, Exact(), [Crashing()])
    assert solution.status is Status.INFEASIBLE
    assert "Crashing" not in solution.message


@pytest.mark.parametrize("last", [Crashing(), Lying()], ids=repr)
def test_the_last_failure_is_raised(pair, last):
    with pytest.raises(SolverError, match=REASONS[last]):
        solve(pair, Silent(), [Crashing(), last])
    with pytest.raises(SolverError, match=REASONS[last]):
        solve(pair, last)


def test_solvers_that_all_find_nothing_say_so(pair):
    solution = solve(pair, Crashing(), [Silent()])
    assert solution.status is Status.UNKNOWN
    assert "ZeroDivisionError" in solution.message
    with pytest.raises(SolverError, match="found no allocation"):
        solution.allocation


def test_a_crash_keeps_its_cause(pair):
    with pytest.raises(SolverError, match="crashed") as caught:
        solve(pair, Crashing())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
