"""A fifth of the clients sends five times the opposite of what it learned, on real data."""

from functools import cache

import numpy as np
import pytest

from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.data.datasets import split_dataset
from fedhq.fl_core.data.partitions import IidPartitioner
from fedhq.fl_core.data.registry import load_dataset
from fedhq.fl_core.engine.local import LocalTrainer
from fedhq.fl_core.server.inbox import Arrival
from fedhq.fl_core.server.server import Server
from fedhq.fl_core.settings import ServerSettings, TrainingSettings
from fedhq.fl_core.weights import load_weights_, read_weights
from fedhq.fl_core.wire.codec import encode_update
from fedhq.models import accuracy, build_model

CLIENTS, HOSTILE, ROUNDS = 10, (3, 8), 6
FLOAT = Strategy.parse("fp32")


@cache
def trained(settings: ServerSettings, hostile: tuple[int, ...] = HOSTILE) -> float:
    """Test accuracy after some rounds at 4 wire bits."""
    rng = np.random.default_rng(0)
    split = split_dataset(load_dataset("digits"), 500, 50, rng)
    parts = IidPartitioner(CLIENTS).partition(split.train.labels.numpy(), rng)
    clients = [split.train.take(part) for part in parts]
    model = build_model("mlp", (1, 8, 8), 10, seed=0)
    trainer = LocalTrainer(model, TrainingSettings(batch_size=16, local_epochs=2))
    server = Server(read_weights(model), settings, [len(data) for data in clients])
    for number in range(1, ROUNDS + 1):
        rate = 0.2 * (1 - (number - 1) / ROUNDS)
        arrivals = []
        for client, data in enumerate(clients):
            update = trainer.train(server.weights, data, FLOAT, rate, rng).update
            if client in hostile:
                update = {name: -5 * values for name, values in update.items()}
            payload = encode_update(
                update,
                wire_bits=4,
                round_number=number,
                client=client,
                num_examples=len(data),
                rng=rng,
            )
            arrivals.append(Arrival(client, number, payload))
        server.apply(number, arrivals)
    load_weights_(model, server.weights)
    return accuracy(model, split.test.inputs, split.test.labels, 500)


@pytest.mark.parametrize(
    "settings",
    [
        ServerSettings(aggregation="median"),
        ServerSettings(aggregation="trimmed_mean"),
        ServerSettings(outlier_factor=3.0),
    ],
    ids=["median", "trimmed mean", "outliers refused"],
)
def test_robust_aggregation_keeps_the_accuracy_that_the_mean_loses(settings) -> None:
    honest = trained(ServerSettings(), hostile=())
    assert honest > 0.9
    assert trained(settings) > honest - 0.03
    assert trained(ServerSettings()) < honest - 0.3


def test_nor_does_robust_aggregation_cost_accuracy_without_an_attack() -> None:
    honest = trained(ServerSettings(), hostile=())
    assert trained(ServerSettings(aggregation="median"), hostile=()) > honest - 0.03
