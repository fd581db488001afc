"""Unevenness in what stands around the solvers: frontiers, picks, schedules, reasons, the loop."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from skewed_programs import skewed

from fedhq.allocator import (
    AllocationProblem,
    Coverage,
    Dual,
    Exact,
    FastestWithin,
    FrontierPick,
    HardwareTables,
    HybridAllocator,
    InfeasibleError,
    fitted_loss,
    pareto_frontier,
    parse_menu,
    plan_schedule,
    solve,
)
from fedhq.allocator.curves import Curves
from fedhq.allocator.explain.whatif import Moves
from fedhq.allocator.groups import Merged
from fedhq.allocator.instances import FAMILIES
from fedhq.allocator.instances.references import enumerated
from fedhq.allocator.limits import Kind, Limit
from fedhq.allocator.recency import Recency
from fedhq.allocator.solvers.exhaustive import enumerate_choices
from fedhq.allocator.solvers.pick import use_slack
from fedhq.allocator.solvers.policy import Policy
from fedhq.allocator.solvers.relaxation import Relaxation
from fedhq.studies.plan_files import read_source
from fedhq.studies.plan_json import problem_from_json, problem_to_json


def plain(seed, clients, price=None):
    """Without goal, switching and limits of the loss."""
    problem = skewed(seed, clients, price)
    return replace(
        problem, tradeoff=None, max_loss=None, switching_seconds=None, deadline_seconds=None
    )


def uneven(seed, clients=6):
    return replace(FAMILIES["uneven"](seed, clients), tradeoff=20.0, max_loss=None)


@pytest.mark.parametrize("seed", range(12))
def test_curves_sum_up_to_the_loss(seed):
    problem = plain(seed, 6)
    term, rng = problem.coverage, np.random.default_rng(seed)
    curves = Curves.of(term)
    for choice in rng.integers(0, len(problem.strategies), (20, 6)):
        sums = curves.at(term.covered(choice))
        np.testing.assert_allclose(
            sums, curves.start + curves.moved(term.teaches[choice] @ term.share), atol=1e-12
        )
        values = [np.interp(s, curves.points, v) for s, v in zip(sums, curves.values, strict=True)]
        assert curves.weights @ values == pytest.approx(term.loss(term.covered(choice)))
        assert sums.min() >= -1e-12
        slopes, offsets = curves.lines
        above = (slopes * sums[:, None] + offsets).max(axis=1)
        np.testing.assert_allclose(above, values, atol=1e-12)


def test_a_price_of_a_class_is_what_its_curves_say_together():
    problem = uneven(0)
    curves, term = Curves.of(problem.coverage), problem.coverage
    prices = np.random.default_rng(0).random(len(curves.weights))
    worth = term.share @ curves.of_classes(prices)
    np.testing.assert_allclose(curves.moved(term.share) @ prices, worth, atol=1e-12)
    relaxation = Relaxation.of(problem)
    named = relaxation.named(np.full(relaxation.num_prices, 1e-3))
    assert named.coverage.shape == term.population.shape


def frontier_by_enumeration(problem):
    """The points that are not dominated, of all allocations."""
    choices = enumerate_choices(problem, 10_000)
    points = sorted((problem.round_seconds(c), problem.total_loss(c)) for c in choices
                    if problem.participates[c].any())  # fmt: skip
    kept = []
    for time, loss in points:
        if not kept or loss < kept[-1][1] - 1e-9:
            kept.append((time, loss))
    return kept


@pytest.mark.parametrize("seed", range(3))
def test_the_frontier_is_that_of_the_enumeration(seed):
    problem = replace(uneven(seed, 5), tradeoff=None)
    expected = frontier_by_enumeration(problem)
    found = pareto_frontier(problem)
    points = np.column_stack([found.round_seconds, found.loss])
    np.testing.assert_allclose(points, expected, atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_a_rule_picks_the_point_of_the_whole_frontier_from_a_part_of_it(seed):
    problem, solved = replace(uneven(seed, 7), tradeoff=None), []

    def counting(program):
        solved.append(program)
        return Exact()(program)

    rule = FastestWithin(0.02)
    frontier = pareto_frontier(problem, solver=counting)
    best, all_points = frontier.allocation(frontier.pick(rule)), len(solved)
    solved.clear()
    picked = solve(problem, FrontierPick(rule, counting)).allocation
    assert picked.round_seconds == best.round_seconds
    assert picked.loss <= best.loss + 1e-9
    assert len(solved) < all_points


def test_slack_is_used_only_where_the_loss_does_not_rise():
    labels = [[8, 0], [0, 8], [4, 4]]
    for curve in (((0, 0.3), (1, 0)), ((0, 0.0),)):
        problem = AllocationProblem(
            ("ptq-w2a2", "qat-w2a2"),
            np.ones((3, 2)),
            np.zeros((3, 2)),
            coverage=Coverage(labels, (0, 1), curve, unevenness_price=2.0),
        )
        nothing = np.zeros(3, dtype=int)
        used = use_slack(problem, nothing)
        assert problem.total_loss(used) <= problem.total_loss(nothing)
        assert used[0] == 0
        assert used[2] == 1
    even = replace(problem, coverage=replace(problem.coverage, unevenness_price=0.0))
    assert use_slack(even, nothing).tolist() == [1, 1, 1]


@pytest.mark.parametrize("seed", range(8))
def test_no_schedule_is_below_the_bound_of_the_best(seed):
    problem, rounds = replace(uneven(seed, 3), tradeoff=None), 2
    weights = Recency(0.5).weights(rounds)
    choices = [c for c in enumerate_choices(problem, 100) if problem.participates[c].any()]
    times = [problem.round_seconds(c) for c in choices]
    total = float(np.random.default_rng(seed).uniform(rounds * min(times), rounds * max(times)))
    term, best = problem.coverage, np.inf
    for pair in product(range(len(choices)), repeat=rounds):
        if sum(times[k] for k in pair) > total:
            continue
        picked = [choices[k] for k in pair]
        own = sum(w * problem.loss[np.arange(3), c].sum() for w, c in zip(weights, picked, strict=True))  # fmt: skip # noqa: E501
        covered = sum(w * (term.teaches[c] @ term.share) for w, c in zip(weights, picked, strict=True))  # fmt: skip # noqa: E501
        best = min(best, own + term.loss(covered))
    schedule = plan_schedule(problem, total, rounds, Recency(0.5))
    assert schedule.bound <= best + 1e-9
    assert schedule.loss >= best - 1e-9
    assert schedule.round_seconds.sum() <= total * (1 + 1e-9)


def test_a_schedule_of_many_rounds_is_near_its_bound():
    problem = replace(uneven(1, 12), tradeoff=None)
    schedule = plan_schedule(problem, float(np.median(problem.seconds[:, 2])) * 30, 30)
    covered = sum(
        w * (problem.coverage.teaches[schedule.allocation(t + 1).choice] @ problem.coverage.share)
        for t, w in enumerate(schedule.weights)
    )
    own = sum(
        w * problem.loss[np.arange(12), schedule.allocation(t + 1).choice].sum()
        for t, w in enumerate(schedule.weights)
    )
    assert schedule.loss == pytest.approx(own + problem.coverage.loss(covered))
    assert 0 <= schedule.gap < 0.01


@pytest.mark.parametrize("seed", range(4))
def test_reasons_tell_what_a_move_changes(seed):
    problem = uneven(seed, 8)
    solution = solve(problem, Exact())
    choice = solution.allocation.choice
    moves = Moves.of(problem, choice)
    for row in range(8):
        for other in moves.alternatives(row, solution.prices):
            moved = choice.copy()
            moved[row] = problem.strategies.index(other.strategy)
            change = problem.total_loss(moved) - problem.total_loss(choice)
            assert other.change.loss == pytest.approx(change, abs=1e-12)
            assert other.change.objective >= -1e-6
    assert "objective" in str(solution.explain())


def test_a_class_report_is_the_slope_of_the_loss():
    seen = set()
    for seed in range(10):
        problem = uneven(seed, 8)
        choice = np.random.default_rng(seed).integers(1, 3, 8)
        choice[0] = 1 + seed % 2
        term, explained = problem.coverage, solve(problem, Fixed(tuple(choice))).explain()
        covered = term.covered(choice)
        for report in explained.classes:
            if np.abs(term.loss_curve[:, 0] - covered[report.label]).min() < 1e-6:
                continue  # at a bend rounding says on which side
            step = 1e-7 * (np.arange(len(covered)) == report.label)
            slope = (term.loss(covered + step) - term.loss(covered)) / 1e-7
            assert -report.slope == pytest.approx(slope, abs=1e-5)
            seen.add(np.sign(report.slope))
            assert ("raises" in str(report)) == (report.slope < 0)
    assert seen >= {-1.0, 1.0}


class Fixed:
    """Answers with a choice that is given."""

    def __init__(self, choice):
        self.choice = np.array(choice)

    def __call__(self, problem):
        from fedhq.allocator import Answer, Status

        return Answer(Status.FEASIBLE, self.choice)


def test_the_least_loss_alone_is_a_bound():
    for seed in range(40):
        problem = replace(skewed(seed, 1 + seed % 5), max_loss=1e-6)
        least, _ = Limit(Kind.MAX_LOSS).alone(problem)
        free = plain(seed, 1 + seed % 5)
        free = replace(free, budgets=(), counts=(), min_participation=0.0, deadline_seconds=1e9)
        best = enumerated(free)
        assert best is None or least <= best + 1e-9


def test_groups_policies_and_files_keep_the_price(tmp_path):
    problem = replace(uneven(2), groups=("a", "a", None, None, "b", "b"))
    merged = Merged.of(problem)
    for choice in ([0, 1, 2, 1], [2, 2, 1, 1]):
        assert merged.problem.total_loss(np.array(choice)) == pytest.approx(
            problem.total_loss(merged.spread(np.array(choice)))
        )
    double = Policy(1.0, 10.0, 2.0).program(problem)
    choice = np.array([2, 2, 1, 1, 2, 2])
    own = problem.loss[np.arange(6), choice].sum()
    assert double.total_loss(choice) - own == pytest.approx(2 * (problem.total_loss(choice) - own))
    path = tmp_path / "problem.json"
    path.write_text(problem_to_json(problem), encoding="utf-8")
    again = problem_from_json(read_source(str(path)))
    assert again.coverage.unevenness_price == problem.coverage.unevenness_price
    even = replace(problem, coverage=replace(problem.coverage, unevenness_price=0.0))
    assert "unevenness" not in problem_to_json(even)


def test_a_round_is_planned_by_the_fitted_price():
    fitted = replace(fitted_loss(), unevenness_price=0.7)
    assert fitted_loss().unevenness_price == 0
    menu = ("ptq-w2a2", "qat-w2a2")
    allocator = HybridAllocator(
        menu,
        HardwareTables.unknown(parse_menu(menu), 3),
        "qat-w2a2",
        FrontierPick(FastestWithin(0.0)),
        num_examples=[8, 8, 2],
        label_counts=[[8, 0], [0, 8], [1, 1]],
        fitted=fitted,
    )
    assert allocator.problem([0, 2]).coverage.unevenness_price == 0.7
    # Of a cohort without the second client, the first's labels would be the only ones.
    assert allocator.plan(1, [0, 2]).choice.tolist() == [0, 1]
    with pytest.raises(ValueError, match="`unevenness_price`"):
        replace(fitted, unevenness_price=-1.0)


def test_a_maximum_loss_that_only_evenness_reaches():
    problem = replace(uneven(0, 6), tradeoff=None)
    least = pareto_frontier(problem).loss[-1]
    within = replace(problem, max_loss=float(least) * 1.0001)
    best = solve(within, Exact()).allocation
    assert best.loss <= within.max_loss * (1 + 1e-6)
    assert solve(within, Dual()).bound <= best.round_seconds * (1 + 1e-6)
    with pytest.raises(InfeasibleError, match="max_loss >="):
        _ = solve(replace(problem, max_loss=float(least) * 0.9), Exact()).allocation
