"""The task: a small network, digits of 8 x 8 pixels, each client with its own mix of them."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fedhq.models import Recipe, deploy

NUM_TEST = 400
NUM_SPARE = 100  # at the end, for the server


def build_model() -> nn.Module:
    """A network with the same first weights everywhere."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def load_test() -> tuple[Tensor, Tensor]:
    """The digits that no client has."""
    images, labels = _digits()
    return images[:NUM_TEST], labels[:NUM_TEST]


def load_client(client: int, num_clients: int) -> DataLoader[tuple[Tensor, ...]]:
    """A client's digits; of each class it has another share."""
    images, labels = _digits()
    rng = np.random.default_rng(0)
    rows = []
    for digit in range(10):
        mine = NUM_TEST + np.flatnonzero(labels[NUM_TEST:-NUM_SPARE].numpy() == digit)
        shares = rng.dirichlet(np.full(num_clients, 1.0))
        ends = np.round(np.cumsum([0.0, *shares]) * len(mine)).astype(int)
        rows.append(mine[ends[client] : ends[client + 1]])
    at = torch.from_numpy(np.concatenate(rows))
    return DataLoader(TensorDataset(images[at], labels[at]), batch_size=32, shuffle=True)


def train_(
    model: nn.Module, loader: DataLoader[tuple[Tensor, ...]], epochs: int, lr: float
) -> None:
    """Trains a model in place."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()


def accuracy(model: nn.Module) -> float:
    """Share of the test's digits that a model tells."""
    images, labels = load_test()
    model.eval()
    with torch.no_grad():
        return float((model(images).argmax(dim=1) == labels).float().mean())


def ship(model: nn.Module) -> nn.Module:
    """The model as it is deployed; ranges of inputs are fitted on digits that nobody else has."""
    images, _ = _digits()
    return deploy(model, Recipe(weight_bits=2, activation_bits=2), [images[-NUM_SPARE:]])


def _digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    inputs = torch.from_numpy((images / 16).astype(np.float32)).reshape(-1, 1, 8, 8)
    return inputs[order], torch.from_numpy(labels)[order]
