"""`BlackBox` finds what training tells, with few measurements, and never less than is known."""

import builtins
import itertools
import logging
from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import (
    Allocation,
    AllocationProblem,
    BlackBox,
    Count,
    Coverage,
    DeviceProfile,
    Exact,
    Goal,
    HybridAllocator,
    SolverError,
    Status,
    StepProfile,
    Uniform,
    analyse_hardware,
    parse_menu,
    solve,
    violations,
)
from fedhq.allocator.instances import FAMILIES, SEPARABLE_FAMILIES
from fedhq.allocator.solvers.exhaustive import enumerate_choices
from fedhq.allocator.solvers.policy import Policy, PolicySpace
from fedhq.allocator.testing import SolverPromises

optuna = pytest.importorskip("optuna")
MENU = ("skip", "ptq-w2a2", "qat-w2a2")


class TestBlackBox(SolverPromises):
    solver = BlackBox(trials=2)
    seeds = 1
    medium_clients = ()


@pytest.mark.slow
class TestBlackBoxThatKnowsNothing(SolverPromises):
    solver = BlackBox(trials=3, own_first=False)
    seeds = 1
    medium_clients = (50,)


def fleet(seed, tradeoff=20.0, skip=0.3):
    """Six clients of rising times and mixed labels; `skip` is what everybody's absence costs."""
    rng = np.random.default_rng(seed)
    step = np.geomspace(1, 4.5, 6) * rng.uniform(0.9, 1.1, 6)
    labels = rng.integers(1, 20, (6, 3))
    share = labels.sum(axis=1, keepdims=True) / labels.sum()
    return AllocationProblem(
        MENU,
        step[:, None] * np.array([0.0, 1.0, 1.4]),
        share * np.array([skip, 0.02, 0.02]),
        tradeoff,
        coverage=Coverage(labels, (0, 0, 1), ((0, 0.4), (0.3, 0.1), (0.7, 0))),
    )


def slowest_spoils(problem):
    """The model's loss, and a fifth more for each of the two slowest clients that takes part."""

    def measure(allocation):
        spoilt = problem.participates[allocation.choice[-2:]].sum()
        return problem.total_loss(allocation.choice) + 0.2 * spoilt

    return measure


def coverage_is_worth_little(problem):
    """A model that believes too much in coverage: training finds a fifth of that term."""
    term = problem.coverage

    def measure(allocation):
        covered = term.loss(term.covered(allocation.choice))
        return problem.total_loss(allocation.choice) - 0.8 * covered

    return measure


def loss_is_worth_more(problem):
    """Training finds three times the loss that the model predicts."""
    return lambda allocation: 3 * problem.total_loss(allocation.choice)


def measured_objective(problem, measure, choice):
    choice = np.array(choice)
    loss = measure(Allocation.of(problem, choice))
    return problem.round_seconds(choice) + problem.tradeoff * loss


def best_of(program, choices):
    """The choice of least objective that ends before the deadline, by enumeration."""
    table, rows = np.array(list(choices)), np.arange(program.num_clients)
    seconds = program.seconds[rows, table].max(axis=1)
    covered = np.einsum("ki,ic->kc", program.coverage.teaches[table], program.coverage.share)
    loss = program.loss[rows, table].sum(axis=1)
    loss = loss + program.coverage.phi(covered) @ program.coverage.class_weights
    late = seconds > (program.deadline_seconds or np.inf)
    return table[np.where(late, np.inf, seconds + program.tradeoff * loss).argmin()]


