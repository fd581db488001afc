"""Arrays from a `.npz` file: those of a package, or a user's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from .convert import as_dataset, natural_ids
from .datasets import Dataset

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_array_file(path: Path) -> Dataset:
    """Reads `inputs`, `labels` and perhaps `client` from a file that `numpy.savez` wrote.

    Args:
        path: The file. `inputs` and `labels` are as `as_dataset` takes them; `client` is
            `(examples,)` whose each example is, as numbers or texts: these are natural clients.

    Raises:
        ValueError: If the file cannot be read, holds other arrays, or breaks a rule of theirs.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "own.npz"
        >>> np.savez(path, inputs=np.zeros((3, 1, 8, 8)), labels=[0, 1, 1], client=["a", "b", "b"])
        >>> read_array_file(path).groups
        array([0, 1, 1])
    """
    arrays = read_arrays(path)
    if not {"inputs", "labels"} <= arrays.keys() <= {"inputs", "labels", "client"}:
        raise ValueError(
            f"{path} must hold arrays `inputs`, `labels` and perhaps `client`, but holds "
            f"{sorted(arrays)}."
        )
    try:
        data = as_dataset((arrays["inputs"], arrays["labels"]))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if "client" not in arrays:
        return data
    client = arrays["client"]
    if client.shape != (len(data),) or client.dtype.kind not in "iuUS":
        raise ValueError(
            f"{path}: `client` must be {len(data)} numbers or texts, one for each example, but got "
            f"{client.dtype} of shape {client.shape}."
        )
    return Dataset(data.inputs, data.labels, data.num_classes, natural_ids(client))


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a `.npz` file by name; nothing is unpickled.

    Raises:
        ValueError: If it cannot be read, or holds Python objects.
    """
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, NpzFile):
                raise ValueError("it is a single array")
            _check_sizes(stream)
            return dict(file.items())
    except (OSError, ValueError, EOFError, MemoryError, BadZipFile) as error:
        raise ValueError(
            f"{path} must be a readable .npz file of plain arrays, but: {error}. Write it with "
            "numpy.savez(path, name=array, ...)."
        ) from None


def _check_sizes(stream: BinaryIO) -> None:
    """Refuses an array whose header tells another size than it has: NumPy makes room by that."""
    with ZipFile(stream) as file:
        for member in file.infolist():
            with file.open(member) as array:
                version = np.lib.format.read_magic(array)
                if version not in _HEADERS:
                    raise ValueError(f"{member.filename} has version {version} of its format")
                shape, _, dtype = _HEADERS[version](array)
                told, found = math.prod(shape) * dtype.itemsize, member.file_size - array.tell()
            if told != found and not dtype.hasobject:
                raise ValueError(
                    f"{member.filename} should have {told} bytes by its header, but has {found}"
                )
