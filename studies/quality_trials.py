"""A training of the accuracy study: every arm has the same data, weights, batches and optimizer."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..fl_core.data.datasets import Dataset, split_dataset
from ..fl_core.data.registry import load_dataset
from ..models import accuracy, build_model
from .quality_arms import Arm, deployed, prepared

BATCH_SIZE = 32
_EVALUATED_AT_ONCE = 500


@dataclass(frozen=True)
class Cell:
    """What all arms are compared on.

    Args:
        data: A registered data set of images.
        network: The name of a network.
        bits: Of weights and activations; 0 is float.
        epochs: Passes over the training examples.
        num_train: Training examples, at most.
    """

    data: str
    network: str
    bits: int
    epochs: int
    num_train: int

    def __str__(self) -> str:
        return f"{self.data}, {self.network}, W{self.bits}A{self.bits}"


@dataclass(frozen=True)
class Trial:
    """One training.

    Args:
        cell: On what.
        arm: How.
        rate: Of Adam, at the start; it falls as a half cosine.
        seed: Of initial weights and batches.
        validates: Whether accuracy is of the validation examples instead of the test's.
    """

    cell: Cell
    arm: Arm
    rate: float
    seed: int
    validates: bool


@dataclass(frozen=True, eq=False)
class _Parts:
    """A data set cut in four, alike for all trials."""

    train: Dataset
    calibration: Dataset
    validation: Dataset
    test: Dataset


@functools.cache
def _parts(name: str) -> _Parts:
    """A third each of what is not trained on serves to choose rates and, twice, to judge."""
    whole, rng = load_dataset(name), np.random.default_rng(0)
    first = split_dataset(whole, int(0.3 * len(whole)), 100, rng)
    second = split_dataset(first.train, int(0.1 * len(whole)), 1, rng)
    return _Parts(second.train, first.calibration, second.test, first.test)


def run_trial(trial: Trial) -> float:
    """Trains, deploys, and returns the deployed model's accuracy.

    Args:
        trial: Which training.
    """
    cell, parts = trial.cell, _parts(trial.cell.data)
    train = parts.train.take(np.arange(min(cell.num_train, len(parts.train))))
    epoch_steps = -(-len(train) // BATCH_SIZE)
    model = build_model(cell.network, train.input_shape, train.num_classes, trial.seed)
    torch.manual_seed(trial.seed)
    trained = prepared(trial.arm, model, cell.bits, epoch_steps)
    _train_(trained, train, trial, epoch_steps * cell.epochs)
    shipped = deployed(trained, torch.split(parts.calibration.inputs, BATCH_SIZE))
    judged = parts.validation if trial.validates else parts.test
    return accuracy(shipped, judged.inputs, judged.labels, _EVALUATED_AT_ONCE)


def _train_(model: nn.Module, train: Dataset, trial: Trial, steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for inputs, labels in _batches(train, trial):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def _batches(train: Dataset, trial: Trial) -> Iterator[tuple[Tensor, Tensor]]:
    rng = np.random.default_rng(trial.seed)
    for _ in range(trial.cell.epochs):
        order = torch.from_numpy(rng.permutation(len(train)))
        for rows in torch.split(order, BATCH_SIZE):
            yield train.inputs[rows], train.labels[rows]
