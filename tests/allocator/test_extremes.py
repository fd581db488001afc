"""Magnitudes and shapes at the edge: solved, or refused in words, and never wrong."""

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Budget,
    Coverage,
    Dual,
    Exact,
    Exhaustive,
    Milp,
    Status,
    solve,
)

MENU = ("skip", "ptq-w2a2", "qat-w2a2")
MAGNITUDES = [1e-300, 1e-100, 1e-30, 1e-12, 1e12, 1e17, 1e30, 1e100, 1e300]
SOLVERS = [Exact(), Dual(), Milp()]


def tables(clients=5, seed=0):
    rng = np.random.default_rng(seed)
    seconds = rng.uniform(0.5, 2, (clients, 3)) * [0, 1, 2]
    return seconds, rng.uniform(0.1, 0.3, (clients, 3)) * [3, 1, 0.1]


def assert_right(problem, solver):
    """As the enumeration says; `Dual` may know less, but nothing else."""
    expected, found = Exhaustive()(problem), solve(problem, solver)
    if expected.choice is None:
        assert not found.status.has_allocation
        return
    assert found.status is not Status.INFEASIBLE
    unit = abs(expected.bound) or 1.0
    if found.status is Status.OPTIMAL:
        assert found.allocation.objective / unit == pytest.approx(expected.bound / unit, rel=1e-6)
    if solver != Dual():
        assert found.status is Status.OPTIMAL
    assert found.bound / unit <= expected.bound / unit + 1e-6


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("table", ["seconds", "loss", "tradeoff", "both", "usage"])
def test_any_magnitude_of_a_table_is_solved(solver, magnitude, table):
    seconds, loss = tables()
    usage, limit = seconds.copy(), 4.0
    tradeoff = 5.0
    if table in ("seconds", "both"):
        seconds = seconds * magnitude
    if table in ("loss", "both"):
        loss = loss * magnitude
    if table == "tradeoff":
        tradeoff = 5.0 * magnitude
    if table == "usage":
        usage, limit = usage * magnitude, limit * magnitude
    problem = AllocationProblem(
        MENU, seconds, loss, tradeoff, budgets=[Budget("a_bytes", usage, limit)]
    )
    assert_right(problem, solver)


@pytest.mark.parametrize("solver", [Exact(), Dual()], ids=repr)
@pytest.mark.parametrize("clients", [3, 5000])
@pytest.mark.parametrize("level", [0.0, 1.0, 1e12, 1e17, 1e100])
def test_a_loss_that_is_the_same_whatever_is_done_changes_nothing(solver, clients, level):
    seconds, _ = tables(clients)
    problem = AllocationProblem(MENU, seconds, np.full(seconds.shape, level), 1.0)
    solution = solve(problem, solver)
    assert solution.status.has_allocation
    best = seconds[:, 1:].min() + level * clients  # one takes part, and all others skip
    assert solution.allocation.objective == pytest.approx(best, rel=1e-5)
    if solver == Exact():
        assert solution.status is Status.OPTIMAL
        assert solution.allocation.objective == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("magnitude", [1e-30, 1e-12, 1.0])
def test_a_cap_is_kept_where_the_losses_of_clients_are_next_to_nothing(solver, magnitude):
    seconds, loss = tables()
    labels = np.random.default_rng(0).integers(1, 9, (5, 3))
    term = Coverage(labels, (0, 0, 1), ((0, 0.4), (0.3, 0.1), (1, 0)))
    problem = AllocationProblem(MENU, seconds, loss * magnitude, 1.0, coverage=term, max_loss=0.2)
    assert_right(problem, solver)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("tradeoff", [1e-12, 1e-6, 1e6, 1e12])
def test_a_trade_off_may_all_but_forget_time_or_loss(solver, tradeoff):
    assert_right(AllocationProblem(MENU, *tables(), tradeoff), solver)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_a_choice_that_is_dear_beyond_measure_does_not_drown_the_others(solver):
    """What nobody would take still sets the scale of the numbers."""
    seconds, loss = tables()
    loss[:, 0] = 1e6
    assert_right(AllocationProblem(MENU, seconds, loss, 1.0), solver)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_where_everything_is_zero_anything_is_optimal(solver):
    solution = solve(AllocationProblem(MENU, np.zeros((4, 3)), np.zeros((4, 3)), 1.0), solver)
    assert solution.status is Status.OPTIMAL
    assert solution.allocation.objective == 0
    assert solution.bound == 0


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_a_single_client_takes_the_best_that_is_not_skip(solver):
    problem = AllocationProblem(MENU, [[0, 1, 2]], [[0, 0.5, 0]], 1.0)
    assert solve(problem, solver).allocation.choice.tolist() == [1]
    assert_right(problem, solver)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("clients", [1, 7])
def test_a_menu_of_one_strategy_leaves_no_choice(solver, clients):
    seconds = np.arange(1.0, clients + 1)[:, None]
    problem = AllocationProblem(("fp32",), seconds, seconds / 100, 1.0)
    solution = solve(problem, solver)
    assert solution.status is Status.OPTIMAL
    assert solution.allocation.objective == pytest.approx(clients + seconds.sum() / 100)
    budget = Budget("a_bytes", np.ones((clients, 1)), clients - 0.5)
    short = AllocationProblem(("fp32",), seconds, seconds / 100, 1.0, budgets=[budget])
    assert solve(short, solver).status in (Status.INFEASIBLE, Status.UNKNOWN)
    if solver != Dual():
        assert solve(short, solver).status is Status.INFEASIBLE


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_where_nobody_may_take_part_there_is_no_allocation(solver):
    only_skip = AllocationProblem(("skip",), np.zeros((3, 1)), np.ones((3, 1)), 1.0)
    forbidden = AllocationProblem(MENU, *tables(3), 1.0, allowed=[[True, False, False]] * 3)
    for problem in (only_skip, forbidden):
        assert solve(problem, solver).status is Status.INFEASIBLE


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize(
    "term",
    [
        Coverage([[3, 0], [2, 0], [4, 0]], (0, 0, 1), ((0, 0.4), (1, 0)), population=[9, 0]),
        Coverage([[0, 0], [0, 0], [0, 0]], (0, 0, 1), ((0, 0.4), (1, 0)), population=[0, 5]),
        Coverage([[1], [2], [3]], (0, 0, 0), ((0, 0.4), (1, 0))),
        Coverage([[1], [2], [3]], (0, 0.5, 1), ((0, 0.4),)),
        Coverage([[1], [2], [3]], (0, 0.5, 1), ((0, 0.0), (1, 0.0))),
        Coverage([[1], [2], [3]], (0, 0.5, 1), ((0, 0.4), (1e-9, 0.1), (1, 0))),
        Coverage([[1e12], [2], [3]], (0, 0.5, 1), ((0, 0.4), (1, 0)), carried=[5.0]),
    ],
    ids=["a class nobody has", "no labels", "nothing teaches", "one point", "zero", "steep",
         "more than all"],
)  # fmt: skip
def test_coverage_may_be_degenerate(solver, term):
    assert_right(AllocationProblem(MENU, *tables(3), 5.0, coverage=term), solver)
    assert_right(AllocationProblem(MENU, *tables(3), 5.0, coverage=term, max_loss=0.5), solver)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("limit", [0.0, 1e-12, 1e300])
def test_a_budget_may_be_nothing_or_everything(solver, limit):
    usage = np.ones((4, 3)) * [0, 1, 0]
    problem = AllocationProblem(MENU, *tables(4), 5.0, budgets=[Budget("a_bytes", usage, limit)])
    assert_right(problem, solver)
