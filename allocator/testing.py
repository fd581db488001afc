"""The promises that a solver keeps, as pytest classes: test yours by subclassing one of them.

    from fedhq.allocator.testing import ExactPromises

    class TestMine(ExactPromises):
        solver = MySolver()

`SolverPromises` is what every solver keeps, `BoundPromises` adds what one keeps that proves a
bound, `ExactPromises` what one keeps that proves the optimum. Everything goes through `solve`,
which merges groups of clients before a solver sees them. The references are enumerations of small
problems, and certificates of larger ones; the problems come from `instances`.

Needs pytest, which `fedhq[test]` installs; nothing else of the package imports this module.
"""

# ruff: noqa: D102  (a promise is named as a sentence, which says it all)

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

from .check import violations
from .instances.families import FAMILIES
from .instances.references import (
    Case,
    a_term_named,
    arrays_of,
    assert_certified,
    assert_optimum,
    assert_same,
    best_choice,
    built,
    cases_of,
    enumerated,
    slack_of,
    small_cases,
)
from .instances.variants import (
    in_other_units,
    reordered,
    with_dominated_strategy,
    with_limit_times,
    with_limits_at,
)
from .problem import AllocationProblem
from .solution import Solution, Solver, Status
from .solve import solve

__all__ = ["BoundPromises", "Case", "ExactPromises", "SolverPromises"]

_OFTEN = 0.5
_BANDS = (1.0, 1 + 5e-7, 1 + 9e-7, 1 + 1.1e-6, 1 + 2e-6)  # around the tolerance of a limit
_ANSWERS: dict[tuple[type, Case], tuple[Solver, Solution]] = {}  # many promises look at the same


