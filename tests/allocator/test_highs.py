"""HiGHS called directly: outcomes, prices and bounds of programs small enough for the head."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from fedhq.allocator import SolverError
from fedhq.allocator.solvers.highs import HighsSettings, LinearProgram, Outcome, minimise


def knapsack(worth, weight, most, whole=True):
    """Items of which the worthiest are taken, as far as the weight allows."""
    items = len(worth)
    return LinearProgram(
        cost=-np.array(worth, dtype=float),
        rows=sparse.csr_array(np.array([weight], dtype=float)),
        limits=np.array([float(most)]),
        equalities=sparse.csr_array((0, items)),
        right=np.zeros(0),
        lower=np.zeros(items),
        upper=np.ones(items),
        whole=np.full(items, whole),
    )


def test_a_whole_program_gets_its_optimum_and_bound():
    found = minimise(knapsack([10, 7, 6], [5, 4, 3], 7), HighsSettings())
    assert found.outcome is Outcome.OPTIMAL
    assert found.values.round().tolist() == [0, 1, 1]
    assert found.bound == pytest.approx(-13)


def test_a_linear_program_gets_prices_that_are_its_slopes():
    program = knapsack([10, 7, 6], [5, 4, 3], 7, whole=False)
    found = minimise(program, HighsSettings())
    more = minimise(replace(program, limits=program.limits + 0.1), HighsSettings())
    assert (found.row_prices >= 0).all()
    assert found.row_prices[0] == pytest.approx((found.bound - more.bound) / 0.1)


def test_what_cannot_be_is_infeasible_and_has_no_values():
    program = replace(knapsack([1], [1], 0.5), lower=np.ones(1))
    found = minimise(program, HighsSettings())
    assert found.outcome is Outcome.INFEASIBLE
    assert found.values is None


@pytest.mark.parametrize("cutoff", [-13.5, -20.0])
def test_nothing_below_a_cutoff_is_infeasible_and_the_bound_is_no_higher(cutoff):
    found = minimise(knapsack([10, 7, 6], [5, 4, 3], 7), HighsSettings(cutoff=cutoff))
    assert found.outcome is Outcome.INFEASIBLE or found.bound <= -13 + 1e-6
    assert found.bound <= cutoff or found.bound <= -13 + 1e-6


def test_a_cutoff_above_the_optimum_loses_nothing():
    found = minimise(knapsack([10, 7, 6], [5, 4, 3], 7), HighsSettings(cutoff=-12.5))
    assert found.outcome is Outcome.OPTIMAL
    assert found.values.round().tolist() == [0, 1, 1]
    assert found.bound == pytest.approx(-13)


def test_a_limit_of_time_stops_without_a_claim():
    rng = np.random.default_rng(0)
    program = knapsack(rng.random(400), rng.random(400), 40)
    found = minimise(program, HighsSettings(time_limit_seconds=1e-9))
    assert found.outcome is Outcome.STOPPED
    assert found.message


def test_limits_that_are_no_numbers_are_refused_in_words():
    program = knapsack([10, 7], [5, 4], 7)
    with pytest.raises(SolverError, match="HiGHS refuses"):
        minimise(replace(program, limits=program.limits * np.nan), HighsSettings())


def test_costs_that_are_no_numbers_prove_nothing():
    program = knapsack([10, 7], [5, 4], 7)
    found = minimise(replace(program, cost=program.cost * np.nan), HighsSettings())
    assert found.bound == -np.inf


@pytest.mark.parametrize("left", [0.0, -3.0])
def test_a_time_limit_of_which_nothing_is_left_stops_at_once(left):
    rng = np.random.default_rng(0)
    program = knapsack(rng.random(400), rng.random(400), 40)
    assert minimise(program, HighsSettings(time_limit_seconds=left)).outcome is Outcome.STOPPED


def test_an_option_that_highs_refuses_is_named():
    with pytest.raises(SolverError, match="option mip_rel_gap = -1"):
        minimise(knapsack([1], [1], 1), HighsSettings(gap=-1.0))


def test_it_runs_without_a_standard_output():
    code = (
        "import os, sys; os.close(1); sys.stdout = None\n"
        "from fedhq.allocator import AllocationProblem, Milp\n"
        "p = AllocationProblem(('fp32',), [[1.0]], [[0.0]], 1.0)\n"
        "sys.exit(0 if Milp()(p).choice.tolist() == [0] else 3)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
