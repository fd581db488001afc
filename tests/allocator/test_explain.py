"""Every number of an explanation against the problem recomputed on the changed choice."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Answer,
    Budget,
    Coverage,
    Exhaustive,
    InfeasibleError,
    Milp,
    SolverError,
    Status,
    solve,
    violations,
)
from fedhq.allocator.explain import explain
from fedhq.allocator.explain.quantities import PERCENT, POINTS, SECONDS, Unit, number
from fedhq.allocator.limits import Limit, with_only
from fedhq.allocator.solution import Allocation, Prices, Solution
from fedhq.allocator.solvers.highs import HighsSettings, Outcome
from fedhq.allocator.solvers.program import Program
from fedhq.allocator.solvers.prune import without_dear
from fedhq.allocator.terms import Count

SEEDS = range(200)


def given(problem, choice, prices=None):
    """A solution that holds a choice."""
    allocation = Allocation.of(problem, np.array(choice))
    return Solution(Status.FEASIBLE, -np.inf, prices, "Guess()", 0.0, "", problem, allocation)


def grouped_and_counted(problem, rng):
    """The problem with a group of its first clients, and a count."""
    if rng.random() < 0.5 and problem.num_clients > 1:
        groups = ["van", "van", *rng.choice(np.array(["van", None]), problem.num_clients - 2)]
        problem = replace(problem, allowed=np.ones(problem.seconds.shape, bool), groups=groups)
    if rng.random() < 0.5:
        strategy = str(rng.choice([str(s) for s in problem.strategies]))
        count = Count([strategy], at_least=int(rng.integers(2)), at_most=int(rng.integers(1, 5)))
        problem = replace(problem, counts=[count])
    return problem


def some_allocation(problem, rng):
    """A random choice that keeps every limit, or None."""
    for _ in range(100):
        choice = rng.integers(0, len(problem.strategies), problem.num_clients)
        for rows in problem.group_rows().values():
            choice[rows] = choice[rows[0]]
        if not violations(problem, choice):
            return choice
    return None


@pytest.fixture(scope="module")
def allocated(make_problem):
    """Random problems, with and without groups and counts, each with some allocation."""
    found = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        problem = grouped_and_counted(make_problem(seed), rng)
        choice = some_allocation(problem, rng)
        if choice is not None:
            found.append((problem, choice))
    assert len(found) > 70
    assert sum(p.groups is not None for p, _ in found) > 15
    assert sum(bool(p.counts) for p, _ in found) > 15
    return found


def moves(allocated):
    """Every alternative of every client, with the rows that move and the choice after it."""
    for problem, choice in allocated:
        explanation = explain(problem, given(problem, choice))
        for i, name in enumerate(problem.clients):
            group = None if problem.groups is None else problem.groups[i]
            rows = [i] if group is None else problem.group_rows()[group]
            for alternative in explanation.client(name).alternatives:
                moved = choice.copy()
                moved[rows] = problem.strategies.index(alternative.strategy)
                yield problem, choice, rows, alternative, moved


def difference(problem, choice, moved):
    return problem.objective(moved) - problem.objective(choice)


def changed_table(problem, name, rows, strategy, value):
    table = getattr(problem, name).copy()
    table[rows, problem.strategies.index(strategy)] = value
    return replace(problem, **{name: table})


def test_every_change_is_that_of_the_changed_choice(allocated):
    switched = used = 0
    for problem, choice, _, alternative, moved in moves(allocated):
        change = alternative.change
        usage = problem.usage(moved) - problem.usage(choice)
        for found, right in (
            (change.round_seconds, problem.round_seconds(moved) - problem.round_seconds(choice)),
            (change.loss, problem.total_loss(moved) - problem.total_loss(choice)),
            (change.switching_seconds, problem.switching(moved) - problem.switching(choice)),
            (change.objective, difference(problem, choice, moved)),
        ):
            assert found == pytest.approx(right, abs=1e-9)
        assert change.usage == pytest.approx(usage, abs=1e-9)
        switched += change.switching_seconds != 0
        used += bool(change.usage.any())
    assert switched > 20
    assert used > 50


def test_an_alternative_breaks_what_check_says(allocated):
    broke = 0
    for problem, _, _, alternative, moved in moves(allocated):
        right = violations(problem, moved)
        assert len(alternative.broken) == len(right)
        if problem.groups is None:
            assert alternative.broken == right
        broke += bool(right)
    assert broke > 100


def test_a_needed_limit_set_to_what_is_needed_is_mended_and_to_less_is_not(allocated):
    mended = 0
    for problem, _, _, alternative, moved in moves(allocated):
        relaxed = problem
        for use in alternative.needed:
            relaxed = use.limit.set_to(relaxed, use.used)
            halfway = use.limit.set_to(problem, (use.used + use.value) / 2)
            if not use.limit.of.startswith("count"):  # a count has no half
                assert not use.limit.is_kept_by(halfway, use.limit.taken(problem, moved))
            mended += 1
        left = violations(relaxed, moved)
        assert all("every client skips" in words for words in left)
    assert mended > 100


def test_alternatives_and_what_is_not_allowed_make_up_the_menu(allocated):
    for problem, choice in allocated:
        explanation = explain(problem, given(problem, choice))
        for i, name in enumerate(problem.clients):
            client = explanation.client(name)
            rows = [problem.clients.index(c) for c in client.moved_with] + [i]
            listed = [a.strategy for a in client.alternatives] + list(client.not_allowed)
            assert sorted(map(str, [client.strategy, *listed])) == sorted(
                map(str, problem.strategies)
            )
            for strategy in client.not_allowed:
                assert not problem.allowed[rows, problem.strategies.index(strategy)].all()
            for alternative in client.alternatives:
                s = problem.strategies.index(alternative.strategy)
                assert problem.allowed[rows, s].all()
                assert alternative.seconds == problem.seconds[rows, s].max()
                assert alternative.loss == pytest.approx(problem.loss[rows, s].sum())


def test_at_the_flipped_tradeoff_both_are_as_good_and_beyond_it_the_better_one_changes(allocated):
    flipped = 0
    for problem, choice, _, alternative, moved in moves(allocated):
        flip, change = alternative.flips.tradeoff, alternative.change

        def at(tradeoff, problem=problem, choice=choice, moved=moved):
            return difference(replace(problem, tradeoff=tradeoff), choice, moved)

        if flip is None:
            signs = {np.sign(round(at(t), 9)) for t in (1e-6, 1e-2, 1.0, 1e2, 1e6)} - {0.0}
            assert len(signs) <= 1
        else:
            scale = problem.round_seconds(choice) + flip
            assert at(flip) == pytest.approx(0.0, abs=1e-9 * scale)
            assert at(flip * 1.1) * change.loss > 0
            assert at(flip * 0.9) * change.loss < 0
            flipped += 1
    assert flipped > 100


def test_at_the_flipped_seconds_both_are_as_good_and_beyond_them_the_move_is_worse(allocated):
    flipped = 0
    for problem, choice, rows, alternative, moved in moves(allocated):
        if alternative.strategy.is_skip:
            assert alternative.flips.seconds is None
            continue

        def at(seconds, problem=problem, choice=choice, rows=rows, a=alternative, moved=moved):
            changed = changed_table(problem, "seconds", rows, a.strategy, seconds)
            return difference(changed, choice, moved)

        flip = alternative.flips.seconds
        if flip is not None:
            assert at(flip) == pytest.approx(0.0, abs=1e-9)
            assert at(flip * 1.1) > 0 or problem.time_weight == 0
            assert at(flip * 0.9) <= 1e-9
            flipped += 1
        elif problem.time_weight:
            assert at(0.0) > 0  # even in no time it is worse
    assert flipped > 50


def test_at_the_flipped_loss_both_are_as_good_and_below_it_the_move_is_better(allocated):
    flipped = 0
    for problem, choice, rows, alternative, moved in moves(allocated):

        def at(loss, problem=problem, choice=choice, rows=rows, a=alternative, moved=moved):
            changed = changed_table(problem, "loss", rows, a.strategy, loss / len(rows))
            return difference(changed, choice, moved)

        flip = alternative.flips.loss
        if flip is not None:
            scale = 1e-9 * max(1.0, problem.loss_weight)
            assert at(flip) == pytest.approx(0.0, abs=scale)
            assert at(flip + 0.01) > 0
            assert at(max(flip - 0.01, 0.0)) <= scale
            flipped += 1
        elif problem.loss_weight:
            assert at(0.0) > 0  # even without a loss of its own it is worse
    assert flipped > 100


def test_a_problem_without_goal_has_flips_of_the_tradeoff_only():
    problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2]], [[0.1, 0]], clients=["phone"])
    explanation = explain(problem, given(problem, [0]))
    (alternative,) = explanation.client("phone").alternatives
    assert alternative.flips.tradeoff == pytest.approx(10.0)
    assert (alternative.flips.seconds, alternative.flips.loss) == (None, None)
    assert np.isnan(alternative.change.objective)
    assert "no goal" in str(explanation)
    assert "objective" not in str(explanation.client("phone"))


def test_the_next_better_and_the_next_faster_are_the_nearest(allocated):
    better = faster = 0
    for problem, choice in allocated:
        explanation = explain(problem, given(problem, choice))
        for name in problem.clients:
            client = explanation.client(name)
            gains = [a.change.loss for a in client.alternatives if a.change.loss < 0]
            times = [a.seconds for a in client.alternatives if a.seconds < client.seconds]
            if gains:
                assert client.next_better.change.loss == max(gains)
            if times:
                assert client.next_faster.seconds == max(times)
            assert (client.next_better is None, client.next_faster is None) == (
                not gains,
                not times,
            )
            better += bool(gains)
            faster += bool(times)
    assert better > 50
    assert faster > 50


def without(problem, limit):
    """The limits of a problem but one, for `violations`."""
    return with_only(problem, [other for other in Limit.given(problem) if other != limit])


def test_a_limit_holds_back_whom_its_absence_alone_would_free(allocated):
    held = 0
    for problem, choice in allocated:
        freed = {limit: set() for limit in Limit.given(problem)}
        for _, _, rows, alternative, moved in moves([(problem, choice)]):
            gain = -difference(problem, choice, moved)
            if alternative.broken and gain > 2e-6 * abs(problem.objective(choice)):
                for limit, clients in freed.items():
                    if not violations(without(problem, limit), moved):
                        clients.update(rows)
        reports = explain(problem, given(problem, choice)).limits
        assert [r.use.limit for r in reports] == list(freed)
        assert [r.held_back for r in reports] == [len(c) for c in freed.values()]
        held += sum(r.held_back for r in reports)
    assert held > 50


def test_no_move_is_better_than_an_optimum_and_keeps_the_limits(make_problem):
    solved = 0
    for seed in range(80):
        problem = make_problem(seed)
        solution = solve(problem, Exhaustive())
        if solution.status is not Status.OPTIMAL:
            continue
        solved += 1
        for name in problem.clients:
            for alternative in explain(problem, solution).client(name).alternatives:
                assert alternative.broken or alternative.change.objective > -1e-9
    assert solved > 30


def test_limits_are_used_as_the_allocation_uses_them(allocated):
    for problem, choice in allocated:
        for report in explain(problem, given(problem, choice)).limits:
            use = report.use
            assert use.is_kept
            assert use.used == use.limit.taken(problem, choice)
            assert use.value == use.limit.value(problem)
            assert abs(use.slack) == abs(use.used - use.value)
            # Tightened to what is used, it is still kept, and nothing is left of it.
            if use.used > 0 and use.limit.kind != "at_most":
                tight = use.limit.set_to(problem, use.used)
                reports = explain(tight, given(tight, choice)).limits
                (same,) = [r.use for r in reports if r.use.limit == use.limit]
                assert same.is_kept
                assert same.is_tight


def test_the_bottleneck_and_the_next_slowest_are_those_of_a_sorted_list(allocated):
    alone = 0
    for problem, choice in allocated:
        working = [i for i, s in enumerate(choice) if problem.participates[s]]
        ranked = sorted(working, key=lambda i: -problem.seconds[i, choice[i]])
        slowest = explain(problem, given(problem, choice)).bottleneck
        assert slowest.client == problem.clients[ranked[0]]
        if len(ranked) == 1:
            assert (slowest.next_client, slowest.next_seconds) == (None, 0.0)
            alone += 1
        else:
            assert slowest.next_client == problem.clients[ranked[1]]
            assert slowest.next_seconds == problem.seconds[ranked[1], choice[ranked[1]]]
    assert alone > 3


def test_class_slopes_are_what_a_little_more_coverage_saves(allocated):
    checked = 0
    for problem, choice in allocated:
        if (term := problem.coverage) is None:
            continue
        for report in explain(problem, given(problem, choice)).classes:
            step = 1e-7 * np.eye(len(term.carried))[report.label]
            more = Coverage(
                term.label_counts,
                term.teaches,
                term.loss_curve,
                term.population,
                term.carried + step,
            )
            saved = problem.total_loss(choice) - replace(problem, coverage=more).total_loss(choice)
            assert report.slope == pytest.approx(saved / 1e-7, abs=1e-6)
            assert report.covered == term.covered(choice)[report.label]
            checked += report.slope > 0
    assert checked > 30


def lagrangian(problem, choice, prices, costs):
    """The bound that prices prove, from a choice and every client's least reduced cost."""
    value = problem.total_loss(choice) + sum(min(0.0, *row) for row in costs)
    for budget, used, price in zip(
        problem.budgets, problem.usage(choice), prices.budgets, strict=True
    ):
        value -= price * (budget.limit - used)
    value -= prices.min_participation * (problem.participation(choice) - problem.min_participation)
    if (term := problem.coverage) is not None:
        knots = term.loss_curve[:, 0][:, None]
        priced = term.class_weights * term.phi(knots) + prices.coverage * knots
        covered = term.covered(choice)
        now = term.class_weights * term.phi(covered) + prices.coverage * covered
        value += float((priced.min(axis=0) - now).sum())
    return value


