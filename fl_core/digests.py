"""Short digests of a federation's parts: a resumed run needs the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from torch import nn

from ..allocator.hardware import HardwareTables
from .data.clients import Clients, ListedClients
from .data.datasets import Dataset
from .fleet.fleet import Fleet
from .fleet.trace import csv_trace_lines
from .weights import read_weights


def digests_of(
    model: nn.Module,
    clients: Clients,
    held: tuple[Dataset, Dataset],
    fleet: Fleet,
    tables: HardwareTables,
) -> dict[str, str]:
    """16 hexadecimal digits of each part.

    Args:
        model: The network with its first weights.
        clients: What is trained on.
        held: What the server tests and calibrates with.
        fleet: The devices.
        tables: What every strategy costs on them.
    """
    arrays = (tables.seconds, tables.uplink_bytes, tables.energy_joules, tables.allowed)
    parts: dict[str, Iterable[bytes]] = {
        "clients": [clients.fingerprint.encode()],
        "test": [ListedClients(held).fingerprint.encode()],
        "costs": (np.ascontiguousarray(a).tobytes() for a in arrays if a is not None),
        "fleet": (line.encode() for line in csv_trace_lines(fleet)),
        "first_weights": (values.tobytes() for values in read_weights(model).values()),
    }
    return {name: _digest(pieces) for name, pieces in parts.items()}


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()[:16]
