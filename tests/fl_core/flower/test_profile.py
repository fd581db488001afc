"""How clients tell of themselves: by node configuration, by files, by measuring."""

import math

import numpy as np
import pytest
import torch
from flower_clients import context, network, pattern
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from fedhq.allocator.device import DeviceProfile
from fedhq.allocator.errors import WireError
from fedhq.allocator.hardware import StepProfile
from fedhq.allocator.strategy import parse_menu
from fedhq.fl_core.data.convert import as_dataset
from fedhq.fl_core.flower import ClientProfile, register_profile
from fedhq.fl_core.flower.client.node_config import profile_of_node
from fedhq.fl_core.flower.messages.orders import QUERY
from fedhq.fl_core.profiling import measure_steps
from fedhq.models import build_model

MENU = ["skip", "fp32", "ptq-w2a2", "qat-w2a2"]
STEPS = StepProfile(
    "toy", 32, parse_menu(MENU), np.array([0, 0.01, 0.01, 0.02]), np.array([0, 1e6, 1e6, 3e6]), ""
)
PHONE = DeviceProfile("phone", 2.0, 1e6, 4e6, memory_bytes=2e6, active_watts=3.0)


def ask(app, ctxt, version=1):
    record = ConfigRecord({"version": version, "menu": MENU, "deployed": "qat-w2a2"})
    message = Message(RecordDict({"fedhq": record}), dst_node_id=3, message_type=QUERY)
    return app(message, ctxt).content


# --- By question ---


def test_an_app_answers_with_what_its_node_was_told():
    app = ClientApp()
    register_profile(app)
    node = context(**{"partition-id": 7, "num-partitions": 10, "device-class": "phone"})
    content = ask(app, node)
    assert list(content) == ["fedhq"]
    profile = ClientProfile.from_record(content["fedhq"])
    assert profile == ClientProfile("7", device_class="phone")


def test_an_app_answers_with_its_own_description():
    app = ClientApp()
    own = ClientProfile("site", num_examples=9, label_counts=(4.0, 5.0))
    register_profile(app, lambda _: own)
    assert ClientProfile.from_record(ask(app, context())["fedhq"]) == own


def test_a_question_of_another_version_or_a_description_that_is_none_is_an_error():
    app = ClientApp()
    register_profile(app, lambda ctxt: ctxt.node_config)
    with pytest.raises(WireError, match="version = 1"):
        ask(app, context(), version=2)
    with pytest.raises(ValueError, match="must give a ClientProfile"):
        ask(app, context())


def test_an_app_can_be_registered_once():
    app = ClientApp()
    register_profile(app)
    with pytest.raises(ValueError, match=r"called once for an app.*already registered"):
        register_profile(app)
    with pytest.raises(ValueError, match=r"not for one with `client_fn`.*get_properties"):
        register_profile(ClientApp(lambda context: None))


# --- By node configuration and files ---


def test_all_keys_of_a_node_are_read():
    node = {
        "client-name": "site-3",
        "partition-id": 7,
        "num-examples": 120,
        "label-counts": "100, 20,0",
        "device-class": "pi",
        "strategies": "skip, ptq-w2a2",
        "uplink-bytes-per-second": 1e6,
        "downlink-bytes-per-second": 2000000,
        "active-watts": "4.5",
    }
    assert profile_of_node(context(**node)) == ClientProfile(
        "site-3",
        num_examples=120,
        label_counts=(100.0, 20.0, 0.0),
        device_class="pi",
        strategies=parse_menu(["skip", "ptq-w2a2"]),
        uplink_bytes_per_second=1e6,
        downlink_bytes_per_second=2e6,
        active_watts=4.5,
    )


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"partition-id": None}, "`partition-id` or `client-name`"),
        ({"num-examples": "many"}, "`num-examples` must be a number"),
        ({"num-examples": -1}, "num_examples"),
        ({"label-counts": "1;2"}, "`label-counts` must be numbers"),
        ({"strategies": "skip,best"}, "best"),
        ({"uplink-bytes-per-second": 0}, "0.001 <= uplink_bytes_per_second"),
        ({"device-profile": "missing.json"}, "must be a device profile"),
    ],
)
def test_a_node_that_is_told_nonsense_says_what(changes, match):
    node = {"partition-id": 1, **changes}
    node = {key: value for key, value in node.items() if value is not None}
    with pytest.raises(ValueError, match=match):
        profile_of_node(context(**node))


def test_files_of_fedhq_profile_give_times_and_leave_out_what_memory_does_not_hold(tmp_path):
    PHONE.save(tmp_path / "device.json")
    STEPS.save(tmp_path / "steps.json")
    node = {"partition-id": 3, "device-profile": str(tmp_path / "device.json")}
    profile = profile_of_node(context(**node))
    assert profile == ClientProfile(
        "3",
        device_class="phone",
        uplink_bytes_per_second=1e6,
        downlink_bytes_per_second=4e6,
        active_watts=3.0,
    )
    node["step-profile"] = str(tmp_path / "steps.json")
    with pytest.raises(ValueError, match="`local-steps` must stand beside"):
        profile_of_node(context(**node))
    node |= {"local-steps": 50, "num-examples": 1600}
    profile = profile_of_node(context(**node))
    fp32, ptq = parse_menu(["fp32", "ptq-w2a2"])
    assert profile.strategies == parse_menu(["skip", "fp32", "ptq-w2a2"])
    assert profile.round_seconds == ((fp32, 1.0), (ptq, 1.0))  # 50 steps, twice as slow
    assert profile.num_examples == 1600