def test_reduced_costs_prove_the_relaxations_optimum(make_problem):
    """Strong duality, where only the loss is minimised: least reduced costs add up to the bound."""
    equal = 0
    for seed in range(400):
        problem = make_problem(seed)
        if not problem.has_goal or problem.time_weight:
            continue
        answer = Milp(with_prices=True)(problem)
        if answer.status is not Status.OPTIMAL:
            continue
        problem = without_dear(problem, answer) or problem  # as the prices are
        explanation = explain(problem, given(problem, answer.choice, answer.prices))
        deadline = problem.deadline_seconds
        costs = [
            [0.0] + [a.priced for a in explanation.client(c).alternatives if a.seconds <= deadline]
            for c in problem.clients
        ]
        found = Program.of(problem).relaxed().minimise(HighsSettings())
        assert found.outcome is Outcome.OPTIMAL
        proven = lagrangian(problem, answer.choice, answer.prices, costs)
        right = found.bound
        assert proven <= right + 1e-5
        if problem.participates.all():  # else "somebody takes part" may have a price, not given
            assert proven == pytest.approx(right, abs=1e-5)
            equal += 1
    assert equal > 5


def test_with_zero_prices_a_reduced_cost_is_the_change_of_the_objective(make_problem):
    compared = 0
    for seed in range(60):
        problem = replace(make_problem(seed), coverage=None)
        choice = some_allocation(problem, np.random.default_rng(seed))
        if choice is None or not problem.has_goal:
            continue
        prices = Prices(np.zeros(len(problem.budgets)), np.zeros(0))
        explanation = explain(problem, given(problem, choice, prices))
        for name in problem.clients:
            for alternative in explanation.client(name).alternatives:
                assert alternative.priced == pytest.approx(alternative.change.objective, abs=1e-12)
                compared += 1
    assert compared > 100


