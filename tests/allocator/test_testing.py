"""The suite for solvers finds what is wrong with a solver, and nothing where nothing is."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse  # noqa: F401  (pytester drops what a run loads, and numpy.fft loads only once)

from fedhq.allocator import Exhaustive, violations
from fedhq.allocator.instances import FAMILIES, SEPARABLE_FAMILIES
from fedhq.allocator.instances.hard_programs import HAIR
from fedhq.allocator.instances.references import small_cases
from fedhq.allocator.instances.variants import in_other_units, reordered, with_dominated_strategy
from fedhq.allocator.solvers.sweep import is_separable

pytest_plugins = ["pytester"]

LISTINGS = [*FAMILIES.values(), *SEPARABLE_FAMILIES.values()]
ANSWERS = "an_allocation_keeps_every_limit"
BOUNDS = "no_bound_exceeds_the_optimum"
INFEASIBLE = "infeasible_is_proven_and_never_guessed"
OPTIMA = "an_optimum_is_claimed_only_of_the_best"
ENUMERATION = "it_equals_the_enumeration"
UNCHANGED = "the_problem_is_not_changed"
SETTINGS = "its_settings_are_the_fields_of_a_frozen_dataclass"


@pytest.fixture
def promises(pytester):
    """`promises(solver, suite, name)`: what pytest makes of the promises of that name."""
    pytester.syspathinsert(Path(__file__).parent)

    def run(solver, suite, name, body="", seeds=2):
        pytester.makepyfile(
            f"""
            import pytest
            from fedhq.allocator.testing import {suite}
            from wrong_solvers import {solver}

            class TestIt({suite}):
                solver = {solver.split(",")[0]}()
                seeds = {seeds}
                medium_clients = (6,)
                {body}
            """
        )
        found = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-q", "-k", name)
        return found.parseoutcomes()

    return run


@pytest.mark.parametrize(
    ("solver", "suite", "name"),
    [
        ("ForgetsABudget", "SolverPromises", ANSWERS),
        ("ForgetsABudget", "ExactPromises", ENUMERATION),
        ("ForgetsOneClientsUsage", "ExactPromises", ENUMERATION),
        ("ForgetsTheCounts", "ExactPromises", ENUMERATION),
        ("ForgetsThatSomebodyTakesPart", "SolverPromises", INFEASIBLE),
        ("BoundTooHigh", "SolverPromises", BOUNDS),
        ("BoundTooHighOfAWorseChoice", "BoundPromises", BOUNDS),
        ("ClaimsTheSecondBest", "SolverPromises", OPTIMA),
        ("ClaimsAFeasibleOneIsOptimal", "SolverPromises", OPTIMA),
        ("ClaimsAFeasibleOneIsOptimal", "ExactPromises", ENUMERATION),
        ("ClaimsNoProof", "ExactPromises", ENUMERATION),
        ("AlwaysInfeasible", "SolverPromises", INFEASIBLE),
        ("NeverInfeasible", "SolverPromises", INFEASIBLE),
        ("ArgmaxOfNothing", "ExactPromises", ENUMERATION),
        ("OffByOneStrategy", "ExactPromises", ENUMERATION),
        ("KnowsNothing", "BoundPromises", "a_feasible_problem_gets_a_finite_bound"),
        ("KnowsNothing", "BoundPromises", "most_feasible_problems_get_an_allocation"),
        ("KnowsNothing", "ExactPromises", ENUMERATION),
        ("ChangesTheProblem", "SolverPromises", UNCHANGED),
        ("LeavesTheProblemWriteable", "SolverPromises", UNCHANGED),
        ("Nondeterministic", "SolverPromises", "the_same_problem_gets_the_same_answer"),
        ("RaisesKeyError", "SolverPromises", ANSWERS),
        ("RefusesWithoutAReason", "SolverPromises", ANSWERS),
        ("NotFrozen", "SolverPromises", SETTINGS),
        ("NoDataclass", "SolverPromises", SETTINGS),
        ("DependsOnTheOrder", "ExactPromises", "reordering_and_renaming_clients"),
        ("AbsoluteTolerance", "ExactPromises", "scaling_usage_and_limit"),
    ],
)
def test_the_promise_that_a_wrong_solver_breaks_fails(promises, solver, suite, name):
    assert promises(solver, suite, name).get("failed", 0) > 0


def test_another_solver_of_the_same_class_is_asked_itself(promises):
    body = """
                @pytest.fixture(autouse=True, params=[Right(), ForgetsABudget()], ids=["a", "b"])
                def the_solver(self, request):
                    type(self).solver = request.param
    """
    outcomes = promises("Right, ForgetsABudget", "ExactPromises", ENUMERATION, body)
    assert outcomes["passed"] >= len(FAMILIES)
    assert outcomes["failed"] > 0


def test_a_refusal_that_names_no_term_fails_and_one_that_does_passes(promises):
    name = "refuses_by_naming"
    takes = "takes = lambda self, problem: problem.coverage is None"
    assert promises("RefusesWithoutAReason", "SolverPromises", name, takes)["failed"] == 1
    assert promises("RefusesCoverage", "SolverPromises", name, takes)["passed"] == 1


def test_a_solver_that_takes_nothing_does_not_pass(promises):
    takes = "takes = lambda self, problem: False"
    assert promises("Right", "SolverPromises", "there_are_problems", takes)["failed"] == 1


def test_a_right_solver_breaks_no_promise(promises):
    outcomes = promises("Right", "ExactPromises", "test", seeds=1)
    assert outcomes["passed"] > 50
    assert "failed" not in outcomes


@pytest.mark.parametrize("family", LISTINGS)
@pytest.mark.parametrize("num_clients", [1, 2, 7, 3000])
def test_every_family_builds_every_size_and_the_same_problem_for_the_same_seed(family, num_clients):
    for seed in range(4):
        one, two = family(seed, num_clients), family(seed, num_clients)
        assert one.num_clients == num_clients
        assert one.has_goal
        assert one.seconds.tobytes() == two.seconds.tobytes()
        assert one.loss.tobytes() == two.loss.tobytes()


@pytest.mark.parametrize("family", SEPARABLE_FAMILIES.values())
def test_the_separable_variants_are_separable(family):
    assert all(is_separable(family(seed, 20)) for seed in range(20))


def test_the_cases_are_of_every_kind():
    problems = [case.problem() for case in small_cases(5) if case.family == "random"]
    feasible = [case.optimum() is not None for case in small_cases(5) if case.family == "random"]
    assert 0.4 < np.mean(feasible) < 0.9
    assert sum(p.coverage is not None for p in problems) > 20
    assert sum(len(p.budgets) == 2 for p in problems) > 5
    assert sum(p.switching_seconds is not None for p in problems) > 5
    assert sum(bool(p.counts) for p in problems) > 5
    assert sum(any(len(rows) > 1 for rows in p.group_rows().values()) for p in problems) > 5
    assert {p.time_weight for p in problems} == {0.0, 1.0}


@pytest.mark.parametrize("seed", range(12))
def test_the_twins_differ_by_a_hair_and_one_of_them_is_feasible(seed):
    out, within = (FAMILIES[f"{name} by a hair"](seed, 4) for name in ("infeasible", "feasible"))
    assert Exhaustive()(out).choice is None
    choice = Exhaustive()(within).choice
    assert choice is not None
    assert len(violations(out, choice)) == 1
    for name in ("seconds", "loss", "allowed"):
        assert (getattr(out, name) == getattr(within, name)).all()
    for name in ("deadline_seconds", "max_loss", "min_participation"):
        missed, kept = getattr(out, name) or 0.0, getattr(within, name) or 0.0
        assert missed == pytest.approx(kept, rel=3 * HAIR)


@pytest.mark.parametrize("seed", range(20))
def test_the_optimum_of_a_subset_sum_fills_the_budget_as_far_as_even_numbers_can(seed):
    problem = FAMILIES["subset sum"](seed, 5)
    used = problem.usage(Exhaustive()(problem).choice)[0]
    assert used == problem.budgets[0].limit - seed % 2


def test_the_variants_keep_what_they_promise_for_any_choice(make_problem):
    for seed in range(40):
        problem = make_problem(seed)
        choice = problem.allowed.argmax(axis=1)
        order = np.random.default_rng(seed).permutation(len(choice))
        value = problem.objective(choice)
        unit = 60 if problem.time_weight else 0.1
        scaled = in_other_units(problem, seconds=60, loss=0.1, usage=1e3)
        assert scaled.objective(choice) == pytest.approx(unit * value)
        assert len(violations(scaled, choice)) == len(violations(problem, choice))
        assert reordered(problem, order).objective(choice[order]) == pytest.approx(value)
        if not problem.counts:
            more = with_dominated_strategy(problem)
            assert more.objective(choice) == pytest.approx(value)
            worse = np.where(more.allowed[:, -1], len(problem.strategies), choice)
            assert more.objective(worse) >= value
