import re

import numpy as np
import pytest

from fedhq.allocator import AllocationProblem, Budget, violations
from fedhq.allocator.check import exceeds, least_with_tolerance, with_tolerance, within_deadline

MENU = ("skip", "ptq-w2a2", "qat-w2a2")
SECONDS = [[0, 1, 2], [0, 3, 5]]
LOSS = [[0.3, 0.1, 0], [0.3, 0.1, 0]]


def broken(choice, **limits):
    problem = AllocationProblem(MENU, SECONDS, LOSS, 1.0, clients=["phone", "watch"], **limits)
    return violations(problem, np.array(choice))


@pytest.mark.parametrize(
    ("choice", "limits", "words"),
    [
        ([2, 0], {"allowed": [[True, True, False], [True] * 3]}, "client 'phone' is not allowed"),
        (
            [1, 2],
            {"deadline_seconds": 4},
            r"5 s exceeds the deadline of 4 s \(slowest: client 'wat",
        ),
        ([0, 1], {"max_loss": 0.3}, "loss 0.4 exceeds max_loss 0.3"),
        ([1, 1], {"budgets": [Budget("uplink_bytes", SECONDS, 3)]}, "uplink_bytes 4 exceeds its"),
        ([0, 0], {}, "every client skips"),
        ([0, 1], {"min_participation": 0.6}, "participation 0.5 is below min_participation 0.6"),
    ],
)
def test_each_broken_limit_is_found_and_named(choice, limits, words):
    (found,) = broken(choice, **limits)
    assert re.search(words, found)


def test_every_broken_limit_is_listed():
    limits = {"deadline_seconds": 0, "max_loss": 0.1, "min_participation": 1}
    assert len(broken([0, 1], **limits)) == 3


def test_a_choice_on_the_limits_breaks_none():
    limits = {
        "deadline_seconds": 3,
        "max_loss": 0.2,
        "min_participation": 1,
        "budgets": [Budget("a_bytes", SECONDS, 4), Budget("b_bytes", np.zeros((2, 3)), 0)],
    }
    assert broken([1, 1], **limits) == ()


def test_the_tolerance_is_relative_and_nearly_none_at_zero():
    assert not exceeds(1e9 + 100, 1e9)
    assert exceeds(1e9 + 2000, 1e9)
    assert not exceeds(1e-16, 0.0)
    assert exceeds(1e-9, 0.0)
    assert with_tolerance(0.0) < 1e-14


def test_the_deadline_forbids_what_ends_after_it():
    problem = AllocationProblem(MENU, SECONDS, LOSS, deadline_seconds=2.0)
    assert within_deadline(problem).tolist() == [[True, True, True], [True, False, False]]


def test_a_lower_limit_has_the_same_tolerance():
    for limit in (1.0, 1e-3, 1e-12):
        least = least_with_tolerance(limit)
        assert not exceeds(limit, least * (1 + 1e-12))
        assert exceeds(limit, least - 1e-8 * limit - 1e-17)
