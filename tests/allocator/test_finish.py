"""A finish: the last rounds give nothing up for speed, whoever decides in the others."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import (
    FastestWithin,
    FittedLoss,
    FrontierPick,
    Goal,
    HardwareTables,
    HybridAllocator,
    InfeasibleError,
    Outcome,
    Tradeoff,
    Uniform,
    parse_menu,
)

MENU = parse_menu(["skip", "ptq-w2a2", "qat-w2a2"])
SKIP, PTQ, QAT = MENU
SECONDS = np.outer([1.0, 1.5, 4.0], [0.0, 1.0, 2.0])
COUNTS = np.array([[80, 0, 10], [40, 40, 0], [10, 10, 100]])
FITTED = FittedLoss(((0.0, 0.2), (1.0, 0.0)), 0.3, 0.0, 0.01, "by hand")
SOON_MENDED = replace(FITTED, loss_curve=((0.0, 0.2), (0.1, 0.0)), rule_loss=0.005)
"""What rounds without QAT lose, one with QAT in the end mends."""
FASTEST = FrontierPick(FastestWithin(1.0))


def planner(solver, fitted=FITTED, probe=0, **goal) -> HybridAllocator:
    nothing = np.zeros(SECONDS.shape)
    hardware = HardwareTables(SECONDS, nothing, nothing, nothing == 0, MENU)
    return HybridAllocator(
        MENU, hardware, QAT, solver, num_examples=COUNTS.sum(axis=1), label_counts=COUNTS,
        goal=Goal(**goal), fitted=fitted, probe=probe, strict=True,
    )  # fmt: skip


def done(allocator, round_number) -> list:
    plan = allocator.plan(round_number)
    return [plan.strategy(i) for i in range(3)]


@pytest.mark.parametrize(
    ("rounds", "finish", "last"),
    [(20, 0.25, 5), (3, 0.34, 1), (10, 1.0, 10), (10, 0.3, 3), (7, 0.001, 1), (9, 0.0, 0)],
)
def test_as_many_rounds_finish_as_fit_into_the_share(rounds, finish, last) -> None:
    goal = Goal(rounds=rounds if finish else None, finish=finish)
    found = [t for t in range(1, rounds + 1) if goal.is_finish(t)]
    assert found == list(range(rounds - last + 1, rounds + 1))
    assert goal.is_finish(rounds + 1) == (last > 0)  # whoever trains on goes on as it ended
    assert not Goal().is_finish(1)
    assert not Goal(total_seconds=9.0, rounds=rounds).is_finish(rounds + 1)


@pytest.mark.parametrize("solver", [FASTEST, Uniform("ptq-w2a2"), FrontierPick(Tradeoff(0.1))])
def test_it_is_the_most_accurate_round_whoever_decides_before(solver) -> None:
    allocator = planner(solver, rounds=4, finish=0.5)
    assert done(allocator, 1) == done(allocator, 2) != [QAT, QAT, QAT]
    assert done(allocator, 3) == done(allocator, 4) == [QAT, QAT, QAT]
    assert done(allocator, 2) == done(planner(solver), 2)  # in any order, and as without a finish


def test_the_default_rule_hurries_until_then_and_skips_no_more_than_without() -> None:
    allocator = planner(None, SOON_MENDED, rounds=4, finish=0.25)
    assert done(allocator, 1) == done(allocator, 3) == [QAT, QAT, PTQ]  # 4 s, as all-PTQ takes
    assert done(allocator, 4) == [QAT, QAT, QAT]
    assert done(planner(None, SOON_MENDED), 1) == [QAT, QAT, QAT]
    assert done(planner(None, SOON_MENDED, rounds=3, finish=0.25), 2) == [QAT, QAT, PTQ]


def test_it_does_not_hurry_where_the_finish_is_too_short_to_mend_it() -> None:
    allocator = planner(None, rounds=4, finish=0.25)  # nothing but full coverage is enough
    assert done(allocator, 1) == done(planner(None), 1) == done(allocator, 4) == [QAT, QAT, QAT]


def test_a_tradeoff_decides_where_no_solver_is_named() -> None:
    cheap, dear = (planner(None, tradeoff=price) for price in (1e-3, 1e3))
    assert done(cheap, 1).count(SKIP) == 2  # somebody must take part
    assert done(dear, 1) == [QAT, QAT, QAT]


def test_a_finish_is_not_given_to_probing() -> None:
    allocator = planner(None, rounds=2, finish=0.5, probe=5)
    assert done(allocator, 1) != [QAT, QAT, QAT]
    assert done(allocator, 2) == [QAT, QAT, QAT]
    total = planner(None, rounds=2, total_seconds=16.0, probe=5)
    assert done(total, 1) == [QAT, QAT, QAT]  # what it has is not left unused


def test_a_maximum_loss_holds_before_the_finish_too() -> None:
    most = 0.005
    hurried = planner(None, SOON_MENDED, rounds=4, finish=0.25)
    assert hurried.problem().total_loss(hurried.plan(1).choice) > most
    limited = planner(None, SOON_MENDED, rounds=4, finish=0.25, max_loss=most)
    assert limited.plan(1).loss <= most


def test_limits_hold_in_the_finish_too_and_a_tradeoff_does_not() -> None:
    limited = planner(FASTEST, rounds=2, finish=1.0, deadline_seconds=5.0)
    assert done(limited, 1) == [QAT, QAT, PTQ]
    priced = planner(FrontierPick(Tradeoff(1e-3)), rounds=2, finish=1.0, tradeoff=1e-3)
    assert done(priced, 1) == [QAT, QAT, QAT]
    with pytest.raises(InfeasibleError):
        planner(FASTEST, rounds=2, finish=1.0, deadline_seconds=1.0, min_participation=1.0).plan(1)


def test_what_was_learned_of_times_counts_in_it() -> None:
    allocator = planner(FASTEST, rounds=9, finish=0.5, deadline_seconds=5.0)
    for _ in range(4):  # the slow one turns out to be fast
        allocator.observe([Outcome(2, QAT, 2.0, True)])
    assert done(allocator, 9) == [QAT, QAT, QAT]


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ({"finish": -0.1, "rounds": 3}, "0 <= finish <= 1"),
        ({"finish": float("nan"), "rounds": 3}, "0 <= finish <= 1"),
        ({"finish": 0.2}, "`rounds` must be given with `total_seconds` or `finish`"),
        ({"rounds": 3}, "and only then"),
        ({"total_seconds": 9.0}, "`rounds` must be given"),
        ({"finish": 0.2, "rounds": 0}, "rounds >= 1"),
        ({"finish": 0.2, "rounds": 3, "total_seconds": 9.0}, "Leave one out"),
    ],
)
def test_what_cannot_be_is_refused(goal, message) -> None:
    with pytest.raises(ValueError, match=message):
        Goal(**goal)
