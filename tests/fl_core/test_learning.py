"""Every network learns a small real task with plain SGD in a few steps, alone and in a fleet."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedhq.allocator import StepProfile, Uniform, parse_menu
from fedhq.fl_core.data.datasets import split_dataset
from fedhq.fl_core.data.registry import load_dataset
from fedhq.fl_core.federation import Federation
from fedhq.fl_core.records.recorder import read_clients, read_rounds
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
from fedhq.models import accuracy, build_model


@pytest.mark.parametrize(
    ("name", "data", "learning_rate", "steps", "wanted"),
    [
        ("cnn", "digits", 0.1, 80, 0.6),  # one in ten by chance
        ("mlp", "digits", 0.1, 80, 0.6),
        ("resnet8", "digits", 0.1, 80, 0.6),
        ("resnet20", "digits", 0.1, 100, 0.4),
        ("vit", "digits", 0.1, 100, 0.5),
        ("cnn1d", "smartwatch", 0.1, 80, 0.4),  # one in seven by chance
        ("gru", "smartwatch", 0.3, 80, 0.35),
        ("charlm", "pydoc", 0.3, 90, 0.25),  # 0.18 by always saying a blank
    ],
)
def test_a_network_learns_a_small_real_task(name, data, learning_rate, steps, wanted) -> None:
    dataset = load_dataset(data)
    split = split_dataset(dataset, 400, 10, np.random.default_rng(0))
    model = build_model(name, dataset.input_shape, dataset.num_classes, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        batch = split.train.take(rng.integers(len(split.train), size=32))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch.inputs), batch.labels).backward()
        optimizer.step()
    assert accuracy(model, split.test.inputs, split.test.labels, 400) > wanted


@pytest.mark.parametrize(
    ("model", "label", "data", "partition", "cohort", "wanted"),
    [
        ("cnn1d", "cnn1d 6x100", "smartwatch", PartitionSettings("dirichlet", 5, 1.0), 5, 0.4),
        ("charlm", "charlm 64", "pydoc", PartitionSettings("iid", 15), 3, 0.24),
    ],
)
def test_a_fleet_learns_from_series_and_from_text(
    tmp_path: Path, model, label, data, partition, cohort, wanted
) -> None:
    menu = parse_menu(["fp32"])
    profile = StepProfile(label, 32, menu, np.array([0.01]), np.array([1e6]), "by hand")
    profile.save(tmp_path / "profile.json")
    settings = FederationSettings(
        fleet=FleetSettings((DeviceClass("any", 1, 1.0, 1e6, 1e6),)),
        menu=("fp32",),
        weight_bits=8,
        activation_bits=8,
        model=model,
        profile=str(tmp_path / "profile.json"),
        data=DataSettings(data, num_test=300, num_calibration=32),
        partition=partition,
        training=TrainingSettings(rounds=2, learning_rate=0.3, evaluate_every=2),
        participation=ParticipationSettings(cohort=cohort),
    )
    federation = Federation.build(settings)
    planner = federation.allocator(Uniform(menu[0]))
    Trainer(federation, planner, tmp_path / "run").run()
    last = read_rounds(tmp_path / "run")[-1]
    assert last.float_accuracy > wanted
    assert last.deployed_accuracy > last.float_accuracy - 0.1
    for record in read_clients(tmp_path / "run"):
        assert record.num_examples == len(federation.clients[record.client])
