from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Budget,
    CoarseRule,
    Coverage,
    DataOnly,
    Exhaustive,
    HardwareOnly,
    Random,
    Status,
    Strategy,
    Uniform,
    solve,
)

MENU = ("skip", "ptq-w2a2", "qat-w2a2")
PTQ, QAT = 1, 2
CURVE = ((0, 0.4), (0.5, 0.1), (1, 0))


def cohort(**changes):
    """Five clients, the first three fast; the last two hold the second class."""
    settings = {
        "strategies": MENU,
        "seconds": [[0, 1, 2], [0, 1, 3], [0, 2, 4], [0, 4, 5], [0, 4, 6]],
        "loss": np.tile([0.2, 0, 0], (5, 1)),
        "tradeoff": 20.0,
        "coverage": Coverage([[9, 0], [9, 1], [5, 5], [0, 9], [1, 20]], (0, 0, 1), CURVE),
    } | changes
    return AllocationProblem(**settings)


EVERY_RULE = [
    Uniform("qat-w4a4"),
    Random("qat-w4a4", "ptq-w2a2", 0.5, 0),
    Random("qat-w2a2", "ptq-w4a4", 0.5, 0),
    HardwareOnly("qat-w2a2", "fp32"),
    DataOnly("qat-w4a4", "ptq-w2a2", 0.5),
    CoarseRule("qat-w4a4", "ptq-w2a2"),
]


@pytest.mark.parametrize("rule", EVERY_RULE, ids=repr)
def test_a_strategy_outside_the_menu_names_the_menu(rule):
    with pytest.raises(
        ValueError, match=r"in the menu \['skip', 'ptq-w2a2', 'qat-w2a2'\], but got"
    ):
        rule(cohort())


@pytest.mark.parametrize("share", [-0.1, 1.1, np.nan])
@pytest.mark.parametrize("rule", [DataOnly, lambda *a: Random(*a, seed=0)])
def test_a_share_outside_zero_and_one_is_refused(rule, share):
    with pytest.raises(ValueError, match="share"):
        rule("qat-w2a2", "ptq-w2a2", share)


def test_text_and_strategy_mean_the_same():
    by_text, by_value = Uniform("qat-w2a2"), Uniform(Strategy.parse("qat-w2a2"))
    assert by_text(cohort()).choice.tolist() == by_value(cohort()).choice.tolist() == [QAT] * 5


def test_a_client_not_allowed_the_strategy_takes_its_fastest_that_takes_part():
    allowed = np.ones((5, 3), dtype=bool)
    allowed[1, QAT] = False
    allowed[2, 1:] = False
    assert Uniform("qat-w2a2")(cohort(allowed=allowed)).choice.tolist() == [2, 1, 0, 2, 2]
    allowed[0, PTQ] = False
    assert Uniform("ptq-w2a2")(cohort(allowed=allowed)).choice.tolist() == [2, 1, 0, 1, 1]


def test_uniform_skip_is_refused_by_the_check():
    solution = solve(cohort(), Uniform("skip"))
    assert solution.status is Status.UNKNOWN
    assert "every client skips" in solution.message


@pytest.mark.parametrize(("share", "count"), [(0, 0), (0.2, 1), (0.5, 2), (0.7, 4), (1, 5)])
def test_random_takes_the_rounded_share_and_repeats_itself(share, count):
    rule = Random("qat-w2a2", "ptq-w2a2", share, seed=7)
    choice = rule(cohort()).choice
    assert (choice == QAT).sum() == count
    assert (choice == PTQ).sum() == 5 - count
    assert rule(cohort()).choice.tolist() == choice.tolist()


def test_random_differs_between_seeds():
    choices = {tuple(Random("qat-w2a2", "ptq-w2a2", 0.4, s)(cohort()).choice) for s in range(20)}
    assert len(choices) > 3


def test_hardware_only_takes_what_is_free_and_nothing_else():
    problem = cohort()
    choice = HardwareOnly("qat-w2a2", "ptq-w2a2")(problem).choice
    assert choice.tolist() == [QAT, QAT, QAT, PTQ, PTQ]
    assert problem.round_seconds(choice) == 4.0


def test_hardware_only_counts_those_who_cannot_do_the_faster_one():
    allowed = np.ones((5, 3), dtype=bool)
    allowed[4, PTQ] = False
    choice = HardwareOnly("qat-w2a2", "ptq-w2a2")(cohort(allowed=allowed)).choice
    assert choice.tolist() == [QAT] * 5


def distance_by_hand(problem, client):
    counts = problem.coverage.label_counts
    own, all_ = counts[client] / counts[client].sum(), counts.sum(axis=0) / counts.sum()
    return sum(abs(a - b) for a, b in zip(own, all_, strict=True)) / 2


