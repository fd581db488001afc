"""The task in pfl-research: a model with its loss, a federated data set, a simulated backend."""

# mypy: ignore-errors
# ruff: noqa: D101, D102, D103, NPY002
# isort: off
import task

import os

import numpy as np
import torch
from pfl.model.pytorch import PyTorchModel
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import HyperParam, NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics

IS_FIRST = os.environ["RANK"] == "0"


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = task.build_model()

    def loss(self, inputs, labels):
        self.train()
        return torch.nn.functional.cross_entropy(self.layers(inputs), labels)

    def metrics(self, inputs, labels):
        return {}


class Rate(HyperParam, TrainingProcessCallback):
    def __init__(self):
        self.round = 0

    def value(self):
        return task.load().rates[self.round]

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        self.round = central_iteration + 1
        if IS_FIRST:
            task.report(self.round)
        return False, Metrics()


class Shuffled(Dataset):
    def iter(self, batch_size):
        order = torch.from_numpy(np.random.permutation(len(self)))
        for rows in torch.split(order, batch_size):
            yield [part[rows] for part in self.raw_data]


def user_dataset(client):
    return Shuffled(task.load().clients[client], user_id=client)


def main():
    np.random.seed(0)
    held, rate = task.load(), Rate()
    clients = range(len(held.sizes))
    sampler = get_user_sampler("minimize_reuse", clients)
    data = FederatedDataset(user_dataset, sampler, dict(zip(clients, held.sizes, strict=True)))
    network = Network()
    central = torch.optim.SGD(network.parameters(), lr=1.0)
    model = PyTorchModel(network, torch.optim.SGD, central)
    if IS_FIRST:
        task.begin()
    FederatedAveraging().run(
        NNAlgorithmParams(held.rounds, held.rounds, len(clients), val_cohort_size=0),
        SimulatedBackend(data, data, [WeightByDatapoints()]),
        model,
        NNTrainHyperParams(
            local_num_epochs=held.epochs,
            local_learning_rate=rate,
            local_batch_size=held.batch_size,
        ),
        NNEvalHyperParams(held.batch_size),
        callbacks=[rate],
        send_metrics_to_platform=False,
    )
    if IS_FIRST:
        task.finish(network.layers)


if __name__ == "__main__":
    main()
