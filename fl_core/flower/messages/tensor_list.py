"""The tensors of a packed model, as it lists them: of each its name, or its type and shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ....allocator.errors import WireError
from ...wire.header import require
from .npy import array_form, read_array
from .orders import MOST_TENSORS, RECORD

if TYPE_CHECKING:
    from flwr.app import Array, ArrayRecord

TENSORS = f"{RECORD}.tensors"
"""Name of the array that lists the tensors of a packed model."""

FLOATS = ("float16", "float32", "float64")
"""Types of tensors that can be coded."""

_MOST_LIST_BYTES = 1 << 24
_MOST_DIMS = 32

Form = tuple[np.dtype[Any], tuple[int, ...]]
"""Type and shape."""


def list_tensors(arrays: ArrayRecord, names: tuple[str, ...]) -> bytes:
    """What `list_of_tensors` reads: JSON.

    Args:
        arrays: A model.
        names: Its coded tensors.
    """
    coded = set(names)
    listed: list[str | list[str | list[int]]] = []
    for name, array in arrays.items():
        if name in coded:
            dtype, shape = array_form(name, array)
            listed.append([dtype.name, list(shape)])
        else:
            listed.append(name)
    return json.dumps(listed).encode()


def list_of_tensors(array: Array) -> list[Any]:
    """The entries of `fedhq.tensors`.

    Raises:
        WireError: If it is no JSON list.
    """
    content = read_array(TENSORS, array)
    require(content.dtype == np.uint8 and content.ndim == 1, "the list is bytes", content.dtype)
    require(content.size <= _MOST_LIST_BYTES, "the list is at most 16 MiB", content.size)
    try:
        listed = json.loads(content.tobytes())
    except (ValueError, RecursionError):
        listed = None
    require(isinstance(listed, list), "the list of tensors is JSON", content.tobytes()[:40])
    require(len(listed) <= MOST_TENSORS, f"at most {MOST_TENSORS} tensors", len(listed))
    return list(listed)


def coded_forms(listed: list[Any], names: tuple[str, ...]) -> dict[str, Form]:
    """Type and shape of each coded tensor.

    Args:
        listed: What `list_of_tensors` gives.
        names: The coded tensors, in order.

    Raises:
        WireError: If there are more or fewer, or one has no type and shape.
    """
    coded = [entry for entry in listed if not isinstance(entry, str)]
    require(len(coded) == len(names), f"{len(names)} tensors are coded", len(coded))
    return {name: _form(name, entry) for name, entry in zip(names, coded, strict=True)}


def template(forms: Mapping[str, Form]) -> dict[str, NDArray[Any]]:
    """Arrays of these shapes that take no memory, for the codec.

    Raises:
        WireError: If NumPy has no such arrays.
    """
    try:
        zero = np.zeros((), np.float32)
        return {name: np.broadcast_to(zero, shape) for name, (_, shape) in forms.items()}
    except ValueError as error:
        raise WireError(f"`shapes are those of arrays` must hold, but {error}.") from None


def _form(name: str, entry: Any) -> Form:
    good = isinstance(entry, list) and len(entry) == 2 and entry[0] in FLOATS
    good = good and isinstance(entry[1], list) and len(entry[1]) <= _MOST_DIMS
    good = good and all(type(dim) is int and 0 <= dim < 2**32 for dim in entry[1])
    require(good, f"type and shape of {name!r} are listed", type(entry).__name__)
    return np.dtype(entry[0]), tuple(entry[1])
