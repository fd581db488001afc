"""A fleet's data in a folder: plain `.npy` files of which only what is asked for is read.

    inputs.npy        (examples, ...)        all clients' examples, one client after the other
    labels.npy        (examples, ...) int64  their labels
    offsets.npy       (clients + 1,) int64   client k's are from offsets[k] to offsets[k + 1]
    label_counts.npy  (clients, classes) int64
    header.json       format, version, num_classes; shape, type, size and sha256 of each array; and
                      the sha256 of all that, as JSON with sorted keys and no blanks

The folder is written beside its place, flushed to the disk and renamed: it is there whole or not at
all. Any NumPy reader can look at it; nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...allocator.arrays import IntArray
from ...allocator.errors import DataError
from ..disk import flush_folder
from .clients import Clients, check_alike, read_only
from .datasets import Dataset
from .row_files import Rows, RowWriter

_FORMAT, _VERSION = "fedhq-clients", 1
_HEADER = "header.json"
_ARRAYS = ("inputs", "labels", "offsets", "label_counts")
_MEND = "Store the clients anew in another folder."


def store_clients(folder: Path, datasets: Iterable[Dataset]) -> StoredClients:
    """Writes the data of a fleet, one client at a time.

    Args:
        folder: Where; it must not exist yet, but the folder around it must.
        datasets: `(clients,)` data of one shape, type and number of classes; a generator will do,
            of which one client is in memory at a time. Natural groups are not kept.

    Returns:
        The stored clients, opened.

    Raises:
        ValueError: If the folder exists, there is no example, or clients differ.
        DataError: If the system cannot write it; then nothing is left.

    Example:
        >>> import tempfile
        >>> data = Dataset(torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 1]), 2)
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     clients = store_clients(Path(parent, "fleet"), [data, data.take(np.array([0]))])
        ...     len(clients), clients.label_counts.tolist(), clients[1].inputs.shape
        (2, [[1, 2], [1, 0]], torch.Size([1, 1, 8, 8]))
    """
    if folder.exists():
        raise ValueError(
            f"`folder` must not exist yet, but {folder} does. Take another, or open it."
        )
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        try:
            _write_text(temporary / _HEADER, _write_arrays(temporary, datasets))
            flush_folder(temporary)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        flush_folder(folder.parent)
    except OSError as error:
        raise DataError(
            f"`{folder} can be written` must hold, but: {error}. Check that the folder around it "
            "exists and is writable, and free space on its disk."
        ) from error
    return StoredClients(folder)


class StoredClients(Clients):
    """The data of a fleet in a folder; opening reads no example, and a client only its own.

    Args:
        folder: What `store_clients` wrote.

    Raises:
        DataError: If the folder is missing, foreign, damaged, or of a newer version. Sizes and the
            header are checked; examples are not read for that.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        header = _read_header(folder)
        self._num_classes = int(header["num_classes"])
        self._fingerprint = str(header["sha256"])[:16]
        arrays = {name: _open_array(folder, name, header["arrays"][name]) for name in _ARRAYS}
        self._inputs = Rows(folder.absolute() / "inputs.npy", arrays["inputs"])
        self._labels = Rows(folder.absolute() / "labels.npy", arrays["labels"])
        self._label_counts = arrays["label_counts"]
        self._offsets: IntArray = np.array(arrays["offsets"])
        self._num_examples = read_only(np.diff(self._offsets))
        _check_fit(folder, self._offsets, arrays, self._num_classes)

    def __reduce__(self) -> tuple[type[StoredClients], tuple[Path]]:
        return StoredClients, (self._folder,)

    def __len__(self) -> int:
        return len(self._num_examples)

    def __getitem__(self, client: int) -> Dataset:
        place = range(len(self))[client]
        first, count = int(self._offsets[place]), int(self._num_examples[place])
        inputs, labels = (rows.read(first, count) for rows in (self._inputs, self._labels))
        return Dataset(torch.from_numpy(inputs), torch.from_numpy(labels), self._num_classes)

    @property
    def num_classes(self) -> int:
        """Classes."""
        return self._num_classes

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Sizes of one example."""
        return self._inputs.shape

    @property
    def num_examples(self) -> IntArray:
        """`(clients,)` examples of each client."""
        return self._num_examples

    @property
    def label_counts(self) -> IntArray:
        """`(clients, classes)` labels of each class; of texts, characters. Mapped, not loaded."""
        return self._label_counts

    @property
    def fingerprint(self) -> str:
        """A short digest of the header, which holds those of all arrays as they were written."""
        return self._fingerprint


def _write_arrays(folder: Path, datasets: Iterable[Dataset]) -> str:
    """Writes all arrays, and gives the text of the header."""
    clients = iter(datasets)
    first = next(clients, None)
    if first is None:
        raise ValueError("`datasets` must hold at least one client, but there is none.")
    whole = np.dtype(np.int64)
    kinds: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
        "inputs": (first.input_shape, first.inputs.numpy().dtype),
        "labels": (tuple(first.labels.shape[1:]), whole),
        "offsets": ((), whole),
        "label_counts": ((first.num_classes,), whole),
    }
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(RowWriter(folder / f"{name}.npy", *kinds[name]))
            for name in _ARRAYS
        }
        num_examples = _append_client(writers, first, 0)
        for client, data in enumerate(clients, 1):
            check_alike(client, data, first)
            num_examples = _append_client(writers, data, num_examples)
        if num_examples == 0:
            raise ValueError("`datasets` must hold at least one example, but all are empty.")
        writers["offsets"].append(np.array([num_examples]))
        arrays = {name: writer.finish() for name, writer in writers.items()}
    body = {
        "format": _FORMAT,
        "version": _VERSION,
        "num_classes": first.num_classes,
        "arrays": arrays,
    }
    return json.dumps(body | {"sha256": _digest(body)}, indent=2, sort_keys=True) + "\n"


def _append_client(writers: dict[str, RowWriter], data: Dataset, offset: int) -> int:
    """Adds one client, and gives where the next one starts."""
    labels = data.labels.numpy()
    counts = np.bincount(labels.ravel(), minlength=data.num_classes)
    writers["inputs"].append(data.inputs.numpy())
    writers["labels"].append(labels)
    writers["offsets"].append(np.array([offset]))
    writers["label_counts"].append(counts[None])
    return offset + len(data)


def _digest(body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / _HEADER).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"`{folder / _HEADER} can be read` must hold, but: {error}. Check the path. {_MEND}"
        ) from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise DataError(f"{folder / _HEADER} must be of the format {_FORMAT!r}. Check the path.")
    if header.get("version") != _VERSION:
        raise DataError(
            f"{folder / _HEADER} must have version {_VERSION}, but has {header.get('version')!r}. "
            "Take the version of fedhq that wrote it."
        )
    body = {key: value for key, value in header.items() if key != "sha256"}
    if header.get("sha256") != _digest(body):
        raise DataError(f"{folder / _HEADER} must fit its sha256, but does not. {_MEND}")
    return header


def _open_array(folder: Path, name: str, entry: dict[str, Any]) -> np.memmap[Any, Any]:
    path = folder / f"{name}.npy"
    try:
        size = path.stat().st_size
        array: np.memmap[Any, Any] | None = None
        if size == entry["bytes"]:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"`{path} can be read` must hold, but: {error}. {_MEND}") from error
    if array is None:
        raise DataError(f"{path} must have {entry['bytes']} bytes, but has {size}. {_MEND}")
    if list(array.shape) != entry["shape"] or array.dtype.str != entry["dtype"]:
        raise DataError(
            f"{path} must be {entry['dtype']} of shape {entry['shape']}, but is "
            f"{array.dtype.str} of shape {list(array.shape)}. {_MEND}"
        )
    return array


def _check_fit(
    folder: Path, offsets: IntArray, arrays: Mapping[str, NDArray[Any]], num_classes: int
) -> None:
    """Arrays that each are as the header says must also belong together."""
    num_examples = len(arrays["inputs"])
    grows = offsets[0] == 0 and offsets[-1] == num_examples and (np.diff(offsets) >= 0).all()
    counts = arrays["label_counts"].shape
    if not grows or len(arrays["labels"]) != num_examples:
        raise DataError(f"{folder / 'offsets.npy'} must lead through all examples. {_MEND}")
    if counts != (len(offsets) - 1, num_classes):
        raise DataError(f"{folder / 'label_counts.npy'} must be of {len(offsets) - 1} clients.")


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
