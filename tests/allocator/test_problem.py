import dataclasses

import numpy as np
import pytest

from fedhq.allocator import AllocationProblem, Budget, Coverage

MENU = ("skip", "ptq-w2a2", "qat-w2a2")
SECONDS = [[0, 1, 2], [0, 3, 5]]
LOSS = [[0.3, 0.1, 0], [0.3, 0.1, 0]]
CURVE = ((0, 0.4), (0.5, 0))
COUNTS = [[8, 0], [0, 2]]


def problem(**changes):
    settings = {"strategies": MENU, "seconds": SECONDS, "loss": LOSS, "tradeoff": 1.0} | changes
    return AllocationProblem(**settings)


def coverage(**changes):
    settings = {"label_counts": COUNTS, "teaches": (0, 0, 1), "loss_curve": CURVE} | changes
    return Coverage(**settings)


WRONG = [
    ({"strategies": ()}, "`strategies` must name at least one"),
    ({"strategies": ("skip", "ptq-w2a2", "int8")}, "got 'int8'"),
    ({"strategies": ("skip", "skip", "ptq-w2a2")}, "more than once"),
    ({"seconds": [], "loss": []}, r"`seconds` must (have|be)"),
    ({"seconds": np.empty((0, 3)), "loss": np.empty((0, 3))}, "at least one client"),
    ({"seconds": [[0, 1], [0, 3]]}, r"`seconds` must have shape \(2, 3\), but got \(2, 2\)"),
    ({"seconds": [[0, 1, 2], [0, 3]]}, "`seconds` must be an array of numbers"),
    ({"seconds": [[0, 1, np.nan], [0, 3, 5]]}, r"`seconds` must be finite .*seconds\[0, 2\] = nan"),
    ({"seconds": [[0, 1, 2], [0, -3, 5]]}, r"`seconds` must be finite .*seconds\[1, 1\] = -3"),
    ({"seconds": [[0, 1, np.inf], [0, 3, 5]]}, "Use `allowed` for what a client cannot do"),
    ({"seconds": [[1, 1, 2], [0, 3, 5]]}, "`seconds` must be 0 for skip"),
    ({"loss": [[0.3, 0.1, 0]]}, r"`loss` must have shape \(2, 3\)"),
    ({"loss": [[0.3, 0.1, -1], [0, 0, 0]]}, "`loss` must be finite and >= 0"),
    ({"tradeoff": -1.0}, "`tradeoff` must be finite and >= 0"),
    ({"tradeoff": np.nan}, "`tradeoff` must be finite"),
    ({"tradeoff": 0.0}, "`tradeoff > 0` must hold"),
    ({"deadline_seconds": -1}, r"`deadline_seconds` must be finite and >= 0, but got -1.0\.$"),
    ({"strategies": (1, 2, 3)}, "every strategy must be a Strategy or text, but got 1"),
    ({"num_examples": [1, np.nan]}, r"num_examples\[1\] = nan \(1 such values\)\.$"),
    ({"max_loss": np.inf}, "`max_loss` must be finite"),
    ({"allowed": [[True, True, True]]}, r"`allowed` must be bool of shape \(2, 3\)"),
    ({"allowed": np.ones((2, 3))}, "`allowed` must be bool"),
    ({"allowed": [[False] * 3, [True] * 3]}, r"nothing is allowed to \['0'\] \(1 in all\)"),
    ({"budgets": [Budget("uplink_bytes", [[0, 1]], 1)]}, "budget 'uplink_bytes' must have shape"),
    ({"budgets": [Budget("a_bytes", SECONDS, 1)] * 2}, "`budgets` must name different resources"),
    ({"coverage": coverage(label_counts=[[1, 1]])}, "`label_counts` must have 2 clients"),
    ({"coverage": coverage(teaches=(0, 1))}, r"`teaches` must have shape \(3,\)"),
    ({"num_examples": [1, 2, 3]}, "`num_examples` must have shape"),
    ({"num_examples": [1, -2]}, "`num_examples` must be finite"),
    ({"num_examples": [0, 0]}, "`num_examples` must hold at least one example"),
    ({"min_participation": 1.5}, "`0 <= min_participation <= 1` must hold"),
    ({"min_participation": -0.5}, "`min_participation` must be finite and >= 0"),
    ({"switching_seconds": [[1, 2, 3]]}, "`switching_seconds` must have shape"),
    (
        {"switching_seconds": SECONDS, "tradeoff": None, "deadline_seconds": 1.0},
        "`switching_seconds` needs a `tradeoff`",
    ),
    ({"clients": ["a"]}, "`clients` must be 2 different names"),
    ({"clients": ["a", "a"]}, "`clients` must be 2 different names, but got 2 names, 1 of"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_a_wrong_field_is_named_in_the_error(changes, message):
    with pytest.raises(ValueError, match=message):
        problem(**changes)


WRONG_COVERAGE = [
    ({"label_counts": [1, 2]}, "`label_counts` must have shape"),
    ({"label_counts": [[1, -1], [0, 0]]}, "`label_counts` must be finite"),
    ({"teaches": (0, 0, 1.5)}, "`0 <= teaches <= 1` must hold"),
    ({"teaches": [[0, 1]]}, "`0 <= teaches <= 1` must hold"),
    ({"loss_curve": (0, 1)}, "`loss_curve` must be at least one point"),
    ({"loss_curve": np.empty((0, 2))}, "`loss_curve` must be at least one point"),
    ({"label_counts": [[8, 0], [2]]}, "`label_counts` must have as many classes for every client"),
    ({"label_counts": np.empty((2, 0))}, "with at least one class"),
    ({"population": (80, 1)}, "class 1 has 1 in all and 2 with these clients"),
    ({"loss_curve": ((0.1, 0.4), (0.5, 0))}, "must rise in coverage from 0"),
    ({"loss_curve": ((0, 0.4), (0, 0.2))}, "must rise in coverage from 0"),
    ({"loss_curve": ((0, 0.1), (0.5, 0.4))}, "must not rise in loss"),
    ({"loss_curve": ((0, 0.4), (0.5, 0.35), (0.6, 0))}, "must be convex .* convex hull"),
    ({"population": (8,)}, "`population` must have shape"),
    (
        {"population": (8, 0)},
        r"`population >= label_counts.sum\(axis=0\)` must hold .*class 1 has 0",
    ),
    ({"label_counts": [[0, 0], [0, 0]]}, "`population` must hold at least one example"),
    ({"carried": (0, np.nan)}, "`carried` must be finite"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_COVERAGE)
def test_a_wrong_field_of_the_coverage_is_named_in_the_error(changes, message):
    with pytest.raises(ValueError, match=message):
        coverage(**changes)


@pytest.mark.parametrize(
    ("usage", "limit", "message"),
    [
        ([1, 2], 1, "budget 'x_bytes' must have shape"),
        ([[np.nan]], 1, "`usage of x_bytes` must be finite"),
        ([[1]], -1, "`limit of x_bytes` must be finite and >= 0"),
    ],
)
def test_a_wrong_field_of_a_budget_is_named_in_the_error(usage, limit, message):
    with pytest.raises(ValueError, match=message):
        Budget("x_bytes", usage, limit)


@pytest.mark.parametrize("limits", [{}, {"deadline_seconds": 3.0, "max_loss": 0.3}])
def test_a_problem_without_a_goal_has_no_objective_and_says_so_when_solved(limits):
    aimless = problem(tradeoff=None, **limits)
    assert not aimless.has_goal
    assert np.isnan(aimless.objective(np.array([1, 1])))
    with pytest.raises(ValueError, match="`tradeoff=None` needs either"):
        aimless.time_weight


def test_the_given_limit_decides_what_is_minimised():
    by_loss, by_time = (
        problem(tradeoff=None, deadline_seconds=3),
        problem(tradeoff=None, max_loss=1),
    )
    assert (by_loss.time_weight, by_loss.loss_weight) == (0, 1)
    assert (by_time.time_weight, by_time.loss_weight) == (1, 0)


def test_arrays_are_copied_and_read_only():
    seconds = np.array(SECONDS, dtype=float)
    held = problem(seconds=seconds).seconds
    seconds[0, 1] = 99
    assert held[0, 1] == 1
    with pytest.raises(ValueError, match="read-only"):
        held[0, 1] = 2


def test_replace_changes_one_field_and_keeps_the_rest():
    original = problem(budgets=[Budget("a_bytes", SECONDS, 4)], coverage=coverage())
    changed = dataclasses.replace(original, deadline_seconds=4.0)
    assert changed.deadline_seconds == 4.0
    assert changed.budgets == original.budgets
    assert changed.objective(np.array([1, 2])) == original.objective(np.array([1, 2]))


def test_participation_weighs_by_labels_unless_examples_are_given():
    assert problem().participation(np.array([0, 1])) == 0.5
    assert problem(coverage=coverage()).participation(np.array([0, 1])) == 0.2
    assert problem(num_examples=[1, 3]).participation(np.array([0, 1])) == 0.75


@pytest.mark.parametrize("name", ["seconds", "loss", "switching_seconds"])
def test_tables_whose_sums_overflow_are_refused(pair, name):
    with pytest.raises(ValueError, match=rf"`{name}` must stay below 1e\+307 .* is 1e\+308"):
        dataclasses.replace(pair, **{name: np.full((2, 2), 1e308)})


def test_label_counts_whose_sum_over_clients_and_classes_overflows_are_refused():
    problem(coverage=coverage(label_counts=np.full((2, 2), 2e306)))
    with pytest.raises(ValueError, match=r"`label_counts` must stay below 1e\+307 .* is 4e\+306"):
        problem(coverage=coverage(label_counts=np.full((2, 2), 4e306)), num_examples=[1, 1])