def test_a_count_is_charged_by_its_side_and_with_two_sides_not_at_all():
    menu, prices = (
        ("ptq-w2a2", "qat-w2a2"),
        Prices(np.zeros(0), np.zeros(0), counts=np.array([3.0])),
    )

    def priced(**sides):
        problem = AllocationProblem(
            menu, [[1, 1]] * 3, [[0, 0]] * 3, 1.0, counts=[Count(["qat-w2a2"], **sides)]
        )
        explanation = explain(problem, given(problem, [0, 1, 1], prices))
        (alternative,) = explanation.client(0).alternatives
        return alternative.priced, [r.price for r in explanation.limits]

    assert priced(at_most=2) == (3.0, [3.0])
    assert priced(at_least=2) == (-3.0, [3.0])
    assert priced(at_least=1, at_most=2) == (None, [None, None])


README = {
    "strategies": ("skip", "ptq-w2a2", "qat-w2a2"),
    "seconds": [[0, 1, 1.4], [0, 2, 2.8], [0, 4, 5.6]],
    "loss": [[0.1, 0, 0], [0.1, 0, 0], [0.05, 0, 0]],
    "budgets": [Budget("uplink_bytes", [[0, 5e3, 5e3]] * 3, 12e3)],
    "coverage": Coverage(
        [[90, 10], [50, 50], [10, 40]], (0, 0, 1), ((0, 0.4), (0.2, 0.1), (0.5, 0))
    ),
    "clients": ["tablet", "phone", "old phone"],
}


