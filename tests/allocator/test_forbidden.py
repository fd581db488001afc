"""What clients said that they cannot do is never planned again, of them or of their groups."""

import pytest

from fedhq.allocator import HardwareTables, HybridAllocator, parse_menu

MENU = parse_menu(["skip", "ptq-w2a2", "qat-w2a2"])


def test_what_is_forbidden_is_never_planned_again() -> None:
    allocator = HybridAllocator.open(MENU, "qat-w2a2")
    allocator.join(HardwareTables.unknown(MENU, 3), num_examples=[50] * 3)
    assert allocator.plan(1).choice.tolist() == [2, 2, 2]
    allocator.forbid(1, "qat-w2a2")
    assert allocator.plan(2).choice[1] != 2
    allocator.join(HardwareTables.unknown(MENU, 1), num_examples=[50])
    assert allocator.plan(3, [1, 3]).choice[0] != 2
    allocator.forbid(1, "ptq-w2a2")
    assert allocator.plan(4).choice[1] == 0
    before = allocator.state_dict()
    assert before["forbidden"] == [[1, 1], [1, 2]]
    with pytest.raises(ValueError, match=r"without 'skip' nothing is left to client 1"):
        allocator.forbid(1, "skip")
    for client, strategy, words in [
        (4, "skip", r"`client` must be in 0 \.\.\. 3"),
        (-1, "skip", r"`client` must be in 0 \.\.\. 3"),
        (0, "fp32", "`strategy` must be in the menu"),
    ]:
        with pytest.raises(ValueError, match=words):
            allocator.forbid(client, strategy)
    assert allocator.state_dict() == before


def test_a_group_keeps_a_strategy_that_all_of_it_can_do() -> None:
    allocator = HybridAllocator.open(MENU[1:], "qat-w2a2")
    allocator.join(HardwareTables.unknown(MENU[1:], 2), num_examples=[5, 5], groups=["g", "g"])
    allocator.forbid(0, "qat-w2a2")
    assert allocator.plan(1).choice.tolist() == [0, 0]
    with pytest.raises(ValueError, match="client 1 and its group 'g'"):
        allocator.forbid(1, "ptq-w2a2")
    assert allocator.plan(2).choice.tolist() == [0, 0]
