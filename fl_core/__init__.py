"""Federated learning on a virtual clock, with fedhq deciding who trains at which precision.

A `Federation` holds the parts: `Federation.of` takes a torch model and data of one's own,
`Federation.build` names registered ones in `FederationSettings`, as a TOML file does. Its
`allocator` decides; a `Trainer` trains in a folder, which holds the records and is resumed; `ship`
makes the model that is deployed. Settings are frozen dataclasses, one for each table of the TOML.

    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np, torch
    >>> from fedhq.fl_core import Federation, Trainer, TrainingSettings, read_rounds
    >>> def draw(examples):                              # whatever `as_dataset` takes
    ...     inputs = np.random.default_rng(examples).normal(size=(examples, 4))
    ...     return inputs, (inputs[:, 0] > 0).astype(int)
    >>> folder = Path(tempfile.mkdtemp())
    >>> federation = Federation.of(
    ...     torch.nn.Linear(4, 2), [draw(40), draw(60)], draw(100), draw(50),
    ...     folder / "profile.json", training=TrainingSettings(rounds=3))
    >>> weights = Trainer(federation, federation.allocator(), folder / "run").run()
    >>> [record.round for record in read_rounds(folder / "run")]
    [1, 2, 3]
    >>> len(federation.ship(weights).weight.unique()) <= 4 * 2      # 2 bits, two rows
    True

Names are loaded when they are asked for: settings come without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..allocator.device import DeviceProfile
    from ..allocator.errors import CheckpointError, DivergedError, FedHQError
    from .callbacks import Callback, RunInfo, ShowProgress
    from .data.clients import Clients, ListedClients, PartitionedClients
    from .data.convert import as_clients, as_dataset
    from .data.datasets import Dataset
    from .data.store import StoredClients, store_clients
    from .federation import Federation
    from .fleet.fleet import Fleet
    from .fleet.trace import read_trace, write_trace
    from .fleet.windows import Windows
    from .records.recorder import read_clients, read_rounds
    from .records.records import ClientRecord, RoundRecord, WallRecord
    from .settings import (
        AvailabilitySettings,
        DataSettings,
        DeviceClass,
        FederationSettings,
        FleetSettings,
        LayerSettings,
        LogNormalSettings,
        MemoryTier,
        ParticipationSettings,
        PartitionSettings,
        QuantizationSettings,
        ServerSettings,
        Slowdown,
        TrainingSettings,
    )
    from .trainer import Trainer

__all__ = [
    "AvailabilitySettings",
    "Callback",
    "CheckpointError",
    "ClientRecord",
    "Clients",
    "DataSettings",
    "Dataset",
    "DeviceClass",
    "DeviceProfile",
    "DivergedError",
    "FedHQError",
    "Federation",
    "FederationSettings",
    "Fleet",
    "FleetSettings",
    "LayerSettings",
    "ListedClients",
    "LogNormalSettings",
    "MemoryTier",
    "ParticipationSettings",
    "PartitionSettings",
    "PartitionedClients",
    "QuantizationSettings",
    "RoundRecord",
    "RunInfo",
    "ServerSettings",
    "ShowProgress",
    "Slowdown",
    "StoredClients",
    "Trainer",
    "TrainingSettings",
    "WallRecord",
    "Windows",
    "as_clients",
    "as_dataset",
    "read_clients",
    "read_rounds",
    "read_trace",
    "store_clients",
    "write_trace",
]

_NAMES = {
    "..allocator.device": ("DeviceProfile",),
    "..allocator.errors": ("CheckpointError", "DivergedError", "FedHQError"),
    ".callbacks": ("Callback", "RunInfo", "ShowProgress"),
    ".data.clients": ("Clients", "ListedClients", "PartitionedClients"),
    ".data.convert": ("as_clients", "as_dataset"),
    ".data.datasets": ("Dataset",),
    ".data.store": ("StoredClients", "store_clients"),
    ".federation": ("Federation",),
    ".fleet.fleet": ("Fleet",),
    ".fleet.trace": ("read_trace", "write_trace"),
    ".fleet.windows": ("Windows",),
    ".records.recorder": ("read_clients", "read_rounds"),
    ".records.records": ("ClientRecord", "RoundRecord", "WallRecord"),
    ".trainer": ("Trainer",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
_SETTINGS = ".settings"  # where all other names are


def __getattr__(name: str) -> Any:
    """A public name, from the module that holds it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, _SETTINGS), __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