def test_the_readme_example_reads_well():
    problem = AllocationProblem(**README, tradeoff=30.0)
    explanation = explain(problem, solve(problem, Milp(with_prices=True)))
    assert (
        str(explanation)
        == """\
Proven best: the objective is 4.3 s (by Milp).
That is 2.8 s of round time and 1.5 s for a predicted loss of 5 percentage points of accuracy \
(30 s per unit, 0.3 s a point).
Of 3 clients 1 skips, 2 do qat-w2a2.
The round takes 2.8 s: 'phone' (qat-w2a2) is the slowest, then 'tablet' (1.4 s).
  If 'phone' did ptq-w2a2 instead: round time 2 s (-0.8 s), loss 15 points (+10 points), \
objective 6.5 s (+2.2 s); keeps every limit.
Limits:
  uplink_bytes: 10 kB of 12 kB, 2 kB left; alone keeps 1 client from a better strategy
Prices (of the relaxation, at this round time; the optimum itself moves in steps):
  one more kB of uplink_bytes is worth 0.2553 s of the objective
  one more % of the examples of class 1 is worth 0.01379 s of the objective
Coverage that would lower the loss most:
  none: every class is covered so well that more would not lower the loss"""
    )
    assert (
        str(explanation.client("old phone"))
        == """\
'old phone' skips.
  ptq-w2a2: round time 4 s (+1.2 s), loss 0 points (-5 points), objective 4 s (-0.3 s), \
uplink_bytes +5 kB; breaks uplink_bytes (15 kB of 12 kB, 3 kB too much).
    As good at a tradeoff of 24 s per unit of loss (now 30; better above) or an own time of 4.3 s \
(now 4 s) or an own loss of 1 point (now 0 points).
    With limits and coverage at their prices: +0.9767 s.
  qat-w2a2: round time 5.6 s (+2.8 s), loss 0 points (-5 points), objective 5.6 s (+1.3 s), \
uplink_bytes +5 kB; breaks uplink_bytes (15 kB of 12 kB, 3 kB too much).
    As good at a tradeoff of 56 s per unit of loss (now 30; better above) or an own time of 4.3 s \
(now 5.6 s).
    With limits and coverage at their prices: +2.025 s.
  Next faster: none. Next with less loss: ptq-w2a2.
All this is about 'old phone' alone, with every other client unchanged."""
    )


