"""The federations that studies train: a data set, a network, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...fl_core.settings import (
    DataSettings,
    FederationSettings,
    PartitionSettings,
    TrainingSettings,
)

_Model = Literal["cnn", "mlp", "cnn1d"]


@dataclass(frozen=True)
class Task:
    """A data set and a network, trained long enough to settle, and briefly enough to be repeated.

    Args:
        data: Name of the data set.
        model: Name of the network.
        num_test: Test examples.
        num_calibration: Examples that only the server sees.
        rounds: Communication rounds.
        local_epochs: Passes over a client's data in a round.
        is_natural: Whether the data say whose each example is; alpha then says nothing.
    """

    data: str
    model: _Model
    num_test: int
    num_calibration: int
    rounds: int
    local_epochs: int
    is_natural: bool = False


TASKS = {
    "digits-mlp": Task("digits", "mlp", 400, 200, 20, 3),
    "digits-cnn": Task("digits", "cnn", 400, 200, 20, 3),
    "mnist5k-mlp": Task("mnist5k", "mlp", 1000, 200, 20, 1),
    "mnist5k-cnn": Task("mnist5k", "cnn", 1000, 200, 20, 1),
    "smartwatch-cnn1d": Task("smartwatch", "cnn1d", 400, 200, 20, 1, is_natural=True),
    "spoken_digits-cnn1d": Task("spoken_digits", "cnn1d", 500, 200, 20, 2),
}
"""By name; a client of digits has two batches, so it makes more passes."""

_CLIENTS = 20
_LEARNING_RATE, _MOMENTUM = 0.05, 0.9


def task_settings(
    task: str, *, alpha: float, bits: int, seed: int, num_clients: int = _CLIENTS
) -> FederationSettings:
    """The settings of a task's federation, with the menu skip, fp32, ptq and qat at the bits.

    Args:
        task: A key of `TASKS`.
        alpha: Concentration of the labels' Dirichlet distribution over clients; natural clients
            are as they are.
        bits: Of the deployed weights and activations.
        seed: Root of all randomness.
        num_clients: Clients; natural ones are all there are.

    Example:
        >>> task_settings("digits-mlp", alpha=0.3, bits=2, seed=0).menu
        ('skip', 'fp32', 'ptq-w2a2', 'qat-w2a2')
    """
    told = TASKS[task]
    partition = PartitionSettings(num_clients=num_clients, alpha=alpha, min_partition_size=8)
    if told.is_natural:
        partition = PartitionSettings("natural", "all")
    return FederationSettings(
        menu=("skip", "fp32", f"ptq-w{bits}a{bits}", f"qat-w{bits}a{bits}"),
        weight_bits=bits,
        activation_bits=bits,
        model=told.model,
        seed=seed,
        data=DataSettings(
            told.data,
            told.num_test,
            told.num_calibration,
            "natural" if told.is_natural else "examples",
        ),
        partition=partition,
        training=TrainingSettings(
            rounds=told.rounds,
            local_epochs=told.local_epochs,
            learning_rate=_LEARNING_RATE,
            momentum=_MOMENTUM,
        ),
    )
