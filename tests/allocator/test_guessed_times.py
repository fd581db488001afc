"""What was learned while a time was only guessed, and newcomers then tell better."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import HardwareTables, HybridAllocator, Outcome, parse_menu

MENU = parse_menu(["skip", "ptq-w2a2", "qat-w2a2"])


def test_what_was_learned_against_a_guess_holds_when_newcomers_improve_the_guess() -> None:
    allocator = HybridAllocator.open(MENU, "qat-w2a2")
    allocator.join(HardwareTables.unknown(MENU, 2), num_examples=[5, 5])
    for strategy, seconds in [(MENU[2], 160.0)] * 5 + [(MENU[1], 100.0)] * 2:
        allocator.observe([Outcome(0, strategy, seconds, True)])
    before = allocator.time_model.predict()
    told = np.outer([80.0, 90.0, 120.0], [0.0, 1.0, 1.6])
    newcomers = replace(HardwareTables.unknown(MENU, 3), seconds=told)
    allocator.join(newcomers, num_examples=[5] * 3)
    times = allocator.time_model.predict()
    assert times.seconds[0] == pytest.approx([0, 100, 160], rel=0.01)
    assert times.log_spread[0] == pytest.approx(before.log_spread[0])


def test_how_far_a_guess_was_off_stays_in_the_spread_until_newer_rounds_take_its_place() -> None:
    """Against an allocator that knew the newcomers' times from the start."""
    told = np.outer([80.0, 90.0, 120.0], [0.0, 1.0, 1.6])
    newcomers = replace(HardwareTables.unknown(MENU, 3), seconds=told)
    grown, built = (HybridAllocator.open(MENU, "qat-w2a2") for _ in range(2))
    for allocator in (grown, built):
        allocator.join(HardwareTables.unknown(MENU, 2), num_examples=[5, 5])
    built.join(newcomers, num_examples=[5] * 3)
    rounds = [[Outcome(0, MENU[s], [0.0, 100.0, 160.0][s], True)] for s in (1, 2)]
    for outcomes in rounds:
        grown.observe(outcomes)
        built.observe(outcomes)
    grown.join(newcomers, num_examples=[5] * 3)
    mine, theirs = (a.time_model.predict().log_spread[0, 1:] for a in (grown, built))
    assert (mine > 2 * theirs).all()
    for outcomes in rounds * 8:
        grown.observe(outcomes)
        built.observe(outcomes)
    mine, theirs = (a.time_model.predict() for a in (grown, built))
    assert mine.log_spread[0] == pytest.approx(theirs.log_spread[0], rel=0.05)
    assert mine.seconds[0] == pytest.approx(theirs.seconds[0], rel=0.01)