class SolverPromises:
    """What every solver keeps, whether it proves anything or not.

    Attributes:
        solver: The subclass gives it: a frozen dataclass whose fields are its settings.
        limited: The solver for problems of medium size, where no optimum is asked for: give one
            that stops after some nodes or iterations; `solver` itself where None.
        seeds: Small problems of each family and size class; more find more and take longer.
        medium_clients: Sizes of the problems that are too large for an enumeration.
    """

    solver: Solver
    limited: Solver | None = None
    seeds: int = 5
    medium_clients: tuple[int, ...] = (50, 100)

    def takes(self, problem: AllocationProblem) -> bool:
        """Whether the solver can express the problem; it must refuse others by a `ValueError`."""
        return True

    def cases(self, family: str | None = None) -> list[Case]:
        """The small problems that the solver takes, of one family or of all; skips if none."""
        every = small_cases(self.seeds)
        return _some([c for c in every if family in (None, c.family) and self.takes(built(c))])

    def answer(self, case: Case) -> Solution:
        """What `solve` says of a small problem; asked once for all promises that only read it."""
        solver, key = self.solver, (type(self), case)
        if key not in _ANSWERS or _ANSWERS[key][0] is not solver:  # a solver need not hash
            _ANSWERS[key] = (solver, solve(case.problem(), solver))
        return _ANSWERS[key][1]

    def solved(self, problem: AllocationProblem) -> Solution:
        """What `solve` says, asked anew; it need not explain what is infeasible a second time."""
        return solve(problem, self.solver, explain_infeasible=False)

    def test_its_settings_are_the_fields_of_a_frozen_dataclass(self) -> None:
        kind = type(self.solver)
        assert dataclasses.is_dataclass(kind), f"{kind.__name__} must be a dataclass"
        assert kind.__dataclass_params__.frozen, f"{kind.__name__} must be frozen"
        assert repr(self.solver).startswith(kind.__name__), "its repr must show its name"

    def test_there_are_problems_that_it_takes(self) -> None:
        optima = [case.optimum() for case in small_cases(self.seeds) if self.takes(built(case))]
        assert any(best is not None for best in optima), "`takes` leaves nothing feasible to test"
        assert any(best is None for best in optima), "`takes` leaves nothing infeasible to test"

    @pytest.mark.parametrize("family", FAMILIES)
    def test_an_allocation_keeps_every_limit(self, family: str) -> None:
        for case in self.cases(family):
            solution = self.answer(case)
            if solution.status.has_allocation:
                assert violations(case.problem(), solution.allocation.choice) == (), case

    @pytest.mark.parametrize("family", FAMILIES)
    def test_no_bound_exceeds_the_optimum(self, family: str) -> None:
        for case in self.cases(family):
            best, solution = case.optimum(), self.answer(case)
            if best is not None:
                slack = slack_of(case.problem(), best)
                assert solution.bound <= best + slack, f"{solution.bound} > {best} for {case}"

    @pytest.mark.parametrize("family", FAMILIES)
    def test_infeasible_is_proven_and_never_guessed(self, family: str) -> None:
        for case in self.cases(family):
            status = self.answer(case).status
            if status is Status.INFEASIBLE:
                assert case.optimum() is None, f"{case} has an allocation"
            if case.optimum() is None:
                assert not status.has_allocation, f"{case} has no allocation"

    def test_an_optimum_is_claimed_only_of_the_best(self) -> None:
        for case in self.cases():
            best, solution = case.optimum(), self.answer(case)
            if solution.status is Status.OPTIMAL:
                assert best is not None, f"{case} has no allocation"
                assert_same(case.problem(), solution.allocation.objective, best, case)

    def test_the_same_problem_gets_the_same_answer(self) -> None:
        first = [(case, self.answer(case)) for case in self.cases()]
        for case, once in reversed(first):  # in another order: nothing is carried over
            again = self.solved(case.problem())
            assert again.status is once.status, case
            assert again.bound == once.bound, case
            if once.status.has_allocation:
                assert (again.allocation.choice == once.allocation.choice).all(), case

    def test_the_problem_is_not_changed(self) -> None:
        for case in self.cases():
            problem = case.problem()
            self.solved(problem)
            pairs = zip(arrays_of(problem), arrays_of(case.problem()), strict=True)
            for after, before in pairs:
                assert not after.flags.writeable, f"an array of {case} was made writeable"
                assert (after == before).all(), f"an array of {case} was changed"

    def test_what_it_does_not_take_it_refuses_by_naming_a_term(self) -> None:
        for case in _some([c for c in small_cases(self.seeds) if not self.takes(built(c))]):
            with pytest.raises(ValueError, match=a_term_named()):
                solve(case.problem(), self.solver)

    def test_a_problem_without_a_goal_is_answered_or_refused_by_naming_the_tradeoff(self) -> None:
        for case in self.cases():
            problem = replace(case.problem(), tradeoff=None, deadline_seconds=None, max_loss=None)
            problem = replace(problem, switching_seconds=None)
            if not self.takes(problem):
                continue
            refused = None
            try:
                solve(problem, self.solver)
            except ValueError as error:
                refused = str(error)
            assert refused is None or "`tradeoff" in refused, f"{refused} names no tradeoff"

    @pytest.mark.parametrize("family", FAMILIES)
    def test_certificates_hold_at_medium_size(self, family: str) -> None:
        for case in self.medium_cases(family):
            problem = case.problem()
            solution = solve(problem, self.limited or self.solver, explain_infeasible=False)
            if case.family == "infeasible by a hair":
                assert not solution.status.has_allocation, case
            if case.family == "feasible by a hair":
                assert solution.status is not Status.INFEASIBLE, case
            if solution.status.has_allocation:
                assert_certified(problem, solution, case)

    def medium_cases(self, family: str) -> list[Case]:
        """The problems of medium size that the solver takes, of one family; skips if none."""
        return _some([c for c in cases_of(family, self.medium_clients) if self.takes(built(c))])


class BoundPromises(SolverPromises):
    """What a solver keeps that proves a bound, but perhaps not that its allocation is best."""

    def test_a_feasible_problem_gets_a_finite_bound(self) -> None:
        for case in self.cases():
            if case.optimum() is not None:
                bound = self.answer(case).bound
                assert np.isfinite(bound), f"the bound is {bound} for {case}"

    def test_the_optimum_is_within_the_gap_that_is_reported(self) -> None:
        for case in self.cases():
            best, solution = case.optimum(), self.answer(case)
            if solution.status.has_allocation and best is not None:
                within = solution.gap * abs(solution.allocation.objective)
                within += slack_of(case.problem(), best)
                excess = solution.allocation.objective - best
                assert excess <= within, f"{solution.gap} for {case}"

    def test_most_feasible_problems_get_an_allocation(self) -> None:
        feasible = [case for case in self.cases() if case.optimum() is not None]
        answered = [self.answer(case).status.has_allocation for case in feasible]
        assert np.mean(answered) > _OFTEN, f"{sum(answered)} of {len(answered)} were answered"


