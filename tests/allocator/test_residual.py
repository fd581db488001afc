"""What is left open at a round time, as a program for HiGHS: against enumerations and `Milp`'s."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import Count, violations
from fedhq.allocator.instances.families import FAMILIES
from fedhq.allocator.instances.random_program import random_program
from fedhq.allocator.instances.references import program_at
from fedhq.allocator.solvers.exhaustive import enumerate_choices
from fedhq.allocator.solvers.highs import HighsSettings, Outcome
from fedhq.allocator.solvers.relaxation import Relaxation
from fedhq.allocator.solvers.residual import Residual
from fedhq.allocator.solvers.thresholds import Thresholds


def cost_of(relaxation, choice):
    """The objective without the round time, in units."""
    problem = relaxation.problem
    cost = problem.loss_weight * problem.total_loss(choice) + problem.switching(choice)
    return cost / relaxation.unit


def least_cost(relaxation, open_choices):
    """By enumeration; None where nothing keeps the limits."""
    problem = replace(relaxation.problem, allowed=open_choices)
    costs = [
        cost_of(relaxation, choice)
        for choice in enumerate_choices(problem, 10**5)
        if not violations(relaxation.problem, choice)
    ]
    return min(costs, default=None)


def small(count):
    """Random problems at one of their round times; those with a maximum loss have all terms."""
    for seed in range(count):
        problem = replace(random_program(seed, 1 + seed % 5), groups=None)
        relaxation = Relaxation.of(problem)
        if relaxation.usable.any(axis=1).all():
            rng = np.random.default_rng(seed)
            times = Thresholds.of(relaxation).times
            yield relaxation, relaxation.within(times[rng.integers(len(times))]), rng


def nothing_chosen(relaxation):
    return np.zeros(len(relaxation.base), dtype=np.int64)


def assert_least(relaxation, residual, expected):
    found, choice = residual.solve(np.inf, 0.0, None, None)
    if not residual.num_open:
        return
    if expected is None:
        assert found.outcome is Outcome.INFEASIBLE
        assert choice is None
        return
    assert found.outcome is Outcome.OPTIMAL
    assert violations(relaxation.problem, choice) == ()
    assert cost_of(relaxation, choice) == pytest.approx(expected, rel=1e-8, abs=1e-8)
    assert residual.bound(found) == pytest.approx(expected, rel=1e-7, abs=1e-7)


def test_with_everything_open_it_finds_the_least_of_the_enumeration():
    capped = infeasible = 0
    for relaxation, mask, _ in small(250):
        expected = least_cost(relaxation, mask)
        assert_least(
            relaxation, Residual.of(relaxation, nothing_chosen(relaxation), mask), expected
        )
        capped += relaxation.has_cap and relaxation.num_curves > 0 and expected is not None
        infeasible += expected is None
    assert capped > 20
    assert infeasible > 20


def test_clients_without_a_choice_keep_what_is_fixed():
    checked = 0
    for relaxation, mask, rng in small(250):
        options = mask.copy()
        choice = np.where(mask, rng.random(mask.shape), -1).argmax(axis=1)
        for client in np.flatnonzero(rng.random(len(mask)) < 0.5):
            options[client] = False  # nothing open, or one choice: both fix it
            options[client, choice[client]] = rng.random() < 0.5
        residual = Residual.of(relaxation, choice, options)
        fixed = options.sum(axis=1) < 2
        alone = np.where(fixed & (options.sum(axis=1) == 1), options.argmax(axis=1), choice)
        allowed = options.copy()
        allowed[fixed] = np.eye(mask.shape[1], dtype=bool)[alone[fixed]]
        assert_least(relaxation, residual, least_cost(relaxation, allowed))
        assert (residual.choice[fixed] == alone[fixed]).all()
        if residual.num_open:
            _, found = residual.solve(np.inf, 0.0, None, None)
            if found is not None:
                assert (found[fixed] == alone[fixed]).all()
                checked += fixed.any()
    assert checked > 40


def test_only_what_is_below_the_cutoff_is_found_and_the_bound_stays_below_it():
    pruned = 0
    for relaxation, mask, _ in small(200):
        best = least_cost(relaxation, mask)
        residual = Residual.of(relaxation, nothing_chosen(relaxation), mask)
        if best is None or not residual.num_open:
            continue
        margin = 1e-3 * max(abs(best), 1e-2)
        found, choice = residual.solve(best + margin, 0.0, None, None)
        assert choice is not None
        assert cost_of(relaxation, choice) == pytest.approx(best, rel=1e-8, abs=1e-8)
        assert residual.bound(found) <= best + 1e-8
        found, choice = residual.solve(best - margin, 0.0, None, None)
        if found.outcome is Outcome.INFEASIBLE:
            assert choice is None
        else:
            assert residual.bound(found) <= best + 1e-8
        pruned += found.outcome is Outcome.INFEASIBLE
    assert pruned > 50


def milp_at(problem, relaxation, time):
    """The mixed-integer program with a fixed round time: its least cost without time, in units."""
    found = program_at(problem, time).minimise(HighsSettings())
    if found.outcome is Outcome.INFEASIBLE:
        return None
    return found.bound / relaxation.unit - relaxation.time_cost(time)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("max_loss", [None, 0.08])
def test_it_equals_the_whole_program_with_a_fixed_round_time(seed, max_loss):
    problem = replace(
        FAMILIES["federated"](seed, 25),
        max_loss=max_loss,
        counts=(Count(["ptq-w2a2"], at_least=3), Count(["qat-w2a2"], at_most=15)),
    )
    relaxation = Relaxation.of(problem)
    times = Thresholds.of(relaxation).times
    for time in times[np.linspace(0, len(times) - 1, 3).astype(int)]:
        mask = relaxation.within(time)
        residual = Residual.of(relaxation, nothing_chosen(relaxation), mask)
        expected = milp_at(problem, relaxation, time)
        found, choice = residual.solve(np.inf, 0.0, None, None)
        if expected is None:
            assert found.outcome is Outcome.INFEASIBLE
            continue
        assert violations(problem, choice) == ()
        assert cost_of(relaxation, choice) == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_a_node_limit_leaves_a_valid_bound():
    problem = FAMILIES["strongly correlated"](0, 60)
    relaxation = Relaxation.of(problem)
    time = Thresholds.of(relaxation).times[-1]
    residual = Residual.of(relaxation, nothing_chosen(relaxation), relaxation.within(time))
    found, choice = residual.solve(np.inf, 0.0, None, 1)
    best = milp_at(problem, relaxation, time)
    assert residual.bound(found) <= best + 1e-7
    if choice is not None:
        assert cost_of(relaxation, choice) >= best - 1e-7
