"""The time of a solver's phases: exclusive, complete, and nothing where nobody listens."""

from types import SimpleNamespace

import pytest

from fedhq.allocator import Cvx, Exact, Milp, solve
from fedhq.allocator.solvers import phases as module
from fedhq.allocator.solvers.phases import phase, rebook, recording


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is moved."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def test_an_inner_phase_is_not_counted_in_the_outer_one(clock):
    with recording() as seconds, phase("solve"):
        clock.seconds += 2
        with phase("build"):
            clock.seconds += 5
        clock.seconds += 1
    assert seconds == {"solve": 3.0, "build": 5.0}


def test_phases_of_several_runs_add_up(clock):
    with recording() as seconds:
        for _ in range(3):
            with phase("build"):
                clock.seconds += 2
            clock.seconds += 50  # of nobody's
    assert seconds == {"build": 6.0}


def test_a_phase_ends_where_an_error_ends_it(clock):
    @phase("build")
    def fails():
        clock.seconds += 1
        raise KeyError

    with recording() as seconds:
        with pytest.raises(KeyError), phase("solve"):
            fails()
        clock.seconds += 10
        with phase("solve"):
            clock.seconds += 2
    assert seconds == {"build": 1.0, "solve": 2.0}


def test_only_the_innermost_recording_listens():
    with recording() as outer:
        with recording() as inner, phase("solve"):
            pass
        with phase("build"):
            pass
    assert (list(outer), list(inner)) == (["build"], ["solve"])


def test_what_another_process_measured_moves_from_the_running_phase(clock):
    with recording() as seconds, phase("solve"):
        clock.seconds += 4
        rebook("compile", 3.0)
    assert seconds == {"solve": 1.0, "compile": 3.0}


def test_nothing_is_recorded_where_nobody_listens():
    with phase("solve"):
        rebook("compile", 1.0)
    with recording() as seconds:
        pass
    assert seconds == {}


@pytest.mark.parametrize(
    ("solver", "phases"),
    [
        (Exact(), {"solve"}),
        (Milp(), {"build", "solve"}),
        (Cvx(), {"build", "compile", "solve"}),
    ],
)
def test_phases_lie_within_the_call_and_change_no_answer(pair, solver, phases):
    if isinstance(solver, Cvx):
        pytest.importorskip("cvxpy")
    alone = solve(pair, solver)
    with recording() as seconds:
        solution = solve(pair, solver)
    assert set(seconds) == phases
    assert all(value >= 0 for value in seconds.values())
    assert sum(seconds.values()) <= solution.solve_seconds
    assert (solution.allocation.choice == alone.allocation.choice).all()
    assert solution.bound == alone.bound


def test_the_start_of_a_backends_own_process_is_not_its_solving(pair):
    pytest.importorskip("cvxpy")
    with recording() as seconds:
        solution = solve(pair, Cvx("SCIPY", time_limit_seconds=5))
    assert min(seconds[name] for name in ("build", "compile", "solve")) > 0
    assert seconds["start"] > 0.2  # Python and cvxpy: far more than this tiny program takes
    assert sum(seconds.values()) <= solution.solve_seconds
