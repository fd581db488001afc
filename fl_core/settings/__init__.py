"""The settings of a federation: frozen, validated on construction, written as TOML by users."""

from .data import DataSettings, PartitionSettings
from .federation import FederationSettings
from .fleet import AvailabilitySettings, DeviceClass, FleetSettings, LogNormalSettings, MemoryTier
from .participation import ParticipationSettings, Slowdown
from .quantization import LayerSettings, QuantizationSettings
from .server import ServerSettings
from .training import TrainingSettings

__all__ = [
    "AvailabilitySettings",
    "DataSettings",
    "DeviceClass",
    "FederationSettings",
    "FleetSettings",
    "LayerSettings",
    "LogNormalSettings",
    "MemoryTier",
    "ParticipationSettings",
    "PartitionSettings",
    "QuantizationSettings",
    "ServerSettings",
    "Slowdown",
    "TrainingSettings",
]
