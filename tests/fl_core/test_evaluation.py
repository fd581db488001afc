"""How good a model is for every client by itself, and when training may end early."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator import Uniform
from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.deployment import ship
from fedhq.fl_core.evaluation import evaluate, worst_mean
from fedhq.fl_core.federation import Federation
from fedhq.fl_core.records.recorder import read_rounds
from fedhq.fl_core.schedule import is_finished
from fedhq.fl_core.settings import (
    DataSettings,
    FederationSettings,
    PartitionSettings,
    TrainingSettings,
)
from fedhq.fl_core.trainer import Trainer
from fedhq.fl_core.weights import load_weights_, read_weights
from fedhq.models import predict

SETTINGS = FederationSettings(
    menu=("skip", "fp32"),
    model="mlp",
    data=DataSettings("digits", num_test=200, num_calibration=40, client_test=0.3),
    partition=PartitionSettings("dirichlet", num_clients=12, alpha=0.3),
    training=TrainingSettings(rounds=8, local_epochs=4),
)
FP32 = Uniform(Strategy.parse("fp32"))


def train(folder, settings=SETTINGS):
    federation = Federation.build(settings)
    trainer = Trainer(federation, federation.allocator(FP32), folder)
    trainer.run()
    return federation, trainer


def test_the_clients_own_accuracies_are_those_of_the_deployed_model_on_their_tests(
    tmp_path,
) -> None:
    federation, trainer = train(tmp_path)
    load_weights_(federation.model, trainer.weights)
    training = federation.training
    shipped = ship(
        federation.model,
        federation.deployed,
        federation.quantization,
        federation.calibration,
        training.batch_size,
    )
    own = []
    for data in federation.client_tests:
        right = predict(shipped, data.inputs, 500) == data.labels
        own.append(float(right.float().mean()))
    last = read_rounds(tmp_path)[-1]
    assert last.client_accuracy == pytest.approx(np.mean(own), abs=1e-6)
    assert last.worst_accuracy == pytest.approx(np.mean(sorted(own)[:2]), abs=1e-6)
    assert last.worst_accuracy < last.client_accuracy
    assert last.float_accuracy > 0.8


def test_without_tests_of_their_own_nothing_is_said_of_clients() -> None:
    settings = replace(SETTINGS, data=replace(SETTINGS.data, client_test=0.0))
    federation = Federation.build(settings)
    evaluation = evaluate(federation, read_weights(federation.model))
    assert (evaluation.clients, evaluation.worst) == (None, None)
    assert 0 <= evaluation.deployed <= 1


def test_a_model_that_overflows_gets_nothing_right_as_deployed() -> None:
    federation = Federation.build(SETTINGS)
    weights = {k: v * np.float32(1e15) for k, v in read_weights(federation.model).items()}
    evaluation = evaluate(federation, weights)
    assert (evaluation.deployed, evaluation.clients, evaluation.worst) == (0.0, 0.0, 0.0)
    assert 0 <= evaluation.in_float < 0.5


def test_the_worst_tenth_is_one_client_at_least() -> None:
    assert worst_mean([0.2, 0.9]) == 0.2
    assert worst_mean([k / 30 for k in range(30)]) == pytest.approx(np.mean([0, 1 / 30, 2 / 30]))


def test_training_ends_with_the_accuracy_that_is_enough_and_stays_ended(tmp_path) -> None:
    settings = replace(
        SETTINGS, training=replace(SETTINGS.training, rounds=30, stop_at_accuracy=0.3)
    )
    train(tmp_path, settings)
    rounds = read_rounds(tmp_path)
    assert len(rounds) < 30
    assert [r.deployed_accuracy >= 0.3 for r in rounds] == [False] * (len(rounds) - 1) + [True]
    wall = (tmp_path / "wall.jsonl").read_bytes()
    _, again = train(tmp_path, settings)
    assert again.round_number == len(rounds)
    assert (tmp_path / "wall.jsonl").read_bytes() == wall


@pytest.mark.parametrize(
    ("rounds_done", "accuracy", "finished"),
    [(3, None, False), (3, 0.89, False), (3, 0.9, True), (10, None, True), (10, 0.1, True)],
)
def test_a_run_is_finished_by_rounds_or_by_accuracy(rounds_done, accuracy, finished) -> None:
    training = TrainingSettings(rounds=10, stop_at_accuracy=0.9)
    assert is_finished(training, rounds_done, accuracy) is finished
    assert not is_finished(TrainingSettings(rounds=10), 9, 1.0)
