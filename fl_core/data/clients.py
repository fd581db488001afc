"""The data of a fleet as one read-only sequence, which need not be in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...allocator.arrays import IntArray
from .datasets import Dataset
from .partitions import count_labels

_FINGERPRINT_DIGITS = 16


@runtime_checkable
class Clients(Protocol):
    """`(clients,)` data sets of one shape and one number of classes, each made when asked for.

    Can be pickled, so that worker processes can have it. A client's number may be negative, as an
    index of a list; one that does not exist raises `IndexError`.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, client: int) -> Dataset: ...

    def __iter__(self) -> Iterator[Dataset]:
        return (self[client] for client in range(len(self)))

    @property
    def num_classes(self) -> int:
        """Classes."""
        ...

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Sizes of one example."""
        ...

    @property
    def num_examples(self) -> IntArray:
        """`(clients,)` examples of each client."""
        ...

    @property
    def label_counts(self) -> IntArray:
        """`(clients, classes)` labels of each class; of texts, characters."""
        ...

    @property
    def fingerprint(self) -> str:
        """A short digest of the content; equal content in another container has another."""
        ...


@dataclass(frozen=True, eq=False)
class PartitionedClients(Clients):
    """One data set and who holds which of its examples; a fleet costs no copy of the data.

    Args:
        dataset: All examples.
        parts: `(clients,)` indices of each client's examples.

    Raises:
        ValueError: If there is no client, or an index lies outside the data set.

    Example:
        >>> import torch
        >>> data = Dataset(torch.arange(4.0)[:, None], torch.tensor([0, 1, 1, 0]), 2)
        >>> clients = PartitionedClients(data, (np.array([0, 1, 2]), np.array([3])))
        >>> len(clients), clients[1].inputs.tolist(), clients.label_counts.tolist()
        (2, [[3.0]], [[1, 2], [1, 0]])
    """

    dataset: Dataset
    parts: tuple[IntArray, ...]

    def __post_init__(self) -> None:
        _check_some(len(self.parts))
        for client, part in enumerate(self.parts):
            if len(part) and not 0 <= part.min() <= part.max() < len(self.dataset):
                raise ValueError(
                    f"`0 <= index < {len(self.dataset)}` must hold for each part, but client "
                    f"{client} has {part.min()} ... {part.max()}."
                )

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, client: int) -> Dataset:
        return self.dataset.take(self.parts[client])

    @property
    def num_classes(self) -> int:
        """Classes."""
        return self.dataset.num_classes

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Sizes of one example."""
        return self.dataset.input_shape

    @cached_property
    def num_examples(self) -> IntArray:
        """`(clients,)` examples of each client."""
        return read_only(np.array([len(part) for part in self.parts], dtype=np.int64))

    @cached_property
    def label_counts(self) -> IntArray:
        """`(clients, classes)` labels of each class; of texts, characters."""
        labels = self.dataset.labels.numpy()
        return read_only(count_labels(labels, self.parts, self.num_classes))

    @cached_property
    def fingerprint(self) -> str:
        """A short digest of the data set and of the parts."""
        return short_digest([_content(self.dataset), *self.parts, self.num_examples])


@dataclass(frozen=True, eq=False)
class ListedClients(Clients):
    """Data sets that are in memory, one of each client.

    Args:
        datasets: `(clients,)`.

    Raises:
        ValueError: If there is no client, or shapes or classes differ.
    """

    datasets: tuple[Dataset, ...]

    def __post_init__(self) -> None:
        _check_some(len(self.datasets))
        for client, data in enumerate(self.datasets):
            check_alike(client, data, self.datasets[0])

    def __len__(self) -> int:
        return len(self.datasets)

    def __getitem__(self, client: int) -> Dataset:
        return self.datasets[client]

    @property
    def num_classes(self) -> int:
        """Classes."""
        return self.datasets[0].num_classes

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Sizes of one example."""
        return self.datasets[0].input_shape

    @cached_property
    def num_examples(self) -> IntArray:
        """`(clients,)` examples of each client."""
        return read_only(np.array([len(data) for data in self.datasets], dtype=np.int64))

    @cached_property
    def label_counts(self) -> IntArray:
        """`(clients, classes)` labels of each class; of texts, characters."""
        return count_each(self.datasets, self.num_classes)

    @cached_property
    def fingerprint(self) -> str:
        """A short digest of all data."""
        return short_digest([_content(data) for data in self.datasets])


def check_alike(client: int, data: Dataset, first: Dataset) -> None:
    """Refuses a client whose data are of another kind than those of the first.

    Raises:
        ValueError: If shape, type or classes differ.
    """
    found, wanted = (
        (d.input_shape, d.inputs.dtype, d.labels.shape[1:], d.num_classes) for d in (data, first)
    )
    if found != wanted:
        raise ValueError(
            "all clients must agree in shape, type and classes, but client "
            f"{client} has {found} and client 0 {wanted}. `as_clients` gives all the same classes."
        )


def read_only(values: NDArray[Any]) -> NDArray[Any]:
    """The same array, which nobody may write to any more."""
    values.flags.writeable = False
    return values


def _check_some(num_clients: int) -> None:
    if num_clients == 0:
        raise ValueError("`clients` must hold at least one client, but there is none.")


def count_each(clients: Iterable[Dataset], num_classes: int) -> IntArray:
    """`(clients, classes)` labels of each class, read-only."""
    counts = [np.bincount(d.labels.numpy().ravel(), minlength=num_classes) for d in clients]
    return read_only(np.array(counts, dtype=np.int64))


def _content(data: Dataset) -> bytes:
    groups = [] if data.groups is None else [data.groups]
    classes = str(data.num_classes).encode()
    return short_digest([classes, data.inputs.numpy(), data.labels.numpy(), *groups]).encode()


def short_digest(pieces: Iterable[bytes | NDArray[Any]]) -> str:
    """Hexadecimal digits of bytes, and of arrays with their shapes and types."""
    digest = hashlib.sha256()
    for piece in pieces:
        if isinstance(piece, np.ndarray):
            digest.update(f"{piece.dtype.str} {piece.shape}".encode())
            digest.update(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
        else:
            digest.update(piece)
    return digest.hexdigest()[:_FINGERPRINT_DIGITS]
