"""Array types, and the one way in which arrays from outside are checked and frozen."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def freeze(name: str, values: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Copies numbers into a read-only float array, or says what is wrong with them.

    Args:
        name: What to call the array in an error.
        values: Finite numbers >= 0 of the given shape.
        shape: The shape that the array must have.

    Returns:
        A read-only copy.

    Raises:
        ValueError: If the shape differs, or a value is NaN, infinite or negative.

    Example:
        >>> freeze("loss", [[0, 1]], (1, 2)).flags.writeable
        False
    """
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be an array of numbers, but {error}.") from None
    if array.shape != shape:
        raise ValueError(f"`{name}` must have shape {shape}, but got {array.shape}.")
    bad = ~(np.isfinite(array) & (array >= 0))
    if bad.any():
        where = tuple(int(k) for k in np.argwhere(bad)[0])
        raise ValueError(
            f"`{name}` must be finite and >= 0, but {name}{list(where)} = {array[where]}"
            f" ({int(bad.sum())} such values). Use `allowed` for what a client cannot do."
        )
    array.flags.writeable = False
    return array
