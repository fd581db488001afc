"""Rounds within a total time: what is remembered of earlier ones, and what a round is judged by."""

import numpy as np
import pytest

from fedhq.allocator import Outcome, parse_menu
from fedhq.allocator.adjust.exposure import Exposure
from fedhq.allocator.fleet import FleetTables
from fedhq.allocator.hardware import HardwareTables
from fedhq.allocator.memory import RoundMemory

MENU = parse_menu(["skip", "ptq-w2a2", "qat-w2a2"])
SKIP, PTQ, QAT = MENU


def fleet(label_counts) -> FleetTables:
    hardware = HardwareTables.unknown(MENU, len(label_counts))
    return FleetTables.of(hardware, np.sum(label_counts, axis=1), label_counts)


@pytest.mark.parametrize("lost", [[], [Outcome(0, QAT, 9.0, False)], [Outcome(0, SKIP, 0.0, True)]])
def test_a_round_without_a_usable_update_leaves_what_the_weights_hold(lost) -> None:
    memory, clients = RoundMemory(MENU, QAT, 0.0), fleet([[4, 0], [4, 8]])
    memory.join(2)
    memory.observe([Outcome(0, QAT, 1.0, True), Outcome(1, PTQ, 1.0, True)])
    held = memory.taught(clients)
    assert held[0] > 0 == held[1]
    memory.observe(lost)
    assert memory.taught(clients).tolist() == held.tolist()
    memory.observe([Outcome(1, PTQ, 1.0, True)])  # this one did replace a share of them
    assert memory.taught(clients)[0] < held[0]


def test_counts_that_are_shares_cover_like_counts() -> None:
    counts = np.array([[4.0, 0, 0], [4, 8, 0]])
    memory, exposure = RoundMemory(MENU, QAT, 0.5), Exposure(MENU, QAT)
    for remembered in (memory, exposure):
        remembered.join(2)
        remembered.observe([Outcome(0, QAT, 1.0, True), Outcome(1, PTQ, 1.0, True)])
    for coverage in (memory.taught, memory.carried, exposure.covered):
        found = coverage(fleet(counts))
        assert found[0] > 0
        assert coverage(fleet(counts / 100)) == pytest.approx(found)
        assert found[2] == 0  # nobody holds any