def test_where_only_the_loss_is_minimised_prices_are_in_points():
    problem = AllocationProblem(**README, deadline_seconds=5.0)
    solution = solve(problem, Milp(with_prices=True))
    text = str(explain(problem, solution))
    assert "The loss is minimised." in text
    assert "deadline_seconds: 2.8 s of 5 s, 2.2 s left" in text
    assert "deadline_seconds has none: a frontier tells what a later one buys" in text
    worth = 1e3 * solution.prices.budgets[0]
    assert worth > 0.001
    assert f"one more kB of uplink_bytes is worth {POINTS.text(worth)} of the objective" in text


def test_where_only_the_time_is_minimised_the_loss_has_a_price_in_seconds_a_point():
    problem = AllocationProblem(**README, max_loss=0.16)
    solution = solve(problem, Milp(with_prices=True))
    text = str(explain(problem, solution))
    assert "The round time is minimised." in text
    assert f"max_loss: {100 * solution.allocation.loss:.4g} points of 16 points" in text
    worth = solution.prices.max_loss / 100
    assert worth > 0.01
    assert f"one more point of max_loss is worth {worth:.4g} s of the objective" in text


def test_participation_counts_groups_and_switching_are_written_with_their_units():
    problem = AllocationProblem(
        ("skip", "ptq-w2a2", "qat-w2a2"),
        [[0, 1, 2], [0, 3, 4], [0, 1, 2]],
        [[0.2, 0.1, 0]] * 3,
        10.0,
        allowed=[[True, True, True], [True, True, False], [True, True, True]],
        counts=[Count(["qat-w2a2"], at_least=1, at_most=2)],
        groups=["van", None, "van"],
        min_participation=0.6,
        switching_seconds=[[0.5, 0, 0.25]] * 3,
        clients=["phone", "watch", "tablet"],
    )
    explanation = explain(problem, given(problem, [2, 0, 2]))
    assert (
        str(explanation)
        == """\
Keeps every limit, but how far from the best is not known: the objective is 5 s (by Guess).
That is 2 s of round time and 2 s for a predicted loss of 20 percentage points of accuracy \
(10 s per unit, 0.1 s a point), and 1 s for switching.
Of 3 clients 1 skips, 2 do qat-w2a2.
The round takes 2 s: 'phone' (qat-w2a2) is the slowest, then 'tablet' (2 s).
  If 'phone' (with its group) did ptq-w2a2 instead: round time 1 s (-1 s), loss 40 points \
(+20 points), objective 5.5 s (+0.5 s), switching -0.5 s; breaks at_least (count of qat-w2a2) \
(0 clients of at least 1 client, 1 client too little).
Limits:
  min_participation: 66.67 % of at least 60 %, 6.667 % to spare
  at_most (count of qat-w2a2): 2 clients of 2 clients, nothing left
  at_least (count of qat-w2a2): 2 clients of at least 1 client, 1 client to spare"""
    )
    assert str(explanation.client("tablet")).splitlines()[-1] == (
        "'tablet' moves with its group ('phone'): times are the slowest's, losses their sum, and "
        "every other client is unchanged."
    )
    assert "Not allowed: qat-w2a2." in str(explanation.client("watch"))


