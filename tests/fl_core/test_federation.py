"""A federation follows from its settings: same settings, same tables; misfits are named."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

import fedhq.fl_core
from fedhq.allocator.hardware import StepProfile
from fedhq.allocator.strategy import parse_menu
from fedhq.fl_core.data.registry import load_dataset
from fedhq.fl_core.engine.local import local_steps
from fedhq.fl_core.federation import Federation
from fedhq.fl_core.predicting import predict_steps
from fedhq.fl_core.profiling import find_profile
from fedhq.fl_core.records.recorder import read_rounds
from fedhq.fl_core.settings import (
    DataSettings,
    DeviceClass,
    FederationSettings,
    FleetSettings,
    ParticipationSettings,
    PartitionSettings,
    TrainingSettings,
)
from fedhq.fl_core.trainer import Trainer
from fedhq.fl_core.wire.codec import encoded_bytes
from fedhq.models import build_model

MENU = ("fp32", "qat-w2a2", "qat-w8a8")
SETTINGS = FederationSettings(
    fleet=FleetSettings((DeviceClass("a", 1, 2.0, 1e5, 1e6),), spread=0.3),
    data=DataSettings("digits", 300, 60),
    partition=PartitionSettings("dirichlet", num_clients=6, alpha=0.4),
    training=TrainingSettings(local_epochs=3),
)


def test_the_same_settings_give_the_same_federation() -> None:
    first, again = Federation.build(SETTINGS), Federation.build(SETTINGS)
    assert first.hardware.seconds.tobytes() == again.hardware.seconds.tobytes()
    assert first.fleet.devices == again.fleet.devices
    for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("kind", "digest"), [("dirichlet", "994ccd4f055356e6"), ("iid", "98a81b3cb9171334")]
)
def test_who_holds_which_example_is_as_it_ever_was(kind, digest) -> None:
    partition = PartitionSettings(kind, num_clients=6, alpha=0.4)
    federation = Federation.build(replace(SETTINGS, partition=partition))
    content = hashlib.sha256()
    for data in (*federation.clients, federation.calibration, federation.test):
        content.update((data.inputs * 16).to(torch.uint8).numpy().tobytes())
        content.update(data.labels.numpy().tobytes())
    content.update(federation.label_counts.tobytes())
    steps = [local_steps(int(n), SETTINGS.training) for n in federation.num_examples]
    content.update(np.array(steps, dtype=np.int64).tobytes())
    assert content.hexdigest()[:16] == digest


def test_another_seed_changes_data_devices_and_weights() -> None:
    first, other = Federation.build(SETTINGS), Federation.build(replace(SETTINGS, seed=1))
    assert not np.array_equal(first.label_counts, other.label_counts)
    assert first.fleet.devices != other.fleet.devices
    assert not torch.equal(next(first.model.parameters()), next(other.model.parameters()))


def test_clients_hold_all_that_neither_test_nor_calibration_holds() -> None:
    federation = Federation.build(SETTINGS)
    assert sum(len(c) for c in federation.clients) == 1797 - 300 - 60
    for data, counts in zip(federation.clients, federation.label_counts, strict=True):
        assert np.bincount(data.labels.numpy(), minlength=10).tolist() == counts.tolist()


def test_clients_keep_their_share_to_test_on_and_train_on_the_rest() -> None:
    whole = Federation.build(SETTINGS)
    assert whole.client_tests is None
    federation = Federation.build(replace(SETTINGS, data=replace(SETTINGS.data, client_test=0.25)))
    assert (federation.num_examples + federation.client_tests.num_examples).tolist() == (
        whole.num_examples.tolist()
    )
    together = federation.label_counts + federation.client_tests.label_counts
    assert together.tolist() == whole.label_counts.tolist()
    assert (federation.hardware.seconds <= whole.hardware.seconds).all()


def test_natural_clients_are_wrists_and_a_natural_split_leaves_fewer(tmp_path: Path) -> None:
    settings = natural_settings(tmp_path, DataSettings("smartwatch", 600, 100))
    federation = Federation.build(settings)
    assert len(federation.clients) == 20
    assert all(len(set(data.groups)) == 1 for data in federation.clients)
    apart = replace(settings, data=DataSettings("smartwatch", 600, 100, "natural"))
    federation = Federation.build(apart)
    assert 15 <= len(federation.clients) < 20
    known = {int(data.groups[0]) for data in federation.clients}
    assert known.isdisjoint(federation.test.groups)
    with pytest.raises(ValueError, match=r"participation.cohort <= clients.* got 20 > 1[5-9]"):
        Federation.build(replace(apart, participation=ParticipationSettings(cohort=20)))


def natural_settings(folder: Path, data: DataSettings) -> FederationSettings:
    """All natural clients, on a profile written by hand."""
    return replace(
        text_settings(folder, "cnn1d 6x100"),
        model="cnn1d",
        data=data,
        partition=PartitionSettings("natural", "all"),
    )


def test_seconds_follow_from_profile_device_steps_and_true_bytes() -> None:
    federation = Federation.build(SETTINGS)
    profile = find_profile(SETTINGS, load_dataset(SETTINGS.data.name)).select(federation.menu)
    shapes = [p.shape for p in federation.model.parameters()]
    client, device, qat = 4, federation.fleet.devices[4], 2
    steps = 3 * -(-len(federation.clients[client]) // 32)
    expected = (
        encoded_bytes(shapes, 32) / device.downlink_bytes_per_second
        + steps * profile.step_seconds[qat] * device.slowdown
        + encoded_bytes(shapes, 4) / device.uplink_bytes_per_second
    )
    assert federation.hardware.seconds[client, qat] == pytest.approx(expected, rel=1e-12)


def test_strategies_that_were_not_measured_are_named() -> None:
    with pytest.raises(ValueError, match="qat-w5a5 was not measured"):
        Federation.build(replace(SETTINGS, menu=("qat-w5a5",)))


@pytest.mark.parametrize("data", ["digits", "mnist5k"])
@pytest.mark.parametrize("model", ["cnn", "mlp"])
def test_every_model_has_a_shipped_profile_for_every_data_set(data, model) -> None:
    settings = replace(SETTINGS, data=DataSettings(data, 300, 60), model=model)
    assert Federation.build(settings).hardware.seconds.max() > 0


def test_a_profile_of_another_batch_size_or_model_is_refused() -> None:
    other = replace(SETTINGS, training=replace(SETTINGS.training, batch_size=64))
    with pytest.raises(ValueError, match=r"batch size 64.*at 32.*--batch-size 64"):
        Federation.build(other)
    path = Path(fedhq.fl_core.__file__).with_name("profiles") / "mnist5k-cnn.json"
    with pytest.raises(ValueError, match=r"'mlp 1x8x8'.*'cnn 1x28x28'"):
        Federation.build(replace(SETTINGS, model="mlp", profile=str(path)))


def text_settings(
    folder: Path, measured: str = "charlm 64", **changes: object
) -> FederationSettings:
    """Four clients with texts, on a profile written by hand."""
    menu = ("skip", "fp32")
    path = folder / "profile.json"
    StepProfile(
        measured, 32, parse_menu(menu), np.array([0, 0.01]), np.array([0, 1e6]), "by hand"
    ).save(path)
    settings = replace(
        SETTINGS,
        menu=menu,
        model="charlm",
        profile=str(path),
        data=DataSettings("pydoc", 200, 32),
        partition=PartitionSettings("iid", num_clients=4),
    )
    return replace(settings, **changes)


def test_texts_count_as_examples_and_their_characters_as_labels(tmp_path: Path) -> None:
    federation = Federation.build(text_settings(tmp_path))
    examples = np.array([len(data) for data in federation.clients])
    assert federation.num_examples.tolist() == examples.tolist()
    assert (federation.label_counts.sum(axis=1) == 64 * examples).all()
    assert federation.label_counts.shape == (4, 71)


def test_skewed_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"partition.kind = \"iid\""):
        Federation.build(text_settings(tmp_path, partition=PartitionSettings("dirichlet")))


def test_a_network_that_does_not_suit_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"for the gru, but got \(64,\).*charlm"):
        Federation.build(text_settings(tmp_path, model="gru"))


def test_without_a_shipped_profile_the_command_that_measures_one_is_named() -> None:
    settings = replace(SETTINGS, model="resnet20", profile="shipped")
    name = settings.data.name
    message = f"{name}-resnet20.json to ship.* `fedhq profile --data {name} --model resnet20"
    with pytest.raises(ValueError, match=message):
        Federation.build(settings)


def test_a_predicted_profile_serves_any_network_batch_size_and_menu_and_is_the_same_again() -> None:
    settings = replace(
        SETTINGS,
        model="resnet20",
        profile="predicted",
        menu=("skip", "ptq-w5a7", "qat-w5a7"),
        training=replace(SETTINGS.training, batch_size=5),
    )
    data = load_dataset(settings.data.name)
    first, again = (find_profile(settings, data) for _ in range(2))
    skip, in_float, quantizing = first.step_seconds
    assert skip == 0 < in_float < quantizing
    assert first.step_seconds.tolist() == again.step_seconds.tolist()
    assert (first.model, first.batch_size) == ("resnet20 1x8x8", 5)


def test_a_device_of_which_a_float_step_was_timed_is_predicted_in_its_own_seconds() -> None:
    data = load_dataset("digits")
    model = build_model("mlp", data.input_shape, 10, 0)
    reference = predict_steps(model, data, MENU, 8, "mine")
    timed = replace(reference.select(parse_menu(["fp32"])), step_seconds=[0.5])
    told = predict_steps(model, data, MENU, 8, "mine", timed)
    assert told.step_seconds[0] == 0.5
    slowdown = 0.5 / reference.step_seconds[0]
    assert told.step_seconds == pytest.approx(reference.step_seconds * slowdown)
    assert told.memory_bytes.tolist() == reference.memory_bytes.tolist()
    larger = predict_steps(model, data, MENU, 16, "mine", timed)
    expected = predict_steps(model, data, MENU, 16, "mine").step_seconds * slowdown
    assert larger.step_seconds == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"`measured` must be of 'theirs'"):
        predict_steps(model, data, MENU, 8, "theirs", timed)
    with pytest.raises(ValueError, match="but all skip"):
        predict_steps(model, data, MENU, 8, "mine", timed.select(parse_menu(["skip"])))


def test_the_settings_offer_exactly_the_networks() -> None:
    offered = sorted(get_args(get_type_hints(FederationSettings)["model"]))
    with pytest.raises(ValueError, match="`name` must be one of") as error:
        build_model("alexnet", (1, 8, 8), 10, seed=0)
    assert f"{offered}, but got 'alexnet'" in str(error.value)


def test_a_run_leaves_the_federation_as_it_was(tmp_path: Path) -> None:
    short = replace(SETTINGS, training=TrainingSettings(rounds=2))
    federation = Federation.build(short)
    before, inputs = federation.digests(), federation.test.inputs
    weights = Trainer(federation, federation.allocator(), tmp_path / "first").run()
    assert federation.digests() == before
    again = Trainer(federation, federation.allocator(), tmp_path / "again").run()
    for name, values in weights.items():
        assert np.array_equal(again[name], values)
    network = federation.network(weights)
    assert torch.equal(next(network.parameters()), torch.from_numpy(next(iter(weights.values()))))
    shipped = federation.ship(weights)
    deployed = read_rounds(tmp_path / "first")[-1].deployed_accuracy
    right = shipped(inputs).argmax(dim=1) == federation.test.labels
    assert right.float().mean().item() == pytest.approx(deployed)


def test_a_kept_profile_of_another_network_of_the_same_class_is_refused(tmp_path: Path) -> None:
    data = load_dataset("digits")
    parts = [data.take(np.arange(k, 200, 4)) for k in range(4)]
    path = tmp_path / "profile.json"

    def federation(*layers: torch.nn.Module) -> Federation:
        network = torch.nn.Sequential(torch.nn.Flatten(), *layers)
        return Federation.of(network, parts, parts[0], parts[1], path)

    first = federation(torch.nn.Linear(64, 10))
    assert (federation(torch.nn.Linear(64, 10)).hardware.seconds == first.hardware.seconds).all()
    with pytest.raises(ValueError, match=r"`profile` must be measured on 'Sequential 1x8x8"):
        federation(torch.nn.Linear(64, 32), torch.nn.Linear(32, 10))
