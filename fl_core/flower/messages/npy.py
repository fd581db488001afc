"""Arrays of Flower, read without trust.

Flower's `Array` is the bytes of an `.npy` file beside a type and a shape that it claims. NumPy's
reader takes memory for what the file claims before it looks how long it is; this one compares
first, and reads plain numbers only.
"""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ....allocator.errors import WireError

if TYPE_CHECKING:
    from flwr.app import Array

_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    rb"\{'descr': '([<>|=][biufc]\d{1,2})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,19}, )*(?:\d{1,19},?)?)\), \} *\n"
)
_MOST_HEADER_BYTES = 4096
_MOST_DIMS = 32


def array_form(name: str, array: Array) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape of an array, by its bytes; nothing of their size is read.

    Args:
        name: Of the array, for errors.
        array: Whatever came.

    Raises:
        WireError: If it is no NumPy array of numbers, its length is another than its shape says,
            or what it claims beside it differs.

    Example:
        >>> from flwr.app import Array
        >>> array_form("w", Array(np.zeros((2, 3), np.float32)))
        (dtype('float32'), (2, 3))
    """
    return _read_header(name, array)[:2]


def read_array(name: str, array: Array) -> NDArray[Any]:
    """The values of an array, in the byte order of this machine; a view, not to be written to.

    Args:
        name: Of the array, for errors.
        array: Whatever came.

    Raises:
        WireError: As `array_form`.

    Example:
        >>> from flwr.app import Array
        >>> read_array("w", Array(np.arange(3))).tolist()
        [0, 1, 2]
    """
    dtype, shape, is_fortran, start = _read_header(name, array)
    values = np.frombuffer(array.data, dtype, offset=start)
    values = values.reshape(shape, order="F" if is_fortran else "C")
    return values.astype(dtype.newbyteorder("="), copy=False)


def _read_header(name: str, array: Array) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """Type, shape, whether columns come first, and where the numbers begin."""
    data = array.data
    _require(array.stype == "numpy.ndarray", name, "stype = 'numpy.ndarray'", array.stype)
    _require(data[:6] == _MAGIC and len(data) >= 12, name, "it is an .npy file", data[:6])
    wide = data[6] > 1  # version 1 has two bytes for the length of its header, later ones four
    begin = 12 if wide else 10
    size = int.from_bytes(data[8:begin], "little")
    _require(size <= _MOST_HEADER_BYTES, name, f"header <= {_MOST_HEADER_BYTES} bytes", size)
    found = _HEADER.fullmatch(data[begin : begin + size])
    if found is None:
        raise _error(name, "its header is NumPy's, of an array of numbers", data[begin:][:80])
    dtype = _dtype(name, found[1].decode())
    shape = tuple(int(dim) for dim in found[3].replace(b",", b" ").split())
    _require(len(shape) <= _MOST_DIMS, name, f"at most {_MOST_DIMS} dims", len(shape))
    # NumPy has no arrays of more values, even where a dim is 0; the wire has no greater dims.
    fits = prod(max(dim, 1) for dim in shape) * dtype.itemsize < 2**63
    fits = fits and max(shape, default=0) < 2**32
    _require(fits, name, "its dims are below 2**32, its size below 2**63", shape)
    expected = begin + size + prod(shape) * dtype.itemsize
    _require(len(data) == expected, name, f"length = {expected} of its shape", len(data))
    # The legacy API claims neither.
    claims = (array.dtype, tuple(array.shape))
    told = (str(dtype), shape)
    _require(claims in (told, ("", ())), name, f"type and shape = {told} of its bytes", claims)
    return dtype, shape, found[2] == b"True", begin + size


def _dtype(name: str, text: str) -> np.dtype[Any]:
    try:
        return np.dtype(text)
    except TypeError:
        raise _error(name, "its type is one of NumPy's", text) from None


def _require(holds: bool, name: str, rule: str, got: object) -> None:
    if not holds:
        raise _error(name, rule, got)


def _error(name: str, rule: str, got: object) -> WireError:
    return WireError(
        f"`{rule}` must hold for the array {name!r}, but got {got!r:.200}: drop the message and "
        "count its sender as failed."
    )