def test_a_gap_is_put_in_words(pair):
    allocation = Allocation.of(pair, np.array([1, 0]))
    solution = Solution(Status.FEASIBLE, 3.984, None, "Dual(steps=3)", 0.1, "", pair, allocation)
    assert str(explain(pair, solution)).startswith(
        "Within 0.4 % of the best possible: the objective is 4 s (by Dual), and no allocation is "
        "below 3.984 s."
    )


def test_who_is_alone_or_cannot_be_faster_is_told_so():
    problem = AllocationProblem(("skip", "fp32"), [[0, 2], [0, 3]], [[1, 0], [1, 0]], 1.0)
    text = str(explain(problem, given(problem, [1, 0])))
    assert "'0' (fp32) is the only one that takes part." in text
    lone = AllocationProblem(("fp32",), [[2]], [[0]], 1.0, clients=["phone"])
    explanation = explain(lone, given(lone, [0]))
    assert "'phone' is allowed nothing faster." in str(explanation)
    assert explanation.client("phone").alternatives == ()
    assert "Limits" not in str(explanation)


def test_an_infeasible_problem_says_why():
    problem = AllocationProblem(
        ("fp32",), [[2]], [[0]], 1.0, deadline_seconds=1.0, clients=["phone"]
    )
    explanation = explain(problem, solve(problem, Milp()))
    assert str(explanation).startswith("Proven infeasible, says Milp. No allocation keeps every")
    assert "deadline_seconds >= 2 is needed" in str(explanation)
    assert (explanation.bottleneck, explanation.limits, explanation.classes) == (None, (), ())
    with pytest.raises(InfeasibleError, match="deadline_seconds >= 2"):
        explanation.client("phone")


