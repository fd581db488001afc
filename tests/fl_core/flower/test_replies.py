"""What clients send back: whatever is wrong is refused with its reason, and reaches nobody."""

import copy
import math
import time
from pathlib import Path

import numpy as np
import pytest
from flower_fleet import (
    MODEL,
    FakeGrid,
    Node,
    Spy,
    all_around,
    arrays_of,
    fleet,
    play,
    profiled,
    values_of,
)
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from fedhq.fl_core.flower.messages.orders import RECORD, Decision
from fedhq.fl_core.flower.server.own import ServerStrategy
from fedhq.fl_core.records.recorder import read_walls
from fedhq.fl_core.wire.codec import encode_update


def content(message: Message, node: Node) -> RecordDict:
    return node.train(message).content


def spoiled(change):
    """A client whose content `change(content, message)` spoils."""

    def answer(message: Message, node: Node) -> Message:
        records = content(message, node)
        change(records, message)
        return Message(records, reply_to=message)

    return answer


def metrics(**values):
    def change(records: RecordDict, message: Message) -> None:
        records["metrics"] = MetricRecord({"num-examples": 10, "train_loss": 0.5, **values})

    return spoiled(change)


def arrays(**values):
    def change(records: RecordDict, message: Message) -> None:
        for name, value in values.items():
            records["arrays"][name] = Array(np.asarray(value))

    return spoiled(change)


