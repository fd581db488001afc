"""The server's log: a forgotten line of an app is named, with how to mend it."""

import logging
import re
from contextlib import nullcontext

import pytest
import torch
from flower_fleet import FakeGrid, Node, Spy, all_around, fleet, play
from flwr.app import ArrayRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedhq.fl_core.flower import allocated, quant_mod, register_profile


class AppNode:
    """A node whose app may lack a line; what it raises is answered as Flower does."""

    silent = False

    def __init__(self, place: int, forgotten: str) -> None:
        app = ClientApp(mods=[] if forgotten == "quant_mod" else [quant_mod])
        self.app = app if forgotten == "register_profile" else register_profile(app)
        self.context = Context(1, place, {"partition-id": place}, RecordDict(), {})
        self.app.train()(self.train)
        self.with_allocated = forgotten != "allocated"

    def train(self, message: Message, context: Context) -> Message:
        model = torch.nn.Linear(4, 2)
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        with allocated(model, message) if self.with_allocated else nullcontext():
            model(torch.ones(3, 4))
        content = {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"num-examples": 3}),
        }
        return Message(RecordDict(content), reply_to=message)

    def answer(self, message: Message) -> Message:
        try:
            return self.app(message, self.context)
        except Exception as error:
            return Message(Error(2, f"{type(error)}:<'{error}'>"), reply_to=message)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        r.getMessage()
        for r in caplog.records
        if r.levelno == logging.WARNING and "fedhq" in r.getMessage()
    ]


FORGOTTEN = {
    ("", 8): [],
    ("register_profile", 32): ["3 clients plain: .*No query", r"`register_profile\("],
    ("quant_mod", 32): ["round 1: 3 clients failed: .*`ClientApp.mods=.quant_mod.*"],
    ("quant_mod", 8): ["round 1: 3 clients failed: .*Missing key.*Put `quant_mod` first"],
    ("allocated", 32): ["round 1: 3 clients failed: .*inside `with allocated.model, message"],
}


@pytest.mark.parametrize(("forgotten", "bits"), FORGOTTEN)
def test_a_forgotten_line_is_named_once_with_its_mend(
    forgotten: str, bits: int, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = {k: AppNode(k, forgotten) for k in range(3)}
    model = ArrayRecord(torch.nn.Linear(4, 2).state_dict())
    play(all_around(Spy(), downlink_bits=bits), FakeGrid(nodes), arrays=model)
    found, expected = warnings_of(caplog), FORGOTTEN[forgotten, bits]
    assert len(found) == len(expected)
    for text, pattern in zip(found, expected, strict=True):
        assert re.search(pattern, text)


def test_each_reason_of_a_round_is_told_with_its_clients_and_a_plain_client_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(text: str):
        return lambda message, node: Message(Error(2, text), reply_to=message)

    nodes = {**fleet(4), 1: Node()}
    for place, text in {9_000: "disk full", 8_963: "disk full", 8_926: "no"}.items():
        nodes[place].spoil = fails(text)
    play(all_around(Spy()), FakeGrid(nodes), rounds=2)
    found = warnings_of(caplog)
    told = [text for text in found if "round" in text]
    assert told == [
        f"fedhq: round {number}: {rest}"
        for number in (1, 2)
        for rest in ("2 clients failed: code 2: disk full", "1 client failed: code 2: no")
    ]
    assert ["1 client plain" in text for text in found if text not in told] == [True, False]


def test_what_clients_write_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fails(message: Message, node: Node) -> Message:
        return Message(Error(2, f"{message.metadata.dst_node_id}"), reply_to=message)

    play(all_around(Spy()), FakeGrid(fleet(40, spoil=fails)))
    assert len(warnings_of(caplog)) == 11
    assert "30 other reasons" in warnings_of(caplog)[-1]
