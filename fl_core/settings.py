"""The settings of a federation: frozen, validated on construction, written as TOML by users."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..allocator.strategy import Strategy, parse_menu

_KNOWN_KEYS_ONLY = ConfigDict(extra="forbid")


def _check_strategy(text: str) -> str:
    Strategy.parse(text)
    return text


def _check_menu(texts: tuple[str, ...]) -> tuple[str, ...]:
    parse_menu(texts)
    return texts


# Strict: neither true nor "5" is a number; a whole number may stand where a float is wanted.
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True)]
Positive = Annotated[Finite, Field(gt=0)]
Share = Annotated[Finite, Field(ge=0, le=1)]
BelowOne = Annotated[Finite, Field(ge=0, lt=1)]
Count = Annotated[Whole, Field(ge=1)]
Seed = Annotated[Whole, Field(ge=0)]
Bits = Annotated[Whole, Field(ge=2, le=8)]
StrategyText = Annotated[str, AfterValidator(_check_strategy)]
Menu = Annotated[tuple[StrategyText, ...], Field(min_length=1), AfterValidator(_check_menu)]
Memory = Annotated[
    float,
    BeforeValidator(lambda value: math.inf if value is None else value),
    Field(gt=0, strict=True),
]


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class DataSettings:
    """Which data, and what the server keeps of it.

    Args:
        name: A registered data set: images (mnist5k, digits), series (smartwatch) or text (pydoc).
        num_test: Test examples, drawn by class.
        num_calibration: Training examples that only the server sees, to calibrate ranges.
    """

    name: Literal["mnist5k", "digits", "smartwatch", "pydoc"] = "mnist5k"
    num_test: Count = 1000
    num_calibration: Count = 200


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class PartitionSettings:
    """How the training examples are spread over the clients; named as in flwr-datasets.

    Args:
        kind: `dirichlet` (label skew; not for text, whose examples have many labels) or `iid`.
        num_clients: Clients of the fleet.
        alpha: Concentration of the Dirichlet distribution; small is skewed.
        min_partition_size: Every client gets at least this many examples; `iid` deals evenly and
            does not look at it.
    """

    kind: Literal["dirichlet", "iid"] = "dirichlet"
    num_clients: Count = 20
    alpha: Positive = 0.3
    min_partition_size: Count = 16


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class DeviceClass:
    """A class of devices of the fleet.

    Args:
        name: For reports.
        share: Its part of the fleet; the parts are scaled to sum to 1.
        slowdown: Step time over the profile machine's.
        uplink_bytes_per_second: Rate at which it sends.
        downlink_bytes_per_second: Rate at which it receives.
        memory_bytes: What a training step may take; unlimited where none is given.
    """

    name: str
    share: Positive
    slowdown: Positive
    uplink_bytes_per_second: Positive
    downlink_bytes_per_second: Positive
    memory_bytes: Memory = math.inf


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class FleetSettings:
    """The devices.

    Args:
        classes: Device classes, fastest first.
        spread: Standard deviation of the logarithm of each device's own factor on its slowdown.
        skew_correlation: 0: speed is independent of the data; 1: the slowest devices hold the
            rarest classes (those that the fewest clients hold); -1: the fastest do.
    """

    classes: Annotated[tuple[DeviceClass, ...], Field(min_length=1)]
    spread: Annotated[Finite, Field(ge=0)] = 0.1
    skew_correlation: Annotated[Finite, Field(ge=-1, le=1)] = 0.0


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class TrainingSettings:
    """Federated averaging.

    Args:
        rounds: Communication rounds.
        local_epochs: Passes over a client's data in a round.
        batch_size: Examples per step.
        learning_rate: At the start; it falls as a half cosine over the rounds.
        momentum: Of the local SGD; starts afresh every round.
        cohort: Clients sampled for each round, at most all; all where None.
        evaluate_every: Rounds between evaluations as deployed; the last is always evaluated.
        checkpoint_every: Rounds between checkpoints.
        downlink_bits: Bits per weight of the model that clients receive: 4 to 8, rounded at random
            per row, or 32. Fewer do harm (digits, half the clients on qat-w2a2, three seeds: float
            accuracy .87 at 32 and from 8 to 4 bits, but .82 at 3 and .59 at 2).
    """

    rounds: Count = 30
    local_epochs: Count = 1
    batch_size: Count = 32
    learning_rate: Positive = 0.1
    momentum: BelowOne = 0.0
    cohort: Count | None = None
    evaluate_every: Count = 1
    checkpoint_every: Count = 1
    downlink_bits: Literal[4, 5, 6, 7, 8, 32] = 32


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class LayerSettings:
    """Other bits for some layers.

    Args:
        pattern: Of their names, as in a shell: `blocks.*.query`.
        weight_bits: 2 to 8.
        activation_bits: 2 to 8.
    """

    pattern: str
    weight_bits: Bits
    activation_bits: Bits


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class QuantizationSettings:
    """How weights and activations are quantized, in training as in deployment, at whatever bits.

    In training, ranges are those of the batch at hand: a client keeps nothing from round to round.

    Args:
        group_size: Weights of a channel that share a scale; all of them where None.
        weight_fit: How a weight's range is fitted: least squared error, nothing clipped, or all but
            a thousandth.
        activation_fit: How an activation's range is fitted.
        exclude: Patterns of the names of layers that stay float, as in a shell.
        keep_first: Leave the first quantizing layer in float.
        keep_last: Leave the last one in float.
        layers: Other bits for some layers, whatever the strategy.
        correct_bias: Shift the deployed biases so that mean outputs are those in float.
    """

    group_size: Count | None = None
    weight_fit: Literal["mse", "absmax", "percentile"] = "mse"
    activation_fit: Literal["mse", "absmax", "percentile"] = "mse"
    exclude: tuple[str, ...] = ()
    keep_first: Annotated[bool, Field(strict=True)] = False
    keep_last: Annotated[bool, Field(strict=True)] = False
    layers: tuple[LayerSettings, ...] = ()
    correct_bias: Annotated[bool, Field(strict=True)] = False


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class FederationSettings:
    """All that shapes a federation but who decides.

    Args:
        fleet: The devices.
        menu: The strategies on offer, as text.
        weight_bits: Of the deployed weights.
        activation_bits: Of the deployed activations.
        model: Network that is trained; it must suit the data (`build_model` says which suits what).
        profile: Path of a step profile, from the working directory, or `shipped` for the one of
            the data set and model.
        seed: Root of all randomness.
        data: The data set.
        partition: Its spread over clients.
        training: Federated averaging.
        quantization: How weights and activations are quantized.

    Raises:
        ValueError: If a value breaks its rule, or the cohort exceeds the fleet.
    """

    fleet: FleetSettings
    menu: Menu = ("skip", "ptq-w2a2", "qat-w2a2")
    weight_bits: Bits = 2
    activation_bits: Bits = 2
    model: Literal["cnn", "mlp", "resnet8", "resnet20", "vit", "cnn1d", "gru", "charlm"] = "cnn"
    profile: str = "shipped"
    seed: Seed = 0
    data: DataSettings = DataSettings()
    partition: PartitionSettings = PartitionSettings()
    training: TrainingSettings = TrainingSettings()
    quantization: QuantizationSettings = QuantizationSettings()

    def __post_init__(self) -> None:
        cohort, num_clients = self.training.cohort, self.partition.num_clients
        if cohort is not None and cohort > num_clients:
            raise ValueError(
                "`training.cohort <= partition.num_clients` must hold, but got "
                f"{cohort} > {num_clients}. Lower the cohort or add clients."
            )
