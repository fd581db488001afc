"""What one cell says: outcomes by who is at fault, times, memory, the allocation in short."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedhq.allocator import Cvx, Exact, Milp, Sweep, solve
from fedhq.allocator.instances import FAMILIES
from fedhq.allocator.solvers.cvx_process import process_kept
from fedhq.allocator.solvers.phases import phase
from fedhq.studies.ablation import measure as measuring
from fedhq.studies.ablation.kinds import Kind
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
    assert (found.kind, found.workers) == (Kind.HEURISTIC, 1)


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


@pytest.mark.parametrize(("seconds", "calls"), [(0.0, 5), (0.08, 3), (0.25, 1)])
def test_an_odd_number_of_calls_is_made_the_more_the_shorter_they_are(seconds, calls) -> None:
    made = []

    def counted(problem):
        made.append(1)
        return unruly.Sleeps(seconds)(problem)

    cell(counted)
    assert len(made) == calls


def test_the_median_time_counts_and_the_answer_of_the_first_call() -> None:
    pauses, given = [0.09, 0.01, 0.15], []

    def uneven(problem):
        given.append(len(given))
        answer = unruly.InVain(pauses[given[-1]])(problem)
        return replace(answer, message=f"call {given[-1]}")

    found = cell(uneven)
    assert len(given) == 3
    assert 0.09 <= found.seconds["total"] < 0.15
    assert found.message == "call 0"


def test_the_start_of_a_process_is_no_part_of_the_call() -> None:
    def starts(problem):
        with phase("start"):
            answer = unruly.Sleeps(0.3)(problem)
        return answer

    seconds = cell(starts).seconds
    assert seconds["start"] >= 0.3
    assert 0 < seconds["total"] < 0.3
    assert seconds["total"] >= seconds["solve"]


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


@pytest.mark.skipif(MemoryMark.now().start_bytes is None, reason="the system tells no peaks")
def test_a_process_that_takes_less_than_a_tick_of_the_clock_is_noticed() -> None:
    mark = MemoryMark.now()
    assert mark.rise_bytes() is not None
    subprocess.run(["true"], check=True)
    assert mark.rise_bytes() is None


@pytest.mark.skipif(MemoryMark.now().start_bytes is None, reason="the system tells no peaks")
def test_a_process_that_is_kept_hides_the_memory_of_its_own_work_only() -> None:
    apart = Cvx("SCIPY", time_limit_seconds=30)
    with process_kept():
        first, again, other = cell(apart), cell(apart), cell(Milp())
    assert "start" in call_seconds(apart)  # without `process_kept` each call starts one
    assert "start" not in again.seconds
    assert first.outcome == again.outcome == "optimal"
    assert first.peak_bytes is again.peak_bytes is None
    assert other.peak_bytes is not None


def call_seconds(solver):
    return call(SOURCE.build(), solver).seconds


def test_many_clients_are_not_told_one_by_one(monkeypatch) -> None:
    monkeypatch.setattr(measuring, "MOST_CHOICES", 7)
    assert MOST_CHOICES >= 1000
    found = cell(Exact())
    assert (found.choice, found.verified) == ("", True)


def test_what_was_not_measured_keeps_its_place() -> None:
    task = Task(SOURCE, entered("mine", Exact()), 2.0, "key")
    found = unmeasured(task, "not tried", "in vain.", {})
    assert found.key == measure(task).key
    assert (found.outcome, found.message, found.seconds) == ("not tried", "in vain.", {})
