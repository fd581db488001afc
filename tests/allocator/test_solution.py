import dataclasses
import itertools

import numpy as np
import pytest

from fedhq.allocator import (
    Allocation,
    AllocationProblem,
    Answer,
    Exhaustive,
    InfeasibleError,
    Milp,
    Solution,
    SolverError,
    Status,
    Sweep,
    Uniform,
    solve,
)


def curve_value(points, coverage):
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if coverage <= x1:
            return y0 + (y1 - y0) * (coverage - x0) / (x1 - x0)
    return points[-1][1]


def loss_by_hand(problem, choice):
    total = sum(problem.loss[i, s] for i, s in enumerate(choice))
    if (term := problem.coverage) is None:
        return total
    for c, population in enumerate(term.population):
        covered = term.carried[c]
        for i, s in enumerate(choice):
            covered += term.teaches[s] * term.label_counts[i, c] / max(population, 1e-300)
        weight = population / sum(term.population)
        total += weight * curve_value(term.loss_curve.tolist(), covered)
    return total


@pytest.mark.parametrize("seed", range(25))
def test_an_allocation_equals_the_loops_written_out(make_problem, seed):
    problem = make_problem(seed)
    choice = np.random.default_rng(seed).integers(0, len(problem.strategies), problem.num_clients)
    allocation = Allocation.of(problem, choice)
    seconds = [problem.seconds[i, s] for i, s in enumerate(choice)]
    switching = 0.0
    if problem.switching_seconds is not None:
        switching = sum(problem.switching_seconds[i, s] for i, s in enumerate(choice))
    usage = [sum(b.usage[i, s] for i, s in enumerate(choice)) for b in problem.budgets]
    loss = loss_by_hand(problem, choice)
    assert allocation.round_seconds == max(seconds)
    assert allocation.loss == pytest.approx(loss)
    assert allocation.usage.tolist() == pytest.approx(usage)
    assert allocation.objective == pytest.approx(
        problem.time_weight * max(seconds) + problem.loss_weight * loss + switching
    )
    assert allocation.counts().sum() == problem.num_clients
    if any(not problem.strategies[s].is_skip for s in choice):
        assert seconds[allocation.bottleneck] == max(seconds)
        assert max(seconds) not in seconds[: allocation.bottleneck] or max(seconds) == 0
    else:
        assert allocation.bottleneck is None


@pytest.mark.parametrize("choice", [[0], [0, 2], [0, -1], [0, 1, 0]])
def test_a_choice_that_does_not_fit_is_refused(pair, choice):
    with pytest.raises(ValueError, match=r"`choice` must be 2 indices in 0 ... 1"):
        Allocation.of(pair, np.array(choice))


def test_an_allocation_names_the_strategy_of_a_client(pair):
    allocation = Allocation.of(pair, np.array([1, 0]))
    assert str(allocation.strategy(0)) == "qat-w2a2"
    assert not allocation.choice.flags.writeable


def test_reading_the_allocation_of_an_infeasible_problem_says_what_to_relax(pair):
    hasty = AllocationProblem(pair.strategies, pair.seconds, pair.loss, deadline_seconds=1.0)
    solution = solve(hasty, Sweep())
    assert solution.status is Status.INFEASIBLE
    assert solution.gap == np.inf
    with pytest.raises(InfeasibleError, match="deadline_seconds >= 3"):
        solution.allocation


def test_reading_the_allocation_of_an_unsettled_problem_raises(pair):
    solution = solve(pair, lambda problem: Answer(Status.UNKNOWN, message="ran out of nodes"))
    with pytest.raises(SolverError, match="found no allocation: ran out of nodes"):
        solution.allocation


def test_a_solution_cannot_claim_a_status_without_its_allocation(pair):
    with pytest.raises(ValueError, match="a solution that is optimal must hold an allocation"):
        Solution(Status.OPTIMAL, 0.0, None, "x", 0.0, "", pair, None)


def test_an_optimum_that_breaks_a_limit_is_the_fault_of_the_solver(pair):
    tight = AllocationProblem(pair.strategies, pair.seconds, pair.loss, 1.0, deadline_seconds=3.0)
    wrong = np.array([1, 1])
    with pytest.raises(SolverError, match="claims an optimum that breaks a limit: round time 5"):
        solve(tight, lambda problem: Answer(Status.OPTIMAL, wrong))
    guess = solve(tight, lambda problem: Answer(Status.FEASIBLE, wrong))
    assert guess.status is Status.UNKNOWN
    assert "exceeds the deadline" in guess.message


def test_the_explanation_of_a_solver_that_knows_more_is_kept(pair):
    solution = solve(pair, lambda problem: Answer(Status.INFEASIBLE, message="own rule 7"))
    with pytest.raises(InfeasibleError, match="own rule 7"):
        solution.allocation


def test_a_proven_optimum_has_no_gap_and_names_its_solver(pair):
    solution = solve(pair, Milp())
    assert solution.gap == pytest.approx(0.0, abs=1e-9)
    assert solution.solver.startswith("Milp(gap=0.0")
    assert solution.solve_seconds > 0


LIARS = [
    (Answer(Status.FEASIBLE, np.array([1, 0]), 4.1), "claims that no allocation is below 4.1"),
    (Answer(Status.OPTIMAL, np.array([1, 0]), 4.1), "claims that no allocation is below 4.1"),
    (Answer(Status.OPTIMAL, np.array([1, 0]), 3.9), "proves no more than a bound of 3.9"),
    (Answer(Status.OPTIMAL, np.array([1, 0])), "proves no more than a bound of -inf"),
    (Answer(Status.FEASIBLE, np.array([1, 0]), np.nan), "NaN as its bound"),
    (Answer(Status.UNKNOWN, np.array([1, 0])), "claims `unknown`, but brings a choice"),
    (Answer(Status.INFEASIBLE, np.array([1, 0])), "claims `infeasible`, but brings a choice"),
    (Answer(Status.OPTIMAL), "claims `optimal`, but brings no choice"),
    (Answer(Status.INFEASIBLE), "that no allocation exists, but an allocation keeps every limit"),
]


@pytest.mark.parametrize(("answer", "words"), LIARS)
def test_a_claim_that_does_not_hold_is_the_fault_of_the_solver(pair, answer, words):
    with pytest.raises(SolverError, match=words):
        solve(pair, lambda problem: answer)


def test_infeasibility_is_not_believed_where_every_limit_can_be_kept(make_problem):
    for seed in range(40):
        problem = make_problem(seed)
        if Exhaustive()(problem).status is Status.INFEASIBLE:
            found = solve(problem, lambda problem: Answer(Status.INFEASIBLE))
            assert found.status is Status.INFEASIBLE
        else:
            with pytest.raises(SolverError, match="an allocation keeps every limit"):
                solve(problem, lambda problem: Answer(Status.INFEASIBLE))


def test_without_a_goal_there_is_nothing_to_prove(pair):
    aimless = dataclasses.replace(pair, tradeoff=None)
    solution = solve(aimless, Uniform("qat-w2a2"))
    assert solution.status is Status.FEASIBLE
    assert np.isnan(solution.allocation.objective)
    assert solution.gap == np.inf
