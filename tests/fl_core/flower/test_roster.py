"""Who takes part: profiles, names, nodes that come and go."""

import time
from dataclasses import replace

import numpy as np
from flower_fleet import FakeGrid, Node, Rounds, Spy, all_around, fleet, play, profiled
from flwr.app import ConfigRecord, Message, RecordDict

from fedhq.allocator import Goal, HybridAllocator
from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.flower.messages.orders import QUERY, RECORD
from fedhq.fl_core.flower.messages.profile import ClientProfile
from fedhq.fl_core.flower.server.enrol import Sizes, hardware_of, join
from fedhq.fl_core.flower.server.strategy import AllocatorStrategy

SIZES = Sizes((0, 500, 500), 4000)
MENU = tuple(Strategy.parse(s) for s in ("skip", "ptq-w2a2", "qat-w2a2"))


def test_times_are_those_told_and_transfers_those_of_the_rates() -> None:
    qat = Strategy.parse("qat-w2a2-u8")  # its wire bits do not matter
    told = ClientProfile(
        "a",
        strategies=(qat,),
        round_seconds=((qat, 3.0),),
        uplink_bytes_per_second=100.0,
        downlink_bytes_per_second=1000.0,
        active_watts=2.0,
    )
    tables = hardware_of([told, ClientProfile("b")], MENU, SIZES)
    np.testing.assert_array_equal(tables.seconds, [[0, np.nan, 3 + 4 + 5], [0, np.nan, np.nan]])
    np.testing.assert_array_equal(tables.allowed, [[1, 0, 1], [1, 1, 1]])
    assert tables.energy_joules is not None
    np.testing.assert_array_equal(tables.energy_joules, [[0, np.nan, 6], [0, np.nan, np.nan]])


def test_labels_of_other_classes_than_most_tell_count_as_withheld() -> None:
    allocator = HybridAllocator.open(MENU, MENU[2])
    counts = [(5.0, 5.0), (8.0, 2.0), (1.0, 2.0, 7.0), None]
    profiles = [ClientProfile(str(k), 10, c) for k, c in enumerate(counts)]
    assert [*join(allocator, profiles, SIZES)] == [0, 1, 2, 3]
    np.testing.assert_allclose(allocator.label_counts[2:], [[6.5, 3.5]] * 2)
    assert [*join(allocator, [ClientProfile("9", 10, (1.0, 2.0, 7.0))], SIZES)] == [4]
    np.testing.assert_allclose(allocator.label_counts[4], [6.5, 3.5])


def test_of_equally_many_the_fewer_classes_are_the_fleets() -> None:
    for counts in [((5.0, 5.0), (1.0,) * 60), ((1.0,) * 60, (5.0, 5.0))]:
        allocator = HybridAllocator.open(MENU, MENU[2])
        join(allocator, [ClientProfile(str(k), 10, c) for k, c in enumerate(counts)], SIZES)
        np.testing.assert_array_equal(allocator.label_counts, [[5.0, 5.0]] * 2)


def test_a_stray_reply_makes_no_member_of_its_sender() -> None:
    """It is asked for its profile when it is really there."""

    def with_stray(message: Message, node: Node) -> list[Message]:
        stray = node.train(message)
        stray.metadata.__dict__["_reply_to_message_id"] = "never sent"
        stray.metadata.__dict__["_src_node_id"] = 7
        return [node.train(message), stray]

    nodes = fleet(2)
    nodes[9_000].spoil = with_stray
    grid = FakeGrid(nodes)
    run = Rounds(all_around(Spy()), grid)
    assert run.next() == [(0, "ok"), (1, "ok"), (1_000_000, "refused")]
    nodes[7] = Node(*profiled(["late"]))
    assert run.next() == [(0, "ok"), (1, "ok"), (2, "ok"), (2, "refused")]


def test_numbers_go_by_names_in_the_order_of_people() -> None:
    names = ["site-10", "site-9", "a", "10", "9"]
    nodes = {k: Node(p) for k, p in enumerate(profiled(names))}
    strategy = all_around(Spy())
    play(strategy, FakeGrid(nodes))
    order = [strategy.roster.member(k).client for k in nodes]
    assert order == [4, 3, 2, 1, 0]


def lies(message: Message, node: Node) -> Message:
    record = dict(node.profile.to_record())
    return Message(RecordDict({RECORD: ConfigRecord({**record, "version": 99})}), reply_to=message)


class Lies(Node):
    def tell(self, message: Message) -> Message:
        return lies(message, self)


class Empty(Node):
    def tell(self, message: Message) -> Message:
        return Message(RecordDict({}), reply_to=message)


class Mute(Node):
    def tell(self, message: Message) -> None:
        return None


def test_who_tells_nothing_or_nonsense_is_plain_and_trains_in_float() -> None:
    able = ClientProfile("z", strategies=(Strategy.parse("fp32"),))
    kinds = [
        (Node(), "no profile"),
        (Lies(*profiled("l")), "version"),
        (Empty(), "no record"),
        (Mute(), "within"),
        (Node(able), "can do nothing of the menu"),
    ]
    nodes = {k: node for k, (node, _) in enumerate(kinds)} | {9: Node(*profiled("x"))}
    strategy = all_around(Spy())
    play(strategy, FakeGrid(nodes))
    lines = {c.client: c for c in strategy.ledger.clients}
    assert lines.pop(0).strategy == "qat-w2a2"
    assert {c.strategy for c in lines.values()} == {"fp32"}
    assert {c.status for c in lines.values()} == {"ok"}
    for k, (node, reason) in enumerate(kinds):
        assert reason in lines[strategy.roster.member(k).client].reason
        assert RECORD not in node.seen[-1].content
    asked = [m for p in strategy._grid.inner.pushes for m in p if m.metadata.message_type == QUERY]
    assert len(asked) == len(nodes)


