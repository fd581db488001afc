import re
import time
from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import (
    AllocationProblem,
    Budget,
    Coverage,
    Exhaustive,
    Status,
    explain_infeasibility,
)
from fedhq.allocator import infeasible as module
from fedhq.allocator.limits import Limit, with_only

MENU = ("skip", "ptq-w2a2", "qat-w2a2")
SECONDS = [[0, 1, 2], [0, 3, 5]]
LOSS = [[0.3, 0.1, 0], [0.3, 0.1, 0]]
NAMES = ["phone", "watch"]
WORKING = [[False, True, True]] * 2


def explained(**limits):
    return explain_infeasibility(AllocationProblem(MENU, SECONDS, LOSS, clients=NAMES, **limits))


def is_feasible(problem):
    """By enumeration, whatever the goal."""
    aimed = replace(problem, tradeoff=1.0, switching_seconds=None)
    return Exhaustive()(aimed).status is Status.OPTIMAL


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (
            {"deadline_seconds": 2, "allowed": WORKING},
            "deadline_seconds = 2 is out of reach: deadline_seconds >= 3 is needed "
            "(fastest allowed: 'watch' 3). With that it is feasible.",
        ),
        (
            {"deadline_seconds": 0.5},
            "deadline_seconds = 0.5 is out of reach: deadline_seconds >= 1 is needed. With that",
        ),
        (
            {"budgets": [Budget("a_bytes", [[0, 7, 9], [0, 5, 9]], 4)]},
            "a_bytes = 4 is out of reach: a_bytes >= 5 is needed. With that",
        ),
        (
            {"budgets": [Budget("a_bytes", [[0, 7, 9], [0, 5, 9]], 4)], "allowed": WORKING},
            "a_bytes >= 12 is needed (least: 'phone' 7, 'watch' 5). With that",
        ),
        (
            {"max_loss": 0.05, "allowed": [[True, True, False], [True, True, True]]},
            "max_loss = 0.05 is out of reach: max_loss >= 0.1 is needed (least: 'phone' 0.1).",
        ),
        (
            {"min_participation": 0.7, "allowed": [[True, True, True], [True, False, False]]},
            "min_participation = 0.7 is out of reach: min_participation <= 0.5 is needed "
            "(may only skip, share: 'watch' 0.5).",
        ),
    ],
)
def test_a_limit_that_fails_alone_is_named_with_its_least_value_and_clients(limits, words):
    assert words in explained(**limits)


def test_a_cohort_that_may_only_skip_is_told_so():
    message = explained(allowed=[[True, False, False]] * 2, deadline_seconds=9)
    assert "no client may take part" in message


def test_many_clients_are_counted_rather_than_listed():
    problem = AllocationProblem(("fp32",), np.arange(1, 21)[:, None], np.zeros((20, 1)))
    late = Limit.given(AllocationProblem(("fp32",), [[1]], [[0]], deadline_seconds=2))[0]
    message = explain_infeasibility(late.set_to(problem, 2.0))
    assert "'19' 20, '18' 19, '17' 18, '16' 17, '15' 16 and 13 more" in message


def test_limits_that_conflict_are_named_with_the_value_of_each_that_would_do():
    message = explained(
        deadline_seconds=3,
        max_loss=0.15,
        min_participation=0.4,
        budgets=[Budget("uplink_bytes", [[0, 4, 4], [0, 4, 4]], 7)],
    )
    assert message == (
        "No allocation keeps every limit. These limits conflict: max_loss = 0.15, uplink_bytes = 7."
        " With everything else kept, any one of these would do: max_loss >= 0.3;"
        " uplink_bytes >= 8."
    )


def test_coverage_counts_in_the_least_loss():
    term = Coverage([[4], [4]], (0, 0, 1), ((0, 0.4), (1, 0)))
    message = explained(
        max_loss=0.1, coverage=term, allowed=[[True, True, True], [True, True, False]]
    )
    assert "max_loss = 0.1 is out of reach: max_loss >= 0.3 is needed" in message


def test_two_limits_out_of_reach_are_both_named():
    message = explained(
        deadline_seconds=0.5,
        max_loss=0.05,
        allowed=[[True, True, False], [True, True, True]],
    )
    assert "deadline_seconds = 0.5 is out of reach: deadline_seconds >= 1 is needed" in message
    assert "max_loss = 0.05 is out of reach: max_loss >= 0.1 is needed" in message
    assert "That does not suffice. These limits conflict: deadline_seconds = 1, max_loss" in message
    assert "deadline_seconds >= 5" in message


