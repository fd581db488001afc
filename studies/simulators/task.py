"""What all programs train: clients, network, local steps, and the report of a round.

It needs torch and NumPy only, so that it runs in every program's environment, and is imported
first, so that the time of importing torch is known.
"""

# ruff: noqa: E402

from __future__ import annotations

import time

_start = time.monotonic()
import torch

_TORCH_SECONDS = time.monotonic() - _start

import json
import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

FILE_VARIABLE = "FEDHQ_BENCH_TASK"
"""Names the file of the task to a program."""
NETWORK_VARIABLE = "FEDHQ_BENCH_NETWORK"
"""`fedhq` lets a program train fedhq's own layers, where fedhq is installed."""

torch.set_num_threads(1)


@dataclass(frozen=True, eq=False)
class Task:
    """What is trained.

    Args:
        clients: Inputs and labels of every client.
        test: Inputs and labels of the test.
        weights: The first weights, by name.
        rates: `(rounds,)` learning rates.
        epochs: Passes of a client over its data in a round.
        batch_size: Examples per step.
        seed: What the order of examples derives from, beside round and client.
    """

    clients: list[tuple[Tensor, Tensor]]
    test: tuple[Tensor, Tensor]
    weights: dict[str, Tensor]
    rates: list[float]
    epochs: int
    batch_size: int
    seed: list[int]

    @property
    def rounds(self) -> int:
        """How many rounds are trained."""
        return len(self.rates)

    @property
    def sizes(self) -> list[int]:
        """Examples of every client."""
        return [len(labels) for _, labels in self.clients]

    def save(self, path: Path) -> None:
        """Writes the file that `load` reads."""
        sizes, rates = np.array(self.sizes), np.array(self.rates)
        arrays: dict[str, NDArray[Any]] = {"sizes": sizes, "rates": rates}
        arrays["numbers"] = np.array([self.epochs, self.batch_size, *self.seed])
        pairs = {"clients": _joined(self.clients), "test": self.test}
        for name, (inputs, labels) in pairs.items():
            arrays[f"{name} inputs"], arrays[f"{name} labels"] = inputs.numpy(), labels.numpy()
        for name, weight in self.weights.items():
            arrays[f"weight {name}"] = weight.numpy()
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub's next parameter


def _joined(clients: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([x for x, _ in clients]), torch.cat([y for _, y in clients])


@cache
def load() -> Task:
    """Reads the task whose file the environment names, once a process."""
    with np.load(os.environ[FILE_VARIABLE], allow_pickle=False) as file:
        held = {name: torch.from_numpy(file[name]) for name in file.files}
    sizes: list[int] = held["sizes"].tolist()
    parts = (torch.split(held[f"clients {what}"], sizes) for what in ("inputs", "labels"))
    epochs, batch_size, *seed = held["numbers"].tolist()
    return Task(
        clients=list(zip(*parts, strict=True)),
        test=(held["test inputs"], held["test labels"]),
        weights={n.partition(" ")[2]: w for n, w in held.items() if n.startswith("weight ")},
        rates=held["rates"].tolist(),
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
    )


def build_model() -> nn.Module:
    """The network with its first weights: of torch's layers, or fedhq's own if the task says so."""
    held = load()
    input_shape, num_classes = tuple(held.test[0].shape[1:]), int(held.test[1].max()) + 1
    if os.environ.get(NETWORK_VARIABLE) == "fedhq":
        from fedhq import models

        model = models.build_model("cnn", input_shape, num_classes, seed=0)
    else:
        model = _torch_cnn(held.weights)
    model.load_state_dict(held.weights)
    return model


def _torch_cnn(weights: dict[str, Tensor]) -> nn.Module:
    """What `build_model("cnn", ...)` computes, as one would write it without fedhq."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for block in (1, 2):
        out, channels = weights[f"conv{block}.weight"].shape[:2]
        layers[f"conv{block}"] = nn.Conv2d(channels, out, kernel_size=3, padding=1, bias=False)
        layers[f"norm{block}"] = nn.GroupNorm(4, out)
        layers[f"relu{block}"] = nn.ReLU()
        layers[f"pool{block}"] = nn.MaxPool2d(2)
    num_classes, features = weights["linear.weight"].shape
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(features, num_classes)
    return nn.Sequential(layers)


def train_(model: nn.Module, client: int, round_number: int) -> None:
    """One client's part of a round, in place.

    Args:
        model: From the server; it is trained.
        client: Whose data.
        round_number: From 1.
    """
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=load().rates[round_number - 1])
    for inputs, labels in _batches(client, round_number):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _batches(client: int, round_number: int) -> Iterator[tuple[Tensor, Tensor]]:
    """In the order in which fedhq would take them."""
    task = load()
    inputs, labels = task.clients[client]
    rng = np.random.default_rng(np.random.SeedSequence([*task.seed, round_number, client]))
    for _ in range(task.epochs):
        order = torch.from_numpy(rng.permutation(len(labels)))
        for rows in torch.split(order, task.batch_size):
            yield inputs[rows], labels[rows]


def begin() -> None:
    """Says that the first round begins now."""
    _say({"round": 0, "torch_seconds": _TORCH_SECONDS})


def report(round_number: int) -> None:
    """Says that a round is over, counted from 1."""
    _say({"round": round_number})


def finish(model: nn.Module) -> None:
    """Says how good the model is that came out."""
    inputs, labels = load().test
    with torch.no_grad():
        hits = model.eval()(inputs).argmax(dim=1) == labels
    _say({"accuracy": float(hits.double().mean())})


def _say(line: dict[str, float]) -> None:
    """One line of JSON; the clock is the same for all processes of a machine."""
    print(json.dumps({"at": time.monotonic(), **line}), flush=True)
