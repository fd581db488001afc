"""The settings of a federation: frozen, validated on construction, written as TOML by users."""

from .data import DataSettings, PartitionSettings
from .federation import FederationSettings
from .fleet import DeviceClass, FleetSettings
from .quantization import LayerSettings, QuantizationSettings
from .server import ServerSettings
from .training import TrainingSettings

__all__ = [
    "DataSettings",
    "DeviceClass",
    "FederationSettings",
    "FleetSettings",
    "LayerSettings",
    "PartitionSettings",
    "QuantizationSettings",
    "ServerSettings",
    "TrainingSettings",
]