def test_an_unsettled_problem_says_what_limited_the_search(pair):
    explanation = explain(pair, solve(pair, lambda _: Answer(Status.UNKNOWN, message="no time.")))
    assert "found neither an allocation nor a proof that there is none: no time." in str(
        explanation
    )
    with pytest.raises(SolverError, match="no time"):
        explanation.client("phone")


def test_an_unknown_client_is_refused_with_near_names(pair):
    explanation = explain(pair, given(pair, [0, 0]))
    with pytest.raises(ValueError, match=r"got 'phon'. Perhaps you mean 'phone'"):
        explanation.client("phon")
    with pytest.raises(ValueError, match=r"got '17'. There are 'phone', 'watch'"):
        explanation.client(17)


def test_a_client_may_be_named_by_what_named_it():
    problem = AllocationProblem(("fp32",), [[2], [3]], [[0], [0]], 1.0)
    assert explain(problem, given(problem, [0, 0])).client(1).client == "1"


def test_of_many_equal_clients_all_that_are_left_out_are_held_back():
    """Copies of a small cohort; the budget has room for one old phone, and one more is too many."""
    problem, copies = AllocationProblem(**README, tradeoff=30.0), 2000
    term, (budget,) = problem.coverage, problem.budgets
    usage = np.tile(budget.usage, (copies, 1))
    large = AllocationProblem(
        problem.strategies,
        np.tile(problem.seconds, (copies, 1)),
        np.tile(problem.loss, (copies, 1)),
        tradeoff=30.0,
        budgets=[Budget("uplink_bytes", usage, 10e3 * copies + 5e3)],
        coverage=Coverage(np.tile(term.label_counts, (copies, 1)), term.teaches, term.loss_curve),
    )
    choice = np.tile([2, 2, 0], copies)
    choice[5] = 1  # the round takes an old phone's time: the others would not delay it
    assert violations(large, choice) == ()
    (report,) = explain(large, given(large, choice)).limits
    assert report.held_back == copies - 1
    assert report.use.is_tight


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (SECONDS.text(2.80049), "2.8 s"),
        (SECONDS.text(123456.0), "123500 s"),
        (SECONDS.text(-0.5, sign=True), "-0.5 s"),
        (POINTS.text(0.031415926), "3.142 points"),
        (POINTS.text(-0.01, sign=True), "-1 point"),
        (PERCENT.text(0.5), "50 %"),
        (Unit.of("uplink_bytes").text(999.0), "999 B"),
        (Unit.of("uplink_bytes").text(-2.5e9, sign=True), "-2.5 GB"),
        (Unit.of("energy_joules").text(1500.0), "1.5 kJ"),
        (Unit.of("radio_seconds").text(1500.0), "1500 s"),
        (Unit.of("slots").text(7.0), "7"),
        (number(0.0, sign=True), "0"),
    ],
)
def test_values_have_four_digits_and_a_unit(text, right):
    assert text == right


@pytest.mark.parametrize(
    ("resource", "price", "limit", "words"),
    [
        ("uplink_bytes", 3.1e-7, 2e7, ("MB", "0.31 s")),
        ("uplink_bytes", 3.1e-7, 2e10, ("MB", "0.31 s")),
        ("uplink_bytes", 3.1e-7, 2e4, ("kB", "0.00031 s")),
        ("uplink_bytes", 0.5, 2e4, ("B", "0.5 s")),
        ("energy_joules", 2e-3, 1e6, ("kJ", "2 s")),
        ("slots", 0.25, 3.0, ("unit", "0.25 s")),
    ],
)
def test_a_price_is_told_for_a_multiple_that_is_worth_something(resource, price, limit, words):
    assert Unit.of(resource).worth(price, limit, SECONDS) == words
