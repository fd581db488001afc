"""Reads a `.npy` file of Python objects without running what it asks for.

Such a file holds a pickle, which here may name only what NumPy arrays are made of.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..safe_pickle import load_known

# What a pickled array names to be remade; taken from one, since its home moves between versions.
_remake_array = np.empty(0).__reduce__()[0]


def _encode_latin1(text: str, encoding: str) -> bytes:
    """How a pickle for Python 2 spells bytes; `codecs.encode` proper would do far more."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it writes bytes as {encoding!r} instead of latin1")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _remake_array,
    ("numpy._core.multiarray", "_reconstruct"): _remake_array,
    ("_codecs", "encode"): _encode_latin1,
}


def read_object(path: Path) -> object:
    """Reads the one object that `numpy.save` wrote as an array of no axes.

    Args:
        path: A `.npy` file whose array has dtype object and shape `()`.

    Returns:
        The object: literals, lists, dictionaries and arrays.

    Raises:
        ValueError: If the file is no such array, is cut off, or names anything but NumPy's arrays.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "one.npy"
        >>> np.save(path, np.array({"x": [1, 2]}, dtype=object))
        >>> read_object(path)
        {'x': [1, 2]}
    """
    with path.open("rb") as file:
        try:
            _check_header(file)
            array = load_known(file, _KNOWN, "an array")
            if not isinstance(array, np.ndarray) or array.shape != ():
                raise ValueError(f"it holds a {type(array).__name__} instead")
        except ValueError as error:
            raise ValueError(
                f"{path} must hold one pickled object of NumPy arrays, but {error}. "
                "Install the package that it comes from anew."
            ) from None
    return array.item()


def _check_header(file: BinaryIO) -> None:
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("the version of its format is not 1.0")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if shape != () or dtype != np.dtype(object):
        raise ValueError(f"it is an array of {dtype} with shape {shape}")