def demands(problem, message):
    """(limit, value) of every "would do" and of the "is needed" of a message."""
    limits = {str(limit): limit for limit in Limit.given(problem)}
    return [
        (limits[name], float(value))
        for name, _, value in re.findall(r"(\w+) ([<>]=) (\d[\d.e+-]*\d|\d)", message)
    ]


def just_short(limit, value):
    step = 1e-4 * max(value, 1e-3)
    return value + step if str(limit) == "min_participation" else max(value - step, 0.0)


def test_the_named_values_are_the_nearest_feasible_ones(make_problem):
    conflicts = singles = 0
    for seed in range(250):
        problem = make_problem(seed)
        if is_feasible(problem):
            continue
        message = explain_infeasibility(problem)
        assert "not settled" not in message
        base, final = problem, message
        if "Even alone" in message:
            needed, _, final = message.partition("With that it is feasible.")
            needed, _, conflict = needed.partition("That does not suffice.")
            for limit, value in demands(problem, needed):
                base = limit.set_to(base, value)
                singles += 1
            for limit, value in demands(problem, needed):
                if limit.value(problem) != value:
                    assert not is_feasible(limit.set_to(base, just_short(limit, value)))
            if not conflict:
                assert is_feasible(base)
                continue
            final = conflict
            assert not is_feasible(base)
        for limit, value in demands(problem, final.partition("would do:")[2]):
            assert is_feasible(limit.set_to(base, value))
            assert not is_feasible(limit.set_to(base, just_short(limit, value)))
            conflicts += 1
    assert conflicts > 25
    assert singles > 25


def test_the_conflict_is_minimal(make_problem):
    seen = 0
    for seed in range(200):
        problem = make_problem(seed)
        if is_feasible(problem):
            continue
        message = explain_infeasibility(problem)
        if "Even alone" in message or "no client" in message:
            continue
        listed = re.findall(r"(\w+) = ", message.partition("These limits conflict:")[2])
        core = [limit for limit in Limit.given(problem) if str(limit) in listed]
        assert not is_feasible(with_only(problem, core))
        for limit in core:
            rest = [other for other in core if other != limit]
            assert is_feasible(with_only(problem, rest))
        seen += 1
    assert seen > 10


@pytest.fixture
def large():
    """Two thousand clients whose budget and maximum loss conflict."""
    rng = np.random.default_rng(0)
    n = 2_500
    loss = np.zeros((n, 3))
    loss[:, 0] = 1 / n
    usage = rng.random((n, 3)) * [0, 1, 1]
    budget = Budget("uplink_bytes", usage, n * 0.1)
    return AllocationProblem(
        MENU, rng.random((n, 3)) * [0, 1, 2], loss, max_loss=0.2, budgets=[budget]
    )


def test_a_large_problem_is_judged_by_its_relaxation_and_says_so(large):
    message = explain_infeasibility(large)
    assert "uplink_bytes = 250" in message
    assert "from the linear relaxation" in message
    values = dict(re.findall(r"(\w+) >= ([\d.]+)", message))
    cheapest = np.sort(large.budgets[0].usage[:, 1:].min(axis=1))
    assert float(values["uplink_bytes"]) == pytest.approx(cheapest[:2000].sum(), rel=1e-4)


def test_what_is_not_settled_in_time_is_said_so(large, monkeypatch):
    monkeypatch.setattr(module, "_TOTAL_SECONDS", 0.0)
    start = time.process_time()  # whatever else the machine does
    message = explain_infeasibility(large)
    assert time.process_time() - start < 5.0
    assert "perhaps not all of them" in message
    assert "was not settled in time" in message


def test_values_are_rounded_to_the_feasible_side():
    deadline, _, share, _ = Limit.given(
        AllocationProblem(
            ("fp32",), [[1]], [[0]], deadline_seconds=1, max_loss=1, min_participation=1,
            budgets=[Budget("a_bytes", [[1]], 1)],
        )
    )  # fmt: skip
    assert deadline.rounded(1.00000001) == 1.00001
    assert deadline.rounded(0.1 + 0.2) == 0.3
    assert share.rounded(0.99999999) == 0.999999