@pytest.mark.parametrize("skewed", [False, True])
def test_data_only_ranks_by_total_variation_distance(skewed):
    problem = cohort()
    ranked = sorted(range(5), key=lambda i: distance_by_hand(problem, i), reverse=skewed)
    choice = DataOnly("qat-w2a2", "ptq-w2a2", 0.4, prefer_skewed=skewed)(problem).choice
    assert set(np.flatnonzero(choice == QAT)) == set(ranked[:2])


@pytest.mark.parametrize("skewed", [False, True])
def test_data_only_takes_clients_without_examples_last(skewed):
    counts = [[0, 0], [9, 1], [5, 5], [0, 9], [1, 20]]
    problem = cohort(coverage=Coverage(counts, (0, 0, 1), CURVE))
    choice = DataOnly("qat-w2a2", "ptq-w2a2", 0.8, prefer_skewed=skewed)(problem).choice
    assert choice.tolist() == [PTQ, QAT, QAT, QAT, QAT]


def test_data_only_needs_coverage():
    with pytest.raises(ValueError, match="needs the problem's `coverage`"):
        DataOnly("qat-w2a2", "ptq-w2a2", 0.5)(cohort(coverage=None))


def test_the_coarse_rule_adds_the_client_that_covers_what_is_missing():
    problem = cohort(seconds=[[0, 1, 2], [0, 1, 3], [0, 2, 4], [0, 4, 9], [0, 4, 6]])
    choice = CoarseRule("qat-w2a2", "ptq-w2a2")(problem).choice
    assert choice.tolist() == [QAT, QAT, QAT, PTQ, QAT]


def greedy_by_hand(problem):
    """The coarse rule of a problem with a trade-off, one objective after the other."""
    choice = HardwareOnly("qat-w2a2", "ptq-w2a2")(problem).choice
    while True:
        best = None
        for i in np.flatnonzero((choice != QAT) & problem.allowed[:, QAT]):
            moved = choice.copy()
            moved[i] = QAT
            key = problem.objective(moved), problem.round_seconds(moved)
            if best is None or key < best[0]:
                best = key, moved
        if best is None or best[0][0] >= problem.objective(choice) - 1e-9:
            return choice
        choice = best[1]


def test_the_coarse_rule_equals_its_steps_written_out():
    added = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        seconds = rng.lognormal(0, 1, (8, 3)) * [0, 1, 1]
        seconds[:, QAT] += seconds[:, PTQ]
        problem = AllocationProblem(
            MENU,
            seconds,
            rng.random((8, 3)) * 0.02,
            tradeoff=30.0,
            coverage=Coverage(rng.integers(0, 9, (8, 3)) + 1, (0, 0.3, 1), CURVE),
            switching_seconds=rng.random((8, 3)) * 0.2,
        )
        choice = CoarseRule("qat-w2a2", "ptq-w2a2")(problem).choice
        assert choice.tolist() == greedy_by_hand(problem).tolist()
        start = HardwareOnly("qat-w2a2", "ptq-w2a2")(problem).choice
        added += (choice != start).sum()
        assert problem.objective(choice) >= Exhaustive()(problem).bound - 1e-9
    assert added > 30


def test_with_a_maximum_loss_only_the_coarse_rule_adds_until_it_holds():
    problem = cohort(tradeoff=None, max_loss=0.12)
    choice = CoarseRule("qat-w2a2", "ptq-w2a2")(problem).choice
    assert problem.total_loss(choice) <= 0.12
    assert choice.tolist() == [QAT, QAT, QAT, PTQ, QAT]
    loose = replace(problem, max_loss=0.5)
    assert CoarseRule("qat-w2a2", "ptq-w2a2")(loose).choice.tolist() == [2, 2, 2, 1, 1]


def test_the_coarse_rule_takes_no_step_past_a_deadline_or_a_budget():
    late = cohort(deadline_seconds=5.5)
    assert CoarseRule("qat-w2a2", "ptq-w2a2")(late).choice.tolist() == [2, 2, 2, 2, 1]
    dear = cohort(budgets=[Budget("a_bytes", np.tile([0, 1, 2], (5, 1)), 8)])
    assert CoarseRule("qat-w2a2", "ptq-w2a2")(dear).choice.tolist() == [2, 2, 2, 1, 1]


def test_the_coarse_rule_needs_a_goal():
    with pytest.raises(ValueError, match="`tradeoff=None` needs either"):
        CoarseRule("qat-w2a2", "ptq-w2a2")(cohort(tradeoff=None))