def test_a_device_that_holds_nothing_is_refused():
    tiny = DeviceProfile("tag", 1.0, 1e3, 1e3, memory_bytes=10)
    with pytest.raises(ValueError, match=r"`memory_bytes >= 3e\+06`"):
        ClientProfile.of_device("3", tiny, STEPS, MENU, local_steps=1)


# --- By measuring ---


def test_measuring_gives_every_strategy_a_time_and_leaves_the_model_alone():
    model = build_model("cnn", (1, 8, 8), num_classes=3, seed=0)
    before = [p.detach().clone() for p in model.parameters()]
    images, labels = pattern(96)
    loader = DataLoader(TensorDataset(images, labels), batch_size=24)
    profile = ClientProfile.measure(
        "3", model, loader, MENU, labels=labels, num_classes=4, samples=1, memory_bytes=1e9
    )
    assert profile.num_examples == 96
    assert profile.label_counts == (32.0, 32.0, 32.0, 0.0)
    assert profile.strategies == parse_menu(MENU)
    seconds = dict(profile.round_seconds)
    fp32, ptq, qat = parse_menu(MENU[1:])
    assert 0 < seconds[fp32] == seconds[ptq]  # the same steps
    assert seconds[qat] > 0
    assert all((a == b).all() for a, b in zip(before, model.parameters(), strict=True))


def test_what_memory_does_not_hold_is_left_out():
    """The limit lies between what float training and QAT take, as `measure_steps` says."""
    model, (images, labels) = build_model("cnn", (1, 8, 8), num_classes=3, seed=0), pattern(32)
    steps = measure_steps(model, as_dataset((images, labels)), MENU, 16, "cnn", samples=1)
    limit = float(np.mean(steps.memory_bytes[[1, 3]]))
    assert steps.memory_bytes[1] < limit < steps.memory_bytes[3]
    profile = ClientProfile.measure(
        "3", model, (images, labels), MENU, batch_size=16, samples=1, memory_bytes=limit
    )
    assert profile.strategies == parse_menu(MENU[:3])
    assert profile.label_counts is None
    with pytest.raises(ValueError, match="memory_bytes"):
        ClientProfile.measure(
            "3", model, (images, labels), MENU, batch_size=16, samples=1, memory_bytes=10
        )


def test_networks_with_running_statistics_are_measured_and_left_alone():
    model, data = network(), pattern(32)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    profile = ClientProfile.measure("3", model, data, ["fp32"], local_steps=7, samples=1)
    assert [s for s, _ in profile.round_seconds] == [*parse_menu(["fp32"])]
    assert all((value == state[name]).all() for name, value in model.state_dict().items())
    assert model[1].track_running_stats


class Endless(IterableDataset):
    def __iter__(self):
        images, labels = pattern(64)
        while True:
            yield from zip(images, labels, strict=True)


def test_loaders_without_an_end_or_a_batch_are_told_apart():
    model = build_model("mlp", (1, 8, 8), num_classes=3, seed=0)
    profile = ClientProfile.measure(
        "3", model, DataLoader(Endless(), batch_size=8), ["fp32"], samples=1
    )
    assert profile.num_examples == 32  # those that were looked at
    empty = DataLoader(TensorDataset(torch.zeros(0, 1, 8, 8), torch.zeros(0)))
    with pytest.raises(ValueError, match="the loader is empty"):
        ClientProfile.measure("3", model, empty, ["fp32"], samples=1)


@pytest.mark.parametrize(
    ("labels", "num_classes", "match"),
    [([0, 1], None, "`num_classes`"), ([0, 3], 3, "from 0 to 3"), ([-1], 3, "from -1")],
)
def test_labels_that_no_class_has_are_refused(labels, num_classes, match):
    model = build_model("mlp", (1, 8, 8), num_classes=3, seed=0)
    with pytest.raises(ValueError, match=match):
        ClientProfile.measure(
            "3", model, pattern(8), ["fp32"], labels=labels, num_classes=num_classes, samples=1
        )


def test_rates_that_are_not_told_are_unlimited():
    profile = ClientProfile.from_record(ClientProfile("a").to_record())
    assert profile.uplink_bytes_per_second == math.inf


def test_strategies_may_be_texts_and_are_read_at_once():
    profile = ClientProfile(
        "a", strategies=("fp32", "ptq-w2a2"), round_seconds=(("ptq-w2a2", 2.0),)
    )
    assert profile.strategies == parse_menu(["fp32", "ptq-w2a2"])
    assert ClientProfile.from_record(profile.to_record()) == profile
    for odd in ({"strategies": ("nonsense",)}, {"round_seconds": (("nonsense", 2.0),)}):
        with pytest.raises(ValueError, match="nonsense"):
            ClientProfile("a", **odd)