def payload(about=None, **values):
    """A payload that says what it likes; those of the decision unless told."""

    def change(records: RecordDict, message: Message) -> None:
        decision = Decision.from_record(message.content[RECORD])
        update = {"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float32), **values}
        said = {
            "wire_bits": decision.strategy.wire_bits,
            "round_number": decision.round_number,
            "client": decision.client,
            "num_examples": 10,
            **(about or {}),
        }
        coded = encode_update(update, rng=np.random.default_rng(0), **said)
        records["arrays"][RECORD] = Array(np.frombuffer(coded, np.uint8))

    return spoiled(change)


def raw(dtype: type):
    """Sends its model as it is, as a client does without the mod."""

    def change(records: RecordDict, message: Message) -> None:
        del records[RECORD]
        records["arrays"] = arrays_of({k: v.astype(dtype) for k, v in MODEL.items()})

    return spoiled(change)


def extra(records: RecordDict, message: Message) -> None:
    records["more"] = arrays_of()


def more_metrics(records: RecordDict, message: Message) -> None:
    records["more"] = MetricRecord({"num-examples": 10})


def without(name: str):
    return spoiled(lambda records, message: records.pop(name))


def damaged(records: RecordDict, message: Message) -> None:
    array = records["arrays"][RECORD]
    data = bytearray(array.data)
    data[-1] ^= 0xFF
    records["arrays"][RECORD] = Array(array.dtype, array.shape, array.stype, bytes(data))


def bomb(records: RecordDict, message: Message) -> None:
    array = Array(np.zeros(1, np.float32))
    data = array.data.replace(b"(1,), }        ", b"(999999999,), }")
    records["arrays"]["steps"] = Array("float32", (999999999,), array.stype, data)


BAD = {
    "weight nan": (metrics(**{"num-examples": math.nan}), "finite"),
    "weight zero": (metrics(**{"num-examples": 0}), "> 0"),
    "weight negative": (metrics(**{"num-examples": -5.0}), "> 0"),
    "weight of another count": (metrics(**{"num-examples": 11}), "examples = 11"),
    "weight beyond its field": (metrics(**{"num-examples": 1.7e308}), "< 2**32"),
    "weight another float": (metrics(**{"num-examples": 4e9}), "examples = 4000000000"),
    "weight a list": (metrics(**{"num-examples": [1, 2]}), "is a number"),
    "loss infinite": (metrics(train_loss=math.inf), "finite"),
    "no metrics": (without("metrics"), "one MetricRecord"),
    "two of metrics": (spoiled(more_metrics), "one MetricRecord"),
    "no arrays": (without("arrays"), "one ArrayRecord"),
    "two of arrays": (spoiled(extra), "one ArrayRecord"),
    "no weight": (spoiled(lambda r, m: r["metrics"].pop("num-examples")), "is a number"),
    "other metrics": (spoiled(lambda r, m: r["metrics"].pop("train_loss")), "metrics lack"),
    "metrics of another length": (metrics(train_loss=[0.5]), "differ in length at ['train_loss']"),
    "float model": (raw(np.float32), "quant_mod"),
    "int8 model": (raw(np.int8), "quant_mod"),
    "no bytes": (arrays(**{RECORD: np.zeros(3, np.uint8)}), "bytes"),
    "extra tensor": (arrays(c=1.0), "payload and what is not coded"),
    "counter of another shape": (arrays(steps=[1, 2]), "type and shape"),
    "counter of another type": (arrays(steps=1.0), "type and shape"),
    "damaged": (spoiled(damaged), "checksum"),
    "a size beyond memory": (spoiled(bomb), "length"),
    "another client's": (payload({"client": 1}), "sender"),
    "another round's": (payload({"round_number": 7}), "sender"),
    "other bits": (payload({"wire_bits": 8}), "bytes"),
    "other examples": (payload({"num_examples": 9}), "examples = 10"),
    "greater than any training": (payload(b=np.full(5, 1e9, np.float32)), "values <="),
    "no report": (spoiled(lambda r, m: r.update({RECORD: ConfigRecord({})})), "version"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_reply_is_refused_with_its_reason_and_never_reaches_the_inner_strategy(case) -> None:
    spoil, reason = BAD[case]
    nodes = fleet(3)
    nodes[9_000].spoil = spoil
    inner = Spy()
    strategy = all_around(inner)
    result = play(strategy, FakeGrid(nodes))
    line, *others = strategy.ledger.clients
    assert (line.client, line.status) == (0, "refused")
    assert reason in line.reason
    assert "metric" not in line.reason or "payload" not in line.reason
    assert [c.status for c in others] == ["ok", "ok"]
    assert len(inner.handed[0]) == 2
    np.testing.assert_allclose(values_of(result.arrays)["b"], 2.5)


PLAIN_BAD = {
    "nan": ({**MODEL, "b": np.full(5, np.nan, np.float32)}, "finite"),
    "infinite": ({**MODEL, "b": np.full(5, np.inf, np.float32)}, "finite"),
    "shape": ({**MODEL, "b": np.zeros(4, np.float32)}, "shape"),
    "a broadcast": ({**MODEL, "b": np.zeros((1, 5), np.float32)}, "shape"),
    "names": ({"a": MODEL["a"], "b": MODEL["b"]}, "tensors of the model"),
    "int8": ({**MODEL, "a": MODEL["a"].astype(np.int8)}, "type of 'a'"),
    "too great": ({**MODEL, "b": np.full(5, 1e30, np.float32)}, "values <="),
}


@pytest.mark.parametrize("case", PLAIN_BAD)
def test_a_plain_clients_model_is_checked_as_well(case: str) -> None:
    values, reason = PLAIN_BAD[case]
    nodes = {
        1: Node(step=3.0),
        2: Node(spoil=spoiled(lambda r, m: r.update(arrays=arrays_of(values)))),
    }
    inner = Spy()
    strategy = all_around(inner)
    result = play(strategy, FakeGrid(nodes))
    bad = next(c for c in strategy.ledger.clients if c.status != "ok")
    assert (bad.client, bad.status) == (1_000_001, "refused")
    assert reason in bad.reason
    assert len(inner.handed[0]) == 1
    np.testing.assert_array_equal(values_of(result.arrays)["b"], MODEL["b"] + 3)


@pytest.mark.parametrize("inner", [Spy(), ServerStrategy(fraction_evaluate=0.0)])
@pytest.mark.parametrize("weight", [2**32, 4294967295.75])
def test_a_plain_client_that_claims_more_examples_than_a_field_holds_ends_no_run(
    inner: FedAvg, weight: float
) -> None:
    nodes = {1: Node(step=3.0), 2: Node(spoil=metrics(**{"num-examples": weight}))}
    strategy = all_around(copy.deepcopy(inner))
    result = play(strategy, FakeGrid(nodes))
    assert [c.status for c in strategy.ledger.clients] == ["ok", "refused"]
    assert "< 2**32" in strategy.ledger.clients[1].reason
    np.testing.assert_array_equal(values_of(result.arrays)["b"], MODEL["b"] + 3)


def test_weights_that_are_no_counts_weigh_as_they_are() -> None:
    nodes = fleet(2)
    for node, weight in zip(nodes.values(), (0.25, 0.75), strict=True):
        node.num_examples = 0
        node.spoil = metrics(**{"num-examples": weight})
    strategy = all_around(Spy())
    play(strategy, FakeGrid(nodes))
    assert [(c.status, c.share) for c in strategy.ledger.clients] == [("ok", 0.25), ("ok", 0.75)]


NORMED = {
    "a": MODEL["a"],
    "n.running_mean": np.zeros(2, np.float32),
    "n.running_var": np.ones(2, np.float32),
    "n.num_batches_tracked": np.array(3),
}
SPOILED = {
    "variance negative": ({"n.running_var": np.full(2, -0.5, np.float32)}, ">= 0"),
    "mean too great": ({"n.running_mean": np.full(2, -1e37, np.float32)}, "<= 1e+09"),
    "variance too great": ({"n.running_var": np.full(2, 1e37, np.float32)}, "<= 1e+09"),
    "counter too great": ({"n.num_batches_tracked": np.array(2**62)}, "less than 2**32"),
    "counter negative": ({"n.num_batches_tracked": np.array(-(2**62))}, "less than 2**32"),
    "as of pictures in bytes": ({"n.running_var": np.full(2, 5e6, np.float32)}, None),
}


@pytest.mark.parametrize("case", SPOILED)
@pytest.mark.parametrize("is_plain", [False, True])
def test_statistics_and_counters_that_no_training_gives_are_refused(
    case: str, is_plain: bool
) -> None:
    values, reason = SPOILED[case]

    def change(records: RecordDict, message: Message) -> None:
        records["arrays"].update({name: Array(value) for name, value in values.items()})

    nodes = fleet(2)
    nodes[9_000].spoil = spoiled(change)
    for node in nodes.values():
        node.profile = None if is_plain else node.profile
    strategy = all_around(Spy())
    play(strategy, FakeGrid(nodes), arrays=arrays_of(NORMED))
    bad = [c.reason for c in strategy.ledger.clients if c.status != "ok"]
    assert len(bad) == (reason is not None)
    assert all(reason in text for text in bad)


def test_plain_clients_count_beside_others_in_any_float_and_any_order_of_tensors() -> None:
    def odd(records: RecordDict, message: Message) -> None:
        records["arrays"] = arrays_of(
            {
                k: np.asarray(v + 1.0 if v.dtype.kind == "f" else v)
                for k, v in reversed(MODEL.items())
            }
        )

    nodes = {1: Node(step=3.0), 2: Node(spoil=spoiled(odd)), 3: Node(*profiled("x"), step=5.0)}
    strategy = all_around(Spy())
    result = play(strategy, FakeGrid(nodes))
    assert [c.client for c in strategy.ledger.clients] == [0, 1_000_000, 1_000_001]
    assert [*values_of(result.arrays)] == [*MODEL]
    np.testing.assert_allclose(values_of(result.arrays)["b"], MODEL["b"] + 3, rtol=1e-6)


@pytest.mark.parametrize("place", [0, 1])
def test_of_two_clients_one_with_a_metric_more_both_count(place: int) -> None:
    nodes = fleet(2)
    [*nodes.values()][place].spoil = metrics(more=1.0)
    strategy = all_around(Spy())
    play(strategy, FakeGrid(nodes))
    assert [c.status for c in strategy.ledger.clients] == ["ok", "ok"]


def test_if_all_are_refused_the_model_stays() -> None:
    nodes = fleet(2, spoil=metrics(**{"num-examples": 0}))
    inner, first = Spy(), arrays_of()
    result = play(all_around(inner), FakeGrid(nodes), rounds=2, arrays=first)
    assert result.arrays is first
    assert inner.handed == []


def test_a_model_that_the_inner_strategy_spoils_is_dropped(tmp_path: Path) -> None:
    class Spoils(Spy):
        def aggregate_train(self, server_round, replies):
            return arrays_of({**MODEL, "b": np.full(5, np.nan, np.float32)}), None

    strategy = all_around(Spoils(), folder=tmp_path)
    heard = []
    strategy.allocator.observe = lambda several, accuracy: heard.extend(several)
    result = play(strategy, FakeGrid(fleet(2)))
    np.testing.assert_array_equal(values_of(result.arrays)["b"], MODEL["b"])
    assert [(o.seconds, o.succeeded) for o in heard] == [(None, False)] * 2  # they were not slow
    assert [w.client_seconds for w in read_walls(tmp_path)] == [(0.25, 0.25)]
    assert {c.status for c in strategy.ledger.clients} == {"refused"}
    assert "weights stay" in strategy.ledger.clients[0].reason


@pytest.mark.parametrize("code", range(9))
def test_errors_are_those_of_the_client_that_was_asked_whoever_sends_them(code: int) -> None:
    def fails(message: Message, node: Node) -> Message:
        reply = Message(Error(code, "it\nbroke"), reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = 1  # the SuperLink
        return reply

    nodes = fleet(3)
    nodes[9_000 - 37].spoil = fails
    inner = Spy()
    strategy = all_around(inner)
    play(strategy, FakeGrid(nodes))
    line = strategy.ledger.clients[1]
    assert (line.client, line.status) == (1, "dropped" if code in (3, 4, 5) else "failed")
    assert line.reason == f"code {code}: it broke"
    assert [m.metadata.src_node_id for m in inner.handed[0]] == [9_000, 9_000 - 74]


def test_what_a_client_cannot_do_is_never_decided_again() -> None:
    def cannot(message: Message, node: Node) -> Message:
        decision = Decision.from_record(message.content[RECORD])
        if decision.strategy.method == "qat":
            text = "<class 'ValueError'>:<'fedhq: qat-w2a2 needs layers that it has not'>"
            return Message(Error(2, text), reply_to=message)
        return node.train(message)

    nodes = fleet(2)
    nodes[9_000].spoil = cannot
    strategy = all_around(Spy())
    play(strategy, FakeGrid(nodes), rounds=2)
    mine = [(c.strategy, c.status) for c in strategy.ledger.clients if c.client == 0]
    assert mine == [("qat-w2a2", "failed"), ("ptq-w2a2", "ok")]


def test_a_client_that_can_do_nothing_goes_on_as_a_plain_one() -> None:
    def cannot(message: Message, node: Node) -> Message:
        if RECORD in message.content:
            return Message(Error(2, "fedhq: no"), reply_to=message)
        return node.train(message)

    nodes = fleet(2)
    nodes[9_000].spoil = cannot
    strategy = all_around(Spy())
    play(strategy, FakeGrid(nodes), rounds=3)
    statuses = [c.status for c in strategy.ledger.clients if c.client != 1]
    assert statuses == ["failed", "failed", "ok"]


def test_a_second_reply_and_one_to_no_message_do_not_count() -> None:
    def twice(message: Message, node: Node) -> list[Message]:
        first, second = node.train(message, 1.0), node.train(message, 100.0)
        second.metadata.__dict__["_created_at"] = first.metadata.created_at + 1
        stray = node.train(message, 50.0)
        stray.metadata.__dict__["_reply_to_message_id"] = "never sent"
        return [second, stray, first]

    for order in range(3):
        nodes = fleet(2)
        nodes[9_000].spoil = twice
        strategy = all_around(Spy())
        result = play(strategy, FakeGrid(nodes, seed=order))
        np.testing.assert_allclose(values_of(result.arrays)["b"], 1.5)
        reasons = sorted(c.reason.split(":")[0] for c in strategy.ledger.clients if c.reason)
        assert reasons == ["duplicate", "foreign"]


def test_an_error_that_answers_the_clients_own_reply_is_the_clients_and_ends_the_wait() -> None:
    """As of `LocalDpMod`, put before `quant_mod`."""

    def refuse(message: Message, node: Node) -> Message:
        error = Message(Error(7, "LocalDpMod expects one ArrayRecord"), reply_to=message)
        error.metadata.__dict__["_reply_to_message_id"] = "the reply's"
        return error

    nodes = fleet(2)
    nodes[9_000].spoil = refuse
    strategy = all_around(Spy())
    start = time.monotonic()
    play(strategy, FakeGrid(nodes), timeout=20.0)
    assert time.monotonic() - start < 10
    lines = [(c.client, c.status, c.reason) for c in strategy.ledger.clients]
    assert lines == [(0, "failed", "code 7: LocalDpMod expects one ArrayRecord"), (1, "ok", None)]


def test_a_reply_is_not_changed_by_being_read() -> None:
    kept = []

    def remember(message: Message, node: Node) -> Message:
        reply = node.train(message)
        kept.append((reply, copy.deepcopy(reply.content)))
        return reply

    play(all_around(Spy()), FakeGrid(fleet(2, spoil=remember)))
    for reply, before in kept:
        assert {*reply.content} == {*before}
        assert reply.content["arrays"][RECORD].data == before["arrays"][RECORD].data
    assert isinstance(kept[0][0].content["arrays"], ArrayRecord)