MOST = ClientProfile(
    "x",
    num_examples=2**32 - 1,
    label_counts=(1e15, -1e15),
    round_seconds=((MENU[1], 1e15), (MENU[2], 1e-9)),
    uplink_bytes_per_second=1e-3,
    downlink_bytes_per_second=1e15,
    active_watts=1e15,
)


def test_a_profile_of_extremes_is_planned() -> None:
    """Whatever a profile may say leads to a plan, also after its times were learned."""
    allocator = HybridAllocator.open(MENU[1:], MENU[2])
    strategy = AllocatorStrategy(Spy(), allocator, profile_seconds=0.2)
    play(strategy, FakeGrid(fleet(2) | {1: Node(MOST), 2: Node(replace(MOST, name="y"))}), 3)
    assert {c.client for c in strategy.ledger.clients} == {0, 1, 2, 3}
    assert {c.status for c in strategy.ledger.clients} == {"ok"}


def test_a_newcomer_that_the_goal_cannot_count_is_plain_and_the_others_are_planned() -> None:
    told = {"active_watts": 2.0, "round_seconds": tuple((s, 3.0) for s in MENU[1:])}
    nodes = fleet(2)
    for node in nodes.values():
        node.profile = replace(node.profile, **told)
    allocator = HybridAllocator.open(
        MENU[1:], MENU[2], goal=Goal(energy_joules=1e3, deadline_seconds=60.0)
    )
    run = Rounds(AllocatorStrategy(Spy(), allocator, profile_seconds=0.2), FakeGrid(nodes))
    assert run.next() == [(0, "ok"), (1, "ok")]
    nodes |= {5: Node(*profiled("x")), 6: Node(*profiled("y", **told))}
    assert run.next() == [(0, "ok"), (1, "ok"), (2, "ok"), (1_000_000, "ok")]
    assert "active_watts" in run.strategy.roster.member(5).reason
    assert run.strategy.roster.member(6).name == "y"


def test_nodes_of_one_name_are_plain_until_one_is_alone_and_then_it_is_that_client() -> None:
    twins = {1: Node(*profiled("a")), 2: Node(*profiled("a")), 3: Node(*profiled("b"))}
    strategy = all_around(Spy())
    run = Rounds(strategy, FakeGrid(twins))
    assert sorted(run.next()) == [(0, "ok"), (1_000_000, "ok"), (1_000_001, "ok")]
    assert "named 'a', too" in strategy.roster.member(1).reason
    run.grid.nodes = {1: twins[1], 3: twins[3]}
    assert sorted(run.next()) == [(0, "ok"), (1, "ok")]
    assert strategy.roster.member(1).name == "a"
    run.grid.nodes = twins
    assert sorted(run.next()) == [(0, "ok"), (1, "ok"), (1_000_001, "ok")]


def test_a_client_that_restarts_is_who_it_was_once_flower_forgets_its_old_node() -> None:
    a, b, back = Node(*profiled("a")), Node(*profiled("b")), Node(*profiled("b"))
    run = Rounds(all_around(Spy()), FakeGrid({1: a, 3: b}))
    assert run.next() == [(0, "ok"), (1, "ok")]
    run.grid.nodes = {1: a, 3: b, 4: back}  # 3 is dead, but still listed
    assert run.next() == [(0, "ok"), (1, "ok"), (1_000_000, "ok")]
    who = run.strategy.roster.member(3)
    run.grid.nodes = {1: a, 4: back}
    assert run.next() == [(0, "ok"), (1, "ok")]
    assert run.strategy.roster.member(4) == who
    run.grid.nodes = {1: a, 3: b, 4: back}  # it had only been away: no number counts twice
    assert run.next() == [(0, "ok"), (1, "ok"), (1_000_001, "ok")]
    assert run.strategy.roster.member(4) == who
    assert run.strategy.allocator.num_clients == 2


def test_who_joins_later_is_asked_and_planned_and_who_left_is_not() -> None:
    nodes = fleet(3)
    run = Rounds(all_around(Spy()), FakeGrid(nodes))
    run.next()
    run.next()
    gone = nodes.pop(9_000)
    nodes[77] = Node(*profiled(["new"]), step=3.0)
    assert run.next() == [(1, "ok"), (2, "ok"), (3, "ok")]
    assert [m.metadata.message_type for m in nodes[77].seen] == [QUERY, "train"]
    assert len(gone.seen) == 3


def test_numbers_do_not_depend_on_who_connects_first() -> None:
    """The first round waits for as many nodes as the inner strategy does."""
    everybody = fleet(3)
    grid = FakeGrid({8_963: everybody[8_963]})
    looked = []

    def connect(seconds: float) -> None:
        looked.append(seconds)
        grid.nodes = everybody

    strategy = all_around(Spy(min_available_nodes=3))
    real, time.sleep = time.sleep, connect
    try:
        play(strategy, grid)
    finally:
        time.sleep = real
    assert looked
    assert [strategy.roster.member(n).client for n in (9_000, 8_963, 8_926)] == [0, 1, 2]


def test_a_node_that_could_not_be_reached_is_asked_again_in_the_next_round() -> None:
    grid = FakeGrid(fleet(2))
    run = Rounds(all_around(Spy(min_train_nodes=1)), grid)
    real = grid.get_node_ids
    grid.get_node_ids = lambda: [*real(), 4]  # Flower still lists it
    assert (1_000_000, "dropped") in run.next()
    grid.nodes[4] = Node(*profiled("x"))
    grid.get_node_ids = real
    assert run.next() == [(0, "ok"), (1, "ok"), (2, "ok")]
