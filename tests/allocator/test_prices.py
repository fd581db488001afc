"""Shadow prices of `Milp` against finite differences of the linear relaxation."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import Budget, Coverage, Milp, Status
from fedhq.allocator.solvers.highs import HighsSettings, Outcome
from fedhq.allocator.solvers.program import Program


def relaxation(problem):
    """The relaxation's optimal value and columns."""
    program = Program.of(problem)
    found = program.relaxed().minimise(HighsSettings())
    assert found.outcome is Outcome.OPTIMAL
    return found.bound, found.values


def slope(problem, change, step):
    """How much the relaxation falls per unit, when a limit is relaxed and when it is tightened."""
    now = relaxation(problem)[0]
    looser, tighter = relaxation(change(step))[0], relaxation(change(-step))[0]
    return (now - looser) / step, (tighter - now) / step


def between(price, slopes, scale):
    """Whether a price lies between the two one-sided slopes, as a subgradient does."""
    return slopes[0] - 1e-5 * scale <= price <= slopes[1] + 1e-5 * scale


@pytest.fixture
def priced(make_problem):
    """Feasible random problems with budgets, with the prices that `Milp` gives."""
    found = []
    for seed in range(200):
        problem = make_problem(seed)
        if problem.budgets:
            answer = Milp(with_prices=True)(problem)
            if answer.status is Status.OPTIMAL:
                found.append((problem, answer.prices))
    assert len(found) > 40
    return found


def with_limit(problem, r, step):
    budgets = list(problem.budgets)
    budgets[r] = Budget(budgets[r].resource, budgets[r].usage, budgets[r].limit + step)
    return replace(problem, budgets=tuple(budgets))


def is_interior(problem, change, step):
    program = Program.of(change(-step))
    return (
        program is not None
        and program.relaxed().minimise(HighsSettings()).outcome is Outcome.OPTIMAL
    )


def test_budget_prices_are_the_relaxations_slopes(priced):
    checked = positive = 0
    for problem, prices in priced:
        for r, budget in enumerate(problem.budgets):
            step = 1e-4 * budget.limit

            def change(by, problem=problem, r=r):
                return with_limit(problem, r, by)

            if is_interior(problem, change, step):
                scale = max(1.0, prices.budgets[r])
                assert between(prices.budgets[r], slope(problem, change, step), scale)
                checked += 1
                positive += prices.budgets[r] > 1e-6
    assert checked > 40
    assert positive > 5


def test_the_prices_of_loss_and_participation_are_the_relaxations_slopes(make_problem):
    positive = 0
    for seed in range(120):
        problem = make_problem(seed)
        for name, sign in (("max_loss", 1), ("min_participation", -1)):
            limit = getattr(problem, name)
            if not limit or limit > 0.99:
                continue

            def change(by, problem=problem, name=name, sign=sign):
                return replace(problem, **{name: getattr(problem, name) + sign * by})

            answer = Milp(with_prices=True)(problem)
            if answer.status is not Status.OPTIMAL or not is_interior(problem, change, 1e-4):
                continue
            price = getattr(answer.prices, name)
            assert between(price, slope(problem, change, 1e-4), max(1.0, price))
            positive += price > 1e-6
    assert positive > 5


def test_coverage_prices_are_the_relaxations_slopes(make_problem):
    positive = 0
    for seed in range(100):
        problem = make_problem(seed)
        answer = Milp(with_prices=True)(problem)
        if problem.coverage is None or answer.status is not Status.OPTIMAL:
            continue
        term = problem.coverage
        for c in range(3):
            if term.carried[c] < 1e-3:
                continue

            def change(by, problem=problem, term=term, c=c):
                carried = term.carried + by * np.eye(3)[c]
                moved = Coverage(
                    term.label_counts, term.teaches, term.loss_curve, term.population, carried
                )
                return replace(problem, coverage=moved)

            if not is_interior(problem, change, 1e-5):
                continue
            price = answer.prices.coverage[c]
            assert between(price, slope(problem, change, 1e-5), max(1.0, price))
            positive += price > 1e-6
    assert positive > 5


def test_what_is_not_used_up_has_no_price(priced):
    slack_seen = 0
    for problem, prices in priced:
        columns = relaxation(problem)[1][: problem.seconds.size].reshape(problem.seconds.shape)
        for r, budget in enumerate(problem.budgets):
            if (budget.usage * columns).sum() < budget.limit * (1 - 1e-6):
                assert prices.budgets[r] == pytest.approx(0.0, abs=1e-9)
                slack_seen += 1
        assert (prices.budgets >= 0).all()
        assert (prices.coverage >= 0).all()
    assert slack_seen > 5


def test_prices_are_there_only_on_demand(pair):
    assert Milp()(pair).prices is None
    assert Milp(with_prices=True)(pair).prices.budgets.shape == (0,)
