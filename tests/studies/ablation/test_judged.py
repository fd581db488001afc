"""Cells judged against each other: the best known is best, and wrong claims are found."""

from dataclasses import replace

import numpy as np
import pytest
from ablation_cells import cell, failed, measured

from fedhq.allocator import Answer, Dual, Exact, Exhaustive, Milp, Status, Uniform, violations
from fedhq.allocator.instances import FAMILIES
from fedhq.studies.ablation.judged import Criterion, Reference, judge

SOLVERS = {"dual": Dual(), "exact": Exact(), "highs": Milp(), "uniform": Uniform("qat-w2a2")}


@pytest.fixture(scope="module")
def small():
    """Real cells of all families, small enough to be enumerated."""
    return measured({**SOLVERS, "all": Exhaustive()}, tuple(FAMILIES), (5,), (0, 1))


def test_the_best_known_is_what_enumeration_finds(small):
    truth = {c.problem: c for c in small if c.solver == "all"}
    judged = judge([c for c in small if c.solver != "all"])
    assert len(judged) == 2 * len(FAMILIES) * len(SOLVERS)
    for j in judged:
        best = truth[j.cell.problem]
        assert j.reference.is_proven
        assert j.reference.is_infeasible == (best.outcome == "infeasible")
        if best.objective is not None:
            assert j.reference.objective == pytest.approx(best.objective, rel=1e-6)
            if j.cell.objective is not None:
                wanted = (j.cell.objective - best.objective) / abs(best.objective)
                assert j.excess == pytest.approx(max(wanted, 0), abs=1e-6)


def test_of_honest_solvers_nobody_is_refuted(small):
    assert not [j.cell for j in judge(small) if j.is_wrong]


def test_exact_solvers_meet_every_criterion_and_a_rule_at_most_two(small):
    for j in judge(small):
        if j.cell.solver in ("exact", "highs", "all"):
            assert all(j.meets(criterion) for criterion in Criterion)
        if j.cell.solver == "uniform":
            assert not j.meets(Criterion.PROVEN)
            assert j.meets(Criterion.ANSWERED) == (j.cell.objective is not None)


class Liar:
    """Proves, it says, the worst of all allocations that keep the limits."""

    def __call__(self, problem) -> Answer:
        shape = (len(problem.strategies),) * problem.num_clients
        choices = (np.array(choice) for choice in np.ndindex(shape))
        kept = [choice for choice in choices if not violations(problem, choice)]
        worst = max(kept, key=problem.objective)
        return Answer(Status.OPTIMAL, worst, problem.objective(worst))


def test_a_wrong_proof_that_solve_cannot_see_is_refuted_by_another_solver():
    cells = measured({"liar": Liar(), "exact": Exact()}, ("federated", "all equal"), (5,), (0, 1))
    assert {c.outcome for c in cells} == {"optimal"}  # `solve` believes both
    judged = judge(cells)
    assert [j.cell.solver for j in judged if j.is_refuted] == ["liar"] * 4
    assert not any(j.meets(Criterion.PROVEN) for j in judged if j.cell.solver == "liar")
    assert all(j.meets(Criterion.PROVEN) for j in judged if j.cell.solver == "exact")


def test_a_claim_of_infeasibility_is_refuted_by_an_allocation_and_stands_without_one():
    found, claim = cell("a"), failed("b", outcome="infeasible")
    refuted = judge([found, claim])[1]
    assert (refuted.is_refuted, refuted.reference.is_infeasible) == (True, False)
    standing = judge([failed("a"), claim])[1]
    assert (standing.is_refuted, standing.reference.is_infeasible) == (False, True)
    assert standing.meets(Criterion.PROVEN)
    assert not judge([failed("a"), claim])[0].meets(Criterion.ANSWERED)


def test_a_bound_above_anothers_objective_is_refuted_and_does_not_prove():
    high = cell("high", outcome="feasible", objective=5.0, bound=4.5, gap=0.1)
    low = cell("low", outcome="feasible", objective=4.0, bound=3.0, gap=0.25)
    first, second = judge([high, low])
    assert (first.is_refuted, second.is_refuted) == (True, False)
    assert first.reference == Reference("ties, 2, 0", 4.0, 3.0, False)
    assert not first.reference.is_proven


def test_bounds_within_tolerances_are_no_contradiction():
    bound = cell("a", objective=4.0 + 3e-6, bound=4.0 + 3e-6)
    assert not judge([bound, cell("b")])[0].is_refuted
    assert judge([replace(bound, bound=4.0 + 5e-6), cell("b")])[0].is_refuted


def test_an_allocation_that_was_not_verified_counts_for_nothing():
    better = cell("a", objective=1.0, bound=None, outcome="wrong", verified=False)
    first, second = judge([better, cell("b")])
    assert second.reference.objective == 4.0
    assert (first.excess, first.is_wrong, first.meets(Criterion.ANSWERED)) == (None, True, False)


def test_same_clients_is_the_share_that_pairs_agree_on():
    choices = {"a": "0011", "b": "0010", "c": "1100", "worse": "0011"}
    cells = [cell(name, choice=choice, clients=4) for name, choice in choices.items()]
    cells[3] = replace(cells[3], objective=5.0, outcome="feasible", bound=None)
    pairs = {("a", "b"): 3 / 4, ("a", "c"): 0.0, ("b", "c"): 1 / 4}
    wanted = {s: sum(v for pair, v in pairs.items() if s in pair) / 2 for s in "abc"}
    assert {j.cell.solver: j.same_clients for j in judge(cells)} == {**wanted, "worse": None}


def test_an_answer_after_its_limit_counts_for_nothing_but_is_known():
    late, other = judge([cell("late", total=1.2), cell("b", objective=5.0, bound=3.0, gap=0.4)])
    assert late.is_late
    assert not any(late.meets(criterion) for criterion in Criterion)
    assert (other.is_late, other.excess, other.reference.objective) == (False, 0.25, 4.0)
    claims = judge([failed("late", outcome="infeasible", total=1.2), failed("b", total=2.0)])
    assert [(j.is_late, j.meets(Criterion.PROVEN)) for j in claims] == [
        (True, False), (False, False),
    ]  # fmt: skip
    assert claims[0].reference.is_infeasible


def test_limits_of_a_problem_share_what_is_best_known():
    short = cell("a", objective=5.0, outcome="feasible", bound=None, time_limit_seconds=0.1)
    assert judge([short, cell("a")])[0].excess == 0.25
