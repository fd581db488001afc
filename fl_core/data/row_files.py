"""Arrays in `.npy` files that are written and read a few rows at a time."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ...allocator.errors import DataError


class Rows:
    """Rows of a `.npy` file, read when asked for.

    A mapping of the file would keep in memory whatever of it was ever touched.
    """

    def __init__(self, path: Path, array: np.memmap[Any, Any]) -> None:
        self._path, self._start = path, array.offset
        self.shape: tuple[int, ...] = array.shape[1:]
        self._dtype = array.dtype

    def read(self, first: int, count: int) -> NDArray[Any]:
        """`(count, ...)` rows from the first one on.

        Raises:
            DataError: If they are not there any more.
        """
        each = math.prod(self.shape)
        start = self._start + first * each * self._dtype.itemsize
        try:
            values = np.fromfile(self._path, self._dtype, count * each, offset=start)
            return values.reshape(count, *self.shape)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self._path} must hold rows {first} ... {first + count}, but: {error}. "
                "Store the clients anew in another folder."
            ) from error


class RowWriter:
    """Writes a `.npy` file row by row; how many rows, its header says in the end.

    NumPy leaves room in a header for the first size to grow, so that it can be written twice.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._file = path.open("w+b")
        self._digest = hashlib.sha256()
        self._shape, self._dtype, self._rows = shape, dtype, 0
        self._start = self._write_header()

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, rows: NDArray[Any]) -> None:
        """Adds rows of the array's shape and type."""
        content = np.ascontiguousarray(rows, dtype=self._dtype).reshape(-1).view(np.uint8).data
        self._file.write(content)
        self._digest.update(content)
        self._rows += len(rows)

    def finish(self) -> dict[str, Any]:
        """Completes the file and says what the header has to know of it."""
        if self._write_header() != self._start:
            raise OSError("the header of an array changed its length")
        self._file.flush()
        os.fsync(self._file.fileno())
        size = os.fstat(self._file.fileno()).st_size
        shape = [self._rows, *self._shape]
        sha256 = self._digest.hexdigest()
        return {"shape": shape, "dtype": self._dtype.str, "bytes": size, "sha256": sha256}

    def _write_header(self) -> int:
        self._file.seek(0)
        shape = (self._rows, *self._shape)
        layout = {"shape": shape, "fortran_order": False, "descr": npy.dtype_to_descr(self._dtype)}
        npy.write_array_header_1_0(self._file, layout)
        return self._file.tell()
