"""When replies come: in time, late, never; and what of that the allocator learns."""

import time

import pytest
from flower_fleet import FakeGrid, Node, Rounds, Spy, all_around, arrays_of, fleet, profiled
from flwr.app import Message, RecordDict

from fedhq.fl_core.flower.server.grid import FleetGrid


class Clock:
    """Stands still but for who sleeps."""

    perf_counter = staticmethod(time.perf_counter)

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    for module in ("grid", "strategy"):
        monkeypatch.setattr(f"fedhq.fl_core.flower.server.{module}.time", found)
    return found


def test_a_deadline_closes_a_round_and_a_late_reply_is_noticed_without_waiting(
    clock: Clock,
) -> None:
    nodes = fleet(3)
    strategy = all_around(Spy(), deadline_seconds=0.05)
    run = Rounds(strategy, FakeGrid(nodes))
    nodes[9_000].silent = True
    run.strategy.roster._seconds = 0.01
    first = run.next(timeout=60)  # its profile is late, too
    assert first[:2] == [(0, "ok"), (1, "ok")]
    assert first[2] == (1_000_000, "late")
    assert clock.monotonic() == pytest.approx(0.01 + 0.05)
    assert strategy.ledger.rounds[0].round_seconds == pytest.approx(0.05)
    assert strategy.ledger.rounds[0].bottleneck is None
    nodes[9_000].silent = False
    run.grid.release()
    second = run.next()
    assert second[:3] == [(2, "ok"), (0, "ok"), (1, "ok")]  # its profile counts now, by its name
    late = strategy.ledger.clients[-1]
    assert (late.client, late.status, late.round, late.staleness) == (1_000_000, "refused", 2, 1)
    assert late.reason.startswith("late: it answers round 1")
    assert late.uplink_bytes > 0


def test_a_late_reply_that_comes_while_a_newcomer_is_asked_is_recorded() -> None:
    class Newcomer(Node):
        def tell(self, message: Message) -> Message:
            run.grid.release()
            return super().tell(message)

    nodes = fleet(2)
    run = Rounds(all_around(Spy()), FakeGrid(nodes))
    run.next()
    nodes[9_000].silent = True
    assert run.next() == [(0, "late"), (1, "ok")]
    nodes[9_000].silent = False
    nodes[3] = Newcomer(*profiled("x"))
    assert run.next() == [(0, "ok"), (1, "ok"), (2, "ok"), (0, "refused")]
    assert "it answers round 2" in run.strategy.ledger.clients[-1].reason


def test_who_is_still_at_work_is_left_alone_unless_nobody_else_is_there() -> None:
    nodes = fleet(3)
    run = Rounds(all_around(Spy()), FakeGrid(nodes))
    run.next()
    nodes[9_000].silent = True
    assert run.next() == [(0, "late"), (1, "ok"), (2, "ok")]
    assert run.next() == [(1, "ok"), (2, "ok"), (0, "skipped")]
    assert "round 2" in run.strategy.ledger.clients[-1].reason
    run.grid.nodes = {9_000: nodes[9_000]}
    run.strategy.inner.min_train_nodes = 1
    assert run.next() == [(0, "late")]
    nodes[9_000].silent = False
    run.grid.release()
    assert run.next() == [(0, "ok"), (0, "refused"), (0, "refused")]


def test_a_node_that_goes_during_a_round_is_dropped() -> None:
    def leaves(message: Message, node: Node) -> None:
        del nodes[9_000]

    nodes = fleet(3)
    nodes[9_000].spoil = leaves
    run = Rounds(all_around(Spy()), FakeGrid(nodes))
    assert run.next() == [(0, "dropped"), (1, "ok"), (2, "ok")]
    assert "gone" in run.strategy.ledger.clients[0].reason


def test_what_flower_cannot_send_does_not_count_as_awaited() -> None:
    class Full(FakeGrid):
        def push_messages(self, messages):
            super().push_messages(messages)
            return [None for _ in messages]  # as a message that is too large

    fleet_grid = FleetGrid(Full({1: Node()}), lambda grid, nodes: [*nodes])
    message = Message(RecordDict({"arrays": arrays_of()}), 1, "train")
    assert fleet_grid.exchange([message], None) == []
    assert not fleet_grid.is_awaited(message.metadata.message_id)


@pytest.mark.parametrize("seconds", [0.125, 1.0])
def test_the_allocator_learns_what_clients_say_and_never_more_than_passed(
    clock: Clock, seconds: float
) -> None:
    """Nodes are at work while messages to others are still being sent."""

    class Slow(FakeGrid):
        def push_messages(self, messages):
            names = super().push_messages(messages)
            clock.sleep(seconds)
            return names

    strategy = all_around(Spy())
    heard = []
    strategy.allocator.observe = lambda several, accuracy: heard.append(several)
    run = Rounds(strategy, Slow(fleet(2)))
    run.next()
    (outcomes,) = heard
    said = 0.25
    assert [(o.client, o.succeeded, o.seconds) for o in outcomes] == [
        (0, True, min(said, seconds)),
        (1, True, min(said, seconds)),
    ]