class ExactPromises(SolverPromises):
    """What a solver keeps that proves the optimum."""

    @pytest.mark.parametrize("family", FAMILIES)
    def test_it_equals_the_enumeration(self, family: str) -> None:
        for case in self.cases(family):
            assert_optimum(case.problem(), self.answer(case), case.optimum(), case)

    @pytest.mark.parametrize(
        ("term", "factor"),
        [("budgets", 1.1), ("budgets", 2.0), ("deadline_seconds", 1.1), ("deadline_seconds", 2.0),
         ("max_loss", 1.1), ("max_loss", 2.0), ("min_participation", 0.5)],
    )  # fmt: skip
    def test_a_looser_limit_never_hurts(self, term: str, factor: float) -> None:
        for case in _some([c for c in self.cases() if getattr(built(c), term)]):
            problem, best = case.problem(), case.optimum()
            if best is not None:
                solution = self.solved(with_limit_times(problem, term, factor))
                assert solution.status is Status.OPTIMAL, case
                assert solution.allocation.objective <= best + slack_of(problem, best), case

    def test_reordering_and_renaming_clients_changes_nothing(self) -> None:
        for case in self.cases():
            problem = case.problem()
            order = np.random.default_rng(case.seed).permutation(problem.num_clients)
            self.assert_optimal(reordered(problem, order), case.optimum(), case)

    @pytest.mark.parametrize("factor", [1e-9, 1e9])
    def test_scaling_usage_and_limit_together_changes_nothing(self, factor: float) -> None:
        for case in self.cases_in_usual_units():
            problem = case.problem()
            if problem.budgets:
                other = in_other_units(problem, usage=factor)
                self.assert_optimal(other, case.optimum(), case)

    @pytest.mark.parametrize("factor", [1e-6, 60.0, 1e6])
    def test_scaling_all_seconds_scales_the_objective(self, factor: float) -> None:
        for case in self.cases_in_usual_units():
            problem, best = case.problem(), case.optimum()
            unit = factor if problem.time_weight else 1.0
            other = in_other_units(problem, seconds=factor)
            self.assert_optimal(other, None if best is None else best * unit, case)

    def cases_in_usual_units(self) -> list[Case]:
        """Without those whose units are extreme: twice that would be beneath any tolerance."""
        return [case for case in self.cases() if case.family != "extreme scales"]

    @pytest.mark.parametrize("loss", [1e-3, 1e-5, 1e-7])
    @pytest.mark.parametrize("seconds", [1e-6, 1.0, 1e6])
    def test_it_is_exact_in_any_units(self, loss: float, seconds: float) -> None:
        for case in self.cases("random"):
            keep = case.seed % 3 == 0  # then one term of the objective drowns the other
            problem = in_other_units(case.problem(), seconds=seconds, loss=loss, keep_tradeoff=keep)
            self.assert_optimal(problem, enumerated(problem), case)

    def test_a_dominated_strategy_changes_nothing(self) -> None:
        for case in self.cases():
            problem = case.problem()
            if not problem.counts:
                other = with_dominated_strategy(problem)
                self.assert_optimal(other, case.optimum(), case)

    @pytest.mark.parametrize("factor", _BANDS)
    def test_it_agrees_on_what_is_within_the_tolerance_of_a_limit(self, factor: float) -> None:
        for case in self.cases("random"):
            choice = best_choice(case.problem())
            if choice is None:
                continue
            problem = with_limits_at(case.problem(), choice, factor)
            if self.takes(problem):
                self.assert_optimal(problem, enumerated(problem), case)

    def assert_optimal(
        self, problem: AllocationProblem, expected: float | None, case: Case
    ) -> None:
        """Asserts that the solver proves an optimum, or that there is none where None."""
        assert_optimum(problem, self.solved(problem), expected, case)


def _some(cases: list[Case]) -> list[Case]:
    """The cases; skips the test that would check nothing."""
    if not cases:
        pytest.skip("the solver's `takes` leaves no case of this kind")
    return cases