@pytest.mark.parametrize(
    ("mistake", "tradeoff", "skip"),
    [(slowest_spoils, 20, 0.3), (coverage_is_worth_little, 5, 0.1), (loss_is_worth_more, 5, 0.3)],
)
@pytest.mark.parametrize("seed", range(3))
def test_it_comes_within_two_percent_of_the_best_measured_policy(mistake, tradeoff, skip, seed):
    problem = fleet(seed, tradeoff, skip)
    measure, space = mistake(problem), PolicySpace.of(problem)
    every = {tuple(c): None for c in enumerate_choices(problem, 10_000) if c.any()}
    policies = itertools.product(np.geomspace(*space.tradeoffs, 9), space.times, (0.25, 1, 4))
    programs = [Policy(*policy).program(problem) for policy in policies]
    reached = {tuple(best_of(program, every)) for program in programs}
    best = min(measured_objective(problem, measure, c) for c in reached)
    own = measured_objective(problem, measure, best_of(problem, every))
    assert best < 0.95 * own, "the model's own answer is as good: the test would show nothing"
    found = BlackBox(measure, trials=60, seed=seed)(problem).choice
    optimum = min(measured_objective(problem, measure, c) for c in every)
    assert optimum <= measured_objective(problem, measure, found) <= 1.02 * best


@pytest.mark.parametrize("own_first", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_the_models_loss_is_within_a_percent_of_the_optimum_in_60_trials(own_first, seed):
    problem = SEPARABLE_FAMILIES["federated"](seed, 100)
    optimum = solve(problem, Exact()).allocation.objective
    found = solve(problem, BlackBox(seed=seed, own_first=own_first)).allocation.objective
    assert optimum * (1 - 1e-9) <= found <= 1.01 * optimum


@pytest.mark.slow
@pytest.mark.parametrize("family", ["federated", "one giant", "ties"])
def test_so_it_is_for_the_whole_program_of_100_clients(family):
    problem = FAMILIES[family](1, 100)
    optimum = solve(problem, Exact(gap=1e-4)).allocation.objective
    found = solve(problem, BlackBox(seed=1, own_first=False)).allocation.objective
    assert found <= 1.01 * optimum


@pytest.mark.parametrize(
    "limits", [{"deadline_seconds": 3.0}, {"max_loss": 0.3}], ids=["least loss", "least time"]
)
def test_goals_without_a_tradeoff_are_reached_too(limits):
    for seed in range(3):
        problem = replace(fleet(seed), tradeoff=None, **limits)
        optimum = solve(problem, Exact()).allocation.objective
        for own_first in (True, False):
            found = solve(problem, BlackBox(seed=seed, own_first=own_first)).allocation
            assert found.objective <= optimum * 1.01 + 1e-9


def test_every_different_allocation_is_measured_once():
    problem, seen = fleet(0), []

    def measure(allocation):
        seen.append(allocation.choice.tobytes())
        assert not violations(problem, allocation.choice)
        return problem.total_loss(allocation.choice)

    answer = BlackBox(measure, trials=40)(problem)
    assert 1 < len(seen) < 40
    assert len(set(seen)) == len(seen)
    assert f"{len(seen)} measurements in 40 trials" in answer.message


def test_a_maximum_loss_holds_for_what_is_measured():
    """Three times the predicted loss must stay below two and a half times the model's own."""
    own = fleet(1, 5).total_loss(Exact()(fleet(1, 5)).choice)
    problem = replace(fleet(1, 5), max_loss=2.5 * own)
    answer = BlackBox(loss_is_worth_more(problem), trials=40)(problem)
    assert answer.status is Status.FEASIBLE
    assert 3 * problem.total_loss(answer.choice) <= 2.5 * own


def test_where_no_measured_loss_is_low_enough_nothing_is_answered():
    problem = replace(fleet(1), max_loss=0.3)
    solution = solve(problem, BlackBox(lambda _: 0.9, trials=5))
    assert solution.status is Status.UNKNOWN
    with pytest.raises(SolverError, match=r"within `max_loss`, the least is 0\.9"):
        solution.allocation


@pytest.mark.parametrize("own_first", [True, False])
def test_an_infeasible_problem_is_called_so(own_first):
    problem = replace(fleet(0), counts=(Count(["qat-w2a2"], at_least=3),))
    allowed = problem.allowed.copy()
    allowed[:4, 2] = False
    problem = replace(problem, allowed=allowed)
    assert BlackBox(trials=3, own_first=own_first)(problem).status is Status.INFEASIBLE


def test_deadlines_that_cannot_be_kept_cost_no_trial():
    """All but the last of a hundred times leave the giant out, who must take part."""
    problem = FAMILIES["one giant"](1, 40)
    solution = solve(problem, BlackBox(trials=8, own_first=False))
    assert solution.status is Status.FEASIBLE


def test_a_loss_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="`measure` must return a finite loss, but"):
        solve(fleet(0), BlackBox(lambda _: float("nan"), trials=2))


