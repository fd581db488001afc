"""The rounding that keeps coverage near the fractional one where whole classes of clients tie."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import Dual, solve
from fedhq.allocator.instances import FAMILIES
from fedhq.allocator.solvers.balanced import balanced_choice
from fedhq.allocator.solvers.relaxation import Relaxation


def relaxation(clients, seed=0):
    problem = FAMILIES["uneven"](seed, clients)
    return Relaxation.of(replace(problem, tradeoff=20.0, max_loss=None))


@pytest.mark.parametrize("seed", range(3))
def test_ties_are_rounded_to_the_fractional_coverage(seed):
    program = relaxation(200, seed)
    regret = np.full(program.base.shape, np.inf)
    regret[:, 1:] = 0.0  # half PTQ, half QAT
    choice = balanced_choice(program, regret, 1e-6)
    term = program.problem.coverage
    assert set(choice.tolist()) == {1, 2}
    target = term.share.sum(axis=0) / 2
    even, random = (
        np.abs(term.covered(c) - target).max()
        for c in (choice, np.random.default_rng(seed).integers(1, 3, 200))
    )
    assert even < 0.03
    assert even < random / 2


def test_what_is_decided_stays_so_and_what_is_forbidden_is_not_done():
    program = relaxation(50)
    rng = np.random.default_rng(1)
    regret = rng.random(program.base.shape) + 1.0
    best = rng.integers(0, 3, 50)
    regret[np.arange(50), best] = 0.0
    assert (balanced_choice(program, regret, 1e-6) == best).all()
    forbidden = np.where(regret > 0, np.inf, 0.0)
    assert (balanced_choice(program, forbidden, 1.0) == best).all()


@pytest.mark.parametrize("seed", range(2))
def test_a_fleet_of_clients_of_one_class_is_solved_nearly_even(seed):
    problem = replace(FAMILIES["uneven"](seed, 400), tradeoff=20.0, max_loss=None)
    term = replace(problem.coverage, unevenness_price=0.5)
    solution = solve(replace(problem, coverage=term), Dual())
    assert solution.gap < 0.01
    without = solve(replace(problem, coverage=replace(term, unevenness_price=0.0)), Dual())
    covered = (term.covered(s.allocation.choice) for s in (solution, without))
    ours, theirs = map(term.unevenness, covered)
    assert ours < theirs / 2
