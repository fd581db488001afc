"""The settings of a federation: frozen, validated on construction, written as TOML by users."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid", strict=False)

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=_STRICT)
class DataSettings:
    """Which data, and what the server keeps of it.

    Args:
        name: A registered data set.
        num_test: Test examples, drawn by class.
        num_calibration: Training examples that only the server sees, to calibrate ranges.
    """

    name: Literal["mnist5k", "digits"] = "mnist5k"
    num_test: Count = 1000
    num_calibration: Count = 200


@dataclass(frozen=True, config=_STRICT)
class PartitionSettings:
    """How the training examples are spread over the clients; named as in flwr-datasets.

    Args:
        kind: `dirichlet` (label skew) or `iid`.
        num_clients: Clients of the fleet.
        alpha: Concentration of the Dirichlet distribution; small is skewed.
        min_partition_size: Every client gets at least this many examples.
    """

    kind: Literal["dirichlet", "iid"] = "dirichlet"
    num_clients: Count = 20
    alpha: Positive = 0.3
    min_partition_size: Count = 16


@dataclass(frozen=True, config=_STRICT)
class DeviceClass:
    """A class of devices of the fleet.

    Args:
        name: For reports.
        share: Its part of the fleet; the parts are scaled to sum to 1.
        slowdown: Step time over the profile machine's.
        uplink_bytes_per_second: Rate at which it sends.
        downlink_bytes_per_second: Rate at which it receives.
        memory_bytes: What a training step may take.
    """

    name: str
    share: Positive
    slowdown: Positive
    uplink_bytes_per_second: Positive
    downlink_bytes_per_second: Positive
    memory_bytes: Positive = float("inf")


@dataclass(frozen=True, config=_STRICT)
class FleetSettings:
    """The devices.

    Args:
        classes: Device classes, fastest first.
        spread: Standard deviation of the logarithm of each device's own factor on its slowdown.
        skew_correlation: 0: speed is independent of the data; 1: the slowest devices hold the
            rarest classes (those that the fewest clients hold); -1: the fastest do.
    """

    classes: Annotated[tuple[DeviceClass, ...], Field(min_length=1)]
    spread: Annotated[float, Field(ge=0)] = 0.1
    skew_correlation: Annotated[float, Field(ge=-1, le=1)] = 0.0


@dataclass(frozen=True, config=_STRICT)
class TrainingSettings:
    """Federated averaging.

    Args:
        rounds: Communication rounds.
        local_epochs: Passes over a client's data in a round.
        batch_size: Examples per step.
        learning_rate: At the start; it falls as a half cosine over the rounds.
        momentum: Of the local SGD; starts afresh every round.
        cohort: Clients sampled for each round; all where None.
        evaluate_every: Rounds between evaluations as deployed; the last is always evaluated.
        checkpoint_every: Rounds between checkpoints.
    """

    rounds: Count = 30
    local_epochs: Count = 1
    batch_size: Count = 32
    learning_rate: Positive = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    cohort: Count | None = None
    evaluate_every: Count = 1
    checkpoint_every: Count = 1


@dataclass(frozen=True, config=_STRICT)
class FederationSettings:
    """All that shapes a federation but who decides.

    Args:
        fleet: The devices.
        menu: The strategies on offer, as text.
        weight_bits: Of the deployed weights.
        activation_bits: Of the deployed activations.
        model: Network that is trained.
        profile: Path of a step profile, or `shipped` for the one of the data set.
        seed: Root of all randomness.
        data: The data set.
        partition: Its spread over clients.
        training: Federated averaging.
    """

    fleet: FleetSettings
    menu: Annotated[tuple[str, ...], Field(min_length=1)] = ("skip", "ptq-w2a2", "qat-w2a2")
    weight_bits: Annotated[int, Field(ge=2, le=8)] = 2
    activation_bits: Annotated[int, Field(ge=2, le=8)] = 2
    model: Literal["cnn", "mlp"] = "cnn"
    profile: str = "shipped"
    seed: Annotated[int, Field(ge=0)] = 0
    data: DataSettings = DataSettings()
    partition: PartitionSettings = PartitionSettings()
    training: TrainingSettings = TrainingSettings()