def test_a_measurement_that_fails_is_no_answer():
    def measure(allocation):
        raise RuntimeError("out of memory")

    with pytest.raises(SolverError, match="crashed: RuntimeError: out of memory"):
        solve(fleet(0), BlackBox(measure, trials=2))


def test_the_inner_solver_decides_per_client():
    problem = fleet(0)
    answer = BlackBox(trials=5, inner=Uniform("ptq-w2a2"))(problem)
    assert answer.choice.tolist() == [1] * 6
    assert "1 measurements in 5 trials" in answer.message


def test_no_trial_begins_after_the_time_limit():
    answer = BlackBox(trials=10_000, time_limit_seconds=0.2)(fleet(0))
    trials = int(answer.message.rpartition(" in ")[2].split()[0])
    assert 1 <= trials < 10_000


def test_the_same_seed_gives_the_same_trials_whoever_else_uses_optuna():
    problem, runs = fleet(2), []
    for _ in range(2):
        seen = []

        def measure(allocation, seen=seen):
            seen.append(allocation.choice.tolist())
            return problem.total_loss(allocation.choice)

        BlackBox(measure, trials=25, seed=3)(problem)
        runs.append(seen)
        optuna.create_study().ask().suggest_float("x", 0, 1)
    assert runs[0] == runs[1]


def test_optunas_log_is_neither_written_nor_changed(capfd):
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.DEBUG)
    try:
        BlackBox(trials=3)(fleet(0))
        assert optuna.logging.get_verbosity() == logging.DEBUG
    finally:
        optuna.logging.set_verbosity(before)
    assert capfd.readouterr().err == ""


def test_an_fl_code_base_may_decide_by_what_training_tells():
    menu = parse_menu(["ptq-w2a2", "qat-w2a2"])
    profile = StepProfile("toy", 32, menu, np.array([0.01, 0.02]), np.zeros(2), "by hand")
    devices = [DeviceProfile(f"d{k}", k, 1e6, 1e6) for k in (1, 2, 9)]
    hardware = analyse_hardware(devices, [10] * 3, profile, [0, 0], 0)
    asked = []

    def measure(allocation):
        asked.append(allocation)
        return 0.5 if allocation.choice[2] else 0.1  # QAT on the slowest spoils all

    allocator = HybridAllocator(
        menu,
        hardware,
        "qat-w2a2",
        BlackBox(measure, trials=30),
        num_examples=[100, 100, 900],
        goal=Goal(tradeoff=100.0),
    )
    planned = allocator.plan(1)
    assert allocator.note == ""
    assert {len(a.choice) for a in asked} == {3}
    assert planned.choice[2] == 0
    assert Exact()(allocator.problem()).choice[2] == 1


def test_a_missing_optuna_is_named_with_its_mend(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.partition(".")[0] == "optuna":
            raise ImportError("No module named 'optuna'")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SolverError, match=r"BlackBox needs Optuna 5, .*: pip install optuna"):
        solve(fleet(0), BlackBox())


def test_its_repr_names_the_measure():
    shown = repr(BlackBox(slowest_spoils, trials=2))
    assert shown.startswith("BlackBox(measure=slowest_spoils, trials=2, seed=0")


@pytest.mark.parametrize("settings", [{"trials": 0}, {"time_limit_seconds": 0.0}])
def test_a_setting_out_of_range_is_refused(settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))} >"):
        BlackBox(**settings)
