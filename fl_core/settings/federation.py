"""All the settings of a federation together."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from .data import DataSettings, PartitionSettings
from .fields import KNOWN_KEYS_ONLY, Bits, Menu, Seed
from .fleet import FleetSettings
from .participation import ParticipationSettings
from .quantization import QuantizationSettings
from .server import ServerSettings
from .training import TrainingSettings


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class FederationSettings:
    """All that shapes a federation but who decides.

    Args:
        fleet: The devices; a log-normal population where nothing is said.
        menu: The strategies on offer, as text.
        weight_bits: Of the deployed weights.
        activation_bits: Of the deployed activations.
        model: Network that is trained; it must suit the data (`build_model` says which suits what).
        profile: Path of a step profile, from the working directory; `shipped` for the one of the
            data set and model; or `predicted` for the reference machine, of any model, batch size
            and menu.
        seed: Root of all randomness.
        data: The data set.
        partition: Its spread over clients.
        training: How clients train.
        participation: Who takes part in a round.
        server: What the server does with updates.
        quantization: How weights and activations are quantized.

    Raises:
        ValueError: If a value breaks its rule.
    """

    fleet: FleetSettings = FleetSettings(kind="lognormal")
    menu: Menu = ("skip", "ptq-w2a2", "qat-w2a2")
    weight_bits: Bits = 2
    activation_bits: Bits = 2
    model: Literal["cnn", "mlp", "resnet8", "resnet20", "vit", "cnn1d", "gru", "charlm"] = "cnn"
    profile: str = "shipped"
    seed: Seed = 0
    data: DataSettings = DataSettings()
    partition: PartitionSettings = PartitionSettings()
    training: TrainingSettings = TrainingSettings()
    participation: ParticipationSettings = ParticipationSettings()
    server: ServerSettings = ServerSettings()
    quantization: QuantizationSettings = QuantizationSettings()
