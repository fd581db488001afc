"""Real client apps under the strategy; and which Flower that may be."""

import json
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
from flower_fleet import FakeGrid, Node, Spy, all_around, arrays_of, values_of
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedhq.fl_core.flower import decision_of, quant_mod, register_profile
from fedhq.fl_core.flower.versions import require_flower
from fedhq.fl_core.wire.codec import encoded_bytes

START = {"w": np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)}
AIM = np.random.default_rng(1).normal(size=(20, 30)).astype(np.float32)


class App:
    """A real client app that moves its weights halfway to the aim; its state is Flower's."""

    def __init__(self, number: int) -> None:
        self.context = Context(1, number, {"partition-id": number}, RecordDict({}), {})
        self.app = ClientApp(mods=[quant_mod])
        register_profile(self.app)
        self.app.train()(self.train)
        self.strategies: list[str] = []
        self.silent = False

    def train(self, message: Message, context: Context) -> Message:
        self.strategies.append(str(decision_of(message).strategy))
        values = values_of(message.content["arrays"])
        moved = arrays_of({"w": (values["w"] + AIM) / 2})
        metrics = MetricRecord({"num-examples": 10 + int(context.node_config["partition-id"])})
        return Message(RecordDict({"arrays": moved, "m": metrics}), reply_to=message)

    def answer(self, message: Message) -> Message:
        return self.app(message, self.context)


@pytest.mark.parametrize("downlink_bits", [32, 6])
def test_a_rounded_federation_comes_to_the_aim_of_one_in_floats(downlink_bits: int) -> None:
    menu = ["ptq-w4a4", "qat-w4a4"]
    strategy = all_around(Spy(), menu, downlink_bits=downlink_bits)
    apps = {77 - k: App(k) for k in range(3)}
    result = strategy.start(FakeGrid(apps), arrays_of(START), num_rounds=8)
    assert {c.status for c in strategy.ledger.clients} == {"ok"}, strategy.ledger.clients
    assert [strategy.roster.member(n).name for n in (77, 76, 75)] == ["0", "1", "2"]
    assert {s for app in apps.values() for s in app.strategies} == {"qat-w4a4"}
    error = np.abs(values_of(result.arrays)["w"] - AIM).max()
    in_floats = np.abs(START["w"] - AIM).max() / 2**8
    assert error < in_floats + (0.02 if downlink_bits == 32 else 0.2)
    assert all("fedhq" in app.context.state for app in apps.values())  # error feedback
    assert strategy.ledger.rounds[0].uplink_bytes == 3 * encoded_bytes([(20, 30)], 4)


def test_an_app_without_the_mod_takes_part_in_floats() -> None:
    old = App(5)
    old.app = ClientApp()

    def train(message: Message, context: Context) -> Message:
        assert isinstance(message.content["config"], ConfigRecord)
        moved = message.content["arrays"]
        return Message(
            RecordDict({"arrays": moved, "m": MetricRecord({"num-examples": 1})}), reply_to=message
        )

    old.app.train()(train)
    strategy = all_around(Spy(), ["ptq-w4a4"])

    class Old(Node):
        def tell(self, message: Message) -> Message:
            with pytest.raises(ValueError, match="No query function"):
                old.app(message, old.context)
            return super().tell(message)

        def train(self, message: Message, step: float | None = None) -> Message:
            return old.answer(message)

    strategy.start(FakeGrid({1: App(0), 2: Old()}), arrays_of(START), num_rounds=2)
    assert {(c.client, c.status) for c in strategy.ledger.clients} == {
        (0, "ok"),
        (1_000_000, "ok"),
    }


@pytest.mark.parametrize("found", ["1.41.2", "2.0.0", "nightly"])
def test_an_untested_flower_is_refused(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedhq.fl_core.flower.versions.version", lambda name: found)
    with pytest.raises(ImportError, match=rf"version {found} .*fedhq\[flower\]"):
        require_flower()


def test_without_flower_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("fedhq.fl_core.flower.versions.version", missing)
    with pytest.raises(ImportError, match=r"pip install 'fedhq\[flower\]'"):
        require_flower()
    with pytest.raises(ImportError, match="fedhq"):
        from fedhq.fl_core.flower import AllocatorStrategy  # noqa: F401


def test_the_package_and_its_profile_come_without_flower() -> None:
    code = (
        "import json, sys; from fedhq.fl_core.flower import ClientProfile, Decision; "
        "print(json.dumps(sorted(m for m in ('flwr', 'ray', 'torch') if m in sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
