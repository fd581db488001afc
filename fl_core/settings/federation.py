"""All the settings of a federation together."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from .data import DataSettings, PartitionSettings
from .fields import KNOWN_KEYS_ONLY, Bits, Menu, Seed
from .fleet import FleetSettings
from .quantization import QuantizationSettings
from .training import TrainingSettings


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
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
        if cohort is not None and num_clients != "all" and cohort > num_clients:
            raise ValueError(
                "`training.cohort <= partition.num_clients` must hold, but got "
                f"{cohort} > {num_clients}. Lower the cohort or add clients."
            )
