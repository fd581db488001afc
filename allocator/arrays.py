"""Array types, and the one way in which arrays from outside are checked and frozen."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_TABLES_OF_CHOICES = ("seconds", "loss", "switching_seconds")  # (clients, strategies)


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
    array = _numbers(name, values)
    if array.shape != shape:
        raise ValueError(f"`{name}` must have shape {shape}, but got {array.shape}.")
    _check_values(name, array)
    array.flags.writeable = False
    return array


def freeze_told(name: str, values: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """As `freeze`, but NaN stands for what nobody told.

    Example:
        >>> freeze_told("num_examples", [3, float("nan")], (2,))
        array([ 3., nan])
    """
    array = _numbers(name, values)
    freeze(name, np.where(np.isnan(array), 0.0, array), shape)
    array.flags.writeable = False
    return array


def freeze_told_counts(values: ArrayLike) -> FloatArray:
    """Copies `(clients, classes)` label counts as they were told into a read-only array.

    A row of NaN is withheld; counts below 0, which noise makes, stay as they are.

    Raises:
        ValueError: If they are no matrix with at least one class, a value is infinite, or a row is
            withheld in part.
    """
    shape = _shape_of_counts(values)
    counts = _numbers("label_counts", values).reshape(shape)
    withheld = np.isnan(counts)
    if (partly := np.flatnonzero(withheld.any(axis=1) & ~withheld.all(axis=1))).size:
        raise ValueError(
            "a row of `label_counts` must be NaN throughout (withheld) or nowhere, but that of "
            f"client {partly[0]} is in part ({partly.size} such rows). Group the classes that are "
            "told, or withhold all."
        )
    _check_values("label_counts", np.where(withheld, 0.0, np.abs(counts)))
    counts.flags.writeable = False
    return counts


def freeze_counts(values: ArrayLike) -> FloatArray:
    """Copies `(clients, classes)` label counts into a read-only array.

    Raises:
        ValueError: If they are no matrix with at least one class, or a value is not finite or < 0.
    """
    return freeze("label_counts", values, _shape_of_counts(values))


def _numbers(name: str, values: ArrayLike) -> FloatArray:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be an array of numbers, but {error}.") from None


def _shape_of_counts(values: ArrayLike) -> tuple[int, ...]:
    try:
        shape = np.shape(values)
    except ValueError:
        raise ValueError(
            "`label_counts` must have as many classes for every client, but its rows differ in "
            "length. Write 0 where a client holds none of a class."
        ) from None
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(
            "`label_counts` must have shape (clients, classes) with at least one class, "
            f"but got {shape}."
        )
    return shape


def _check_values(name: str, array: FloatArray) -> None:
    bad = ~(np.isfinite(array) & (array >= 0))
    if not bad.any():
        return
    if array.ndim == 0:
        raise ValueError(f"`{name}` must be finite and >= 0, but got {array[()]}.")
    where = tuple(int(k) for k in np.argwhere(bad)[0])
    mend = " Use `allowed` for what a client cannot do." if name in _TABLES_OF_CHOICES else ""
    raise ValueError(
        f"`{name}` must be finite and >= 0, but {name}{list(where)} = {array[where]}"
        f" ({int(bad.sum())} such values).{mend}"
    )
