"""Which data, and how they are spread over the clients."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from .fields import KNOWN_KEYS_ONLY, BelowOne, Count, DatasetName, Positive


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class DataSettings:
    """Which data, and what is kept from training.

    Args:
        name: A registered data set: images (mnist5k, digits, cifar10, cifar100, femnist), series
            (smartwatch, spoken_digits) or text (pydoc, shakespeare); or `arrays:PATH.npz`, one's
            own, from the working directory.
        num_test: Test examples, drawn by class.
        num_calibration: Training examples that only the server sees, to calibrate ranges.
        split: What the cut between test and training never goes through: `examples`, or `natural`
            clients, which are drawn whole until they hold `num_test` examples. Where examples
            overlap, as in smartwatch, only `natural` tests on what no client has seen.
        client_test: Share of its examples that each client keeps to test on, at least one of two;
            0: none.
    """

    name: DatasetName = "mnist5k"
    num_test: Count = 1000
    num_calibration: Count = 200
    split: Literal["examples", "natural"] = "examples"
    client_test: BelowOne = 0.0


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class PartitionSettings:
    """How the training examples are spread over the clients; named as in flwr-datasets.

    Args:
        kind: `dirichlet` (label skew), `pathological` (a few classes each), `shards` (sorted by
            class and dealt out), `iid`, or `natural` (the data say whose each example is). Text,
            whose examples have many labels, takes `iid` or `natural` only.
        num_clients: Clients of the fleet; with `natural` so many are drawn, or "all".
        alpha: Concentration of the Dirichlet distribution; small is skewed.
        min_partition_size: Every client gets at least this many examples; natural clients with
            fewer are left out. `iid` and `shards` deal evenly and do not look at it.
        num_classes_per_partition: With `pathological`, classes that each client holds.
        num_shards_per_partition: With `shards`, shards that each client gets.

    Raises:
        ValueError: If a value breaks its rule, or all natural clients are wanted of another kind.
    """

    kind: Literal["dirichlet", "iid", "pathological", "shards", "natural"] = "dirichlet"
    num_clients: Count | Literal["all"] = 20
    alpha: Positive = 0.3
    min_partition_size: Count = 16
    num_classes_per_partition: Count = 2
    num_shards_per_partition: Count = 2

    def __post_init__(self) -> None:
        if self.num_clients == "all" and self.kind != "natural":
            raise ValueError(
                '`partition.num_clients = "all"` needs `partition.kind = "natural"`, but got '
                f"{self.kind!r}. Give a number."
            )
