"""Which data, and how they are spread over the clients."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from .fields import KNOWN_KEYS_ONLY, Count, Positive


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
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


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
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
