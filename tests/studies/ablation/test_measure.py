"""What one cell says: outcomes by who is at fault, times, memory, the allocation in short."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedhq.allocator import Exact, Milp, Sweep, solve
from fedhq.allocator.instances import FAMILIES
from fedhq.studies.ablation import measure as measuring
from fedhq.studies.ablation.measure import MOST_CHOICES, Task, call, measure, unmeasured
from fedhq.studies.ablation.memory import MemoryMark
from fedhq.studies.ablation.problems import ProblemSource

sys.path.insert(0, str(Path(__file__).parent))
import unruly
from unruly import entered

SOURCE = ProblemSource.of_family("federated", 8, 1)


def cell(solver, source=SOURCE):
    return measure(Task(source, entered("mine", solver), 2.0, "key"))


def test_a_cell_says_what_solve_says() -> None:
    problem, found = SOURCE.build(), cell(Exact())
    solution = solve(problem, Exact())
    choice = solution.allocation.choice
    assert found.key == ("federated, 8 clients, seed 1", "mine", 2.0)
    assert (found.clients, found.strategies, found.seed) == (8, 3, 1)
    assert (found.outcome, found.verified, found.settings) == ("optimal", True, repr(Exact()))
    assert found.objective == problem.objective(choice)
    assert found.bound == solution.bound
    assert found.round_seconds == problem.round_seconds(choice)
    assert found.loss == problem.total_loss(choice)
    assert found.choice == "".join(str(k) for k in choice)
    assert (found.solver_version, found.provenance) == ("mine 1", "key")


@pytest.mark.parametrize(
    ("solver", "outcome", "verified"),
    [
        (unruly.Lies(), "wrong", None),
        (unruly.Raises("breaks"), "crashed", None),
        (unruly.Raises("refuses"), "refused", None),
        (unruly.Raises("lacks"), "missing", None),
        (unruly.InVain(0.0), "unknown", None),
        (Sweep(), "refused", None),
    ],
)
def test_the_outcome_says_whose_fault_it_is(solver, outcome, verified) -> None:
    found = cell(solver)
    assert (found.outcome, found.verified) == (outcome, verified)
    assert found.objective is found.gap is found.round_seconds is None
    assert found.choice == ""
    assert found.message


def test_an_allocation_that_breaks_a_limit_is_not_verified() -> None:
    problem = replace(SOURCE.build(), deadline_seconds=1e-3, allowed=None)
    measured = call(problem, unruly.Sleeps(0.0))
    assert (measured.outcome, measured.broke_a_limit) == ("unknown", True)
    assert "breaks a limit" in measured.message


def test_a_linear_algebra_error_is_a_crash_although_it_is_a_value_error() -> None:
    def breaks(problem):
        raise np.linalg.LinAlgError("singular")

    assert call(SOURCE.build(), breaks).outcome == "crashed"


def test_infeasible_is_an_answer() -> None:
    problem = FAMILIES["infeasible by a hair"](0, 20)
    assert call(problem, Exact()).outcome == "infeasible"


def test_short_calls_are_repeated_and_long_ones_are_not() -> None:
    calls = []

    def counted(problem):
        calls.append(1)
        return unruly.Sleeps(0.15 if len(calls) > 3 else 0.0)(problem)

    cell(counted)
    assert len(calls) == 3
    cell(counted)
    assert len(calls) == 4


def test_the_best_time_of_the_repeats_counts() -> None:
    pauses = [0.05, 0.01, 0.03]

    def uneven(problem):
        return unruly.Sleeps(pauses.pop(0))(problem)

    assert 0.01 <= cell(uneven).seconds["total"] < 0.05
    assert pauses == [0.03] or not pauses


def test_the_phases_of_a_library_are_told_apart() -> None:
    seconds = cell(Milp()).seconds
    assert set(seconds) == {"build", "solve", "total"}
    assert seconds["build"] + seconds["solve"] <= seconds["total"]


@pytest.mark.skipif(MemoryMark.now().start_bytes is None, reason="the system tells no peaks")
def test_memory_is_the_peak_above_the_start() -> None:
    found = cell(unruly.Holds(megabytes=120))
    assert found.peak_bytes == pytest.approx(120e6, rel=0.1)
    assert cell(unruly.Holds(megabytes=2)).peak_bytes < 20e6  # what was freed does not count
    again = cell(unruly.Holds(megabytes=120))
    assert again.peak_bytes == pytest.approx(120e6, rel=0.1)


def test_memory_of_another_process_is_not_known() -> None:
    assert cell(unruly.Holds(megabytes=1, apart=True)).peak_bytes is None


def test_many_clients_are_not_told_one_by_one(monkeypatch) -> None:
    monkeypatch.setattr(measuring, "MOST_CHOICES", 7)
    assert MOST_CHOICES >= 1000
    found = cell(Exact())
    assert (found.choice, found.verified) == ("", True)


def test_what_was_not_measured_keeps_its_place() -> None:
    task = Task(SOURCE, entered("mine", Exact()), 2.0, "key")
    found = unmeasured(task, "timeout", "not tried.", {})
    assert found.key == measure(task).key
    assert (found.outcome, found.message, found.seconds) == ("timeout", "not tried.", {})
