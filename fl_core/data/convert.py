"""Makes data sets of arrays, torch data sets, and tables of Hugging Face or flwr-datasets.

No package is imported for this: a table is known by its `column_names`, an image by its `getbands`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ...allocator.arrays import IntArray
from .datasets import Dataset

INPUT_COLUMNS = ("img", "image", "x")
LABEL_COLUMNS = ("label", "fine_label", "character", "y")
_GROUP_COLUMNS = ("writer_id", "character_id")
_BANDS = (1, 3)
"""Grey and colour."""

Array = NDArray[Any]


class Table(Protocol):
    """What is asked of a table: names of columns, and each column by its name."""

    @property
    def column_names(self) -> list[str]:
        """Names in order."""
        ...

    def __getitem__(self, column: str) -> Iterable[Any]: ...


def as_dataset(source: object, num_classes: int | None = None) -> Dataset:
    """Makes a data set of arrays, a torch data set or a table.

    Args:
        source: One of
            a pair `(inputs, labels)` of NumPy arrays or tensors;
            a torch `Dataset` of a length whose items are `(input, label)`, a `TensorDataset` too;
            a Hugging Face table, as a partition of flwr-datasets is one, with the inputs in `img`,
            `image` or `x`, the labels in `label`, `fine_label`, `character` or `y`, and, where
            there are natural clients, these in `writer_id` or `character_id`.
            Images may be PIL's or uint8, which become float32 in [0, 1] with channels first; floats
            become float32 as they are; other integers are characters of texts, `(time,)` each,
            with a label for every character;
            a `Dataset` of this package, which stays as it is.
        num_classes: Classes; what the table says, or else the greatest label + 1 where None.

    Raises:
        ValueError: If lengths or shapes differ, a type does not fit, a value is NaN or infinite, a
            label is negative, no whole number or too great, or there is no example.

    Example:
        >>> data = as_dataset((np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 2, 1])))
        >>> data.inputs.shape, data.num_classes
        (torch.Size([4, 1, 8, 8]), 3)
    """
    if isinstance(source, Dataset):
        return source
    if hasattr(source, "column_names"):
        return _from_table(source, num_classes)
    inputs, labels = _parts(source)
    return _assemble(_stack(inputs, "inputs"), _stack(labels, "labels"), num_classes, None)


def as_clients(sources: Iterable[object], num_classes: int | None = None) -> tuple[Dataset, ...]:
    """Makes a data set of every client's source; all get the same number of classes.

    Args:
        sources: `(clients,)` what `as_dataset` takes.
        num_classes: Classes; as many as the client with the most has where None.

    Returns:
        `(clients,)` data, for `ListedClients` or `store_clients`.

    Raises:
        ValueError: As `as_dataset`, naming the client; or if examples differ in shape.

    Example:
        >>> one, two = (np.zeros((2, 1, 4, 4)), [0, 1]), (np.ones((1, 1, 4, 4)), [4])
        >>> [(len(data), data.num_classes) for data in as_clients([one, two])]
        [(2, 5), (1, 5)]
    """
    converted = []
    for client, source in enumerate(sources):
        try:
            converted.append(as_dataset(source, num_classes))
        except ValueError as error:
            raise ValueError(f"client {client}: {error}") from None
    if not converted:
        raise ValueError("`sources` must hold at least one client, but it is empty.")
    classes = max(data.num_classes for data in converted)
    for client, data in enumerate(converted):
        if data.input_shape != converted[0].input_shape:
            raise ValueError(
                f"`inputs` must have one shape at all clients, but client {client} has "
                f"{data.input_shape} and client 0 {converted[0].input_shape}."
            )
    return tuple(Dataset(d.inputs, d.labels, classes, d.groups) for d in converted)


def natural_ids(names: Array) -> IntArray:
    """`(examples,)` numbers 0, 1, ... of natural clients, in the order of their sorted names.

    Example:
        >>> natural_ids(np.array(["f02", "f01", "f02"])).tolist()
        [1, 0, 1]
    """
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def find_column(names: Sequence[str], known: tuple[str, ...]) -> str:
    """The first of the known columns that a table has.

    Args:
        names: Of its columns.
        known: `INPUT_COLUMNS` or `LABEL_COLUMNS`.

    Raises:
        ValueError: If it has none of them.

    Example:
        >>> find_column(["img", "label"], LABEL_COLUMNS)
        'label'
    """
    for name in known:
        if name in names:
            return name
    raise ValueError(
        f"the table must have one of the columns {known}, but has {list(names)}. "
        "Rename a column, or give a pair (inputs, labels)."
    )


def _parts(source: object) -> tuple[Iterable[Any], Iterable[Any]]:
    """Inputs and labels of a pair, a `TensorDataset` or anything with items."""
    pair = source.tensors if isinstance(source, torch.utils.data.TensorDataset) else source
    if isinstance(pair, tuple):
        if len(pair) != 2:
            raise ValueError(f"`source` must be a pair (inputs, labels), but holds {len(pair)}.")
        return pair
    if isinstance(pair, Dataset):
        return pair.inputs, pair.labels
    if not hasattr(pair, "__len__") or not hasattr(pair, "__getitem__"):
        raise ValueError(
            "`source` must be a pair (inputs, labels), a table, or a data set with a length and "
            f"items (input, label), but got {type(pair).__name__}. Put its items in a list."
        )
    items = [_item(pair[k], k) for k in range(len(pair))]
    return [x for x, _ in items], [y for _, y in items]


def _item(item: object, place: int) -> tuple[object, object]:
    if not isinstance(item, Sequence) or isinstance(item, str) or len(item) != 2:
        raise ValueError(f"items must be pairs (input, label), but item {place} is {item!r:.80}.")
    return item[0], item[1]


def _from_table(table: Any, num_classes: int | None) -> Dataset:
    names = table.column_names
    inputs, labels = find_column(names, INPUT_COLUMNS), find_column(names, LABEL_COLUMNS)
    if num_classes is None:
        feature = (getattr(table, "features", None) or {}).get(labels)
        num_classes = getattr(feature, "num_classes", None)
    named = [name for name in _GROUP_COLUMNS if name in names]
    groups = natural_ids(_stack(table[named[0]], named[0])) if named else None
    return _assemble(
        _stack(table[inputs], inputs), _stack(table[labels], labels), num_classes, groups
    )


def _stack(values: Iterable[Any], name: str) -> Array:
    """One array of all values, which must agree in shape."""
    if isinstance(values, torch.Tensor | np.ndarray) or not isinstance(values, Iterable):
        return _array(values)
    arrays = [_array(value) for value in values]
    for place, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"`{name}` must agree in shape, but example {place} has {array.shape} and example "
                f"0 has {arrays[0].shape}. Resize, cut or fill them up."
            )
    return np.stack(arrays) if arrays else np.empty(0, dtype=np.int64)


def _array(value: Any) -> Array:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        numbers: Array = (value.float() if value.is_floating_point() else value).numpy()
        return numbers
    array: Array = np.asarray(value)
    if array.dtype == np.bool_ and hasattr(value, "getbands"):
        return array.astype(np.uint8) * np.uint8(255)  # PIL's images of one bit
    return array


def _assemble(
    inputs: Array, labels: Array, num_classes: int | None, groups: IntArray | None
) -> Dataset:
    if inputs.ndim == 0 or labels.ndim == 0 or len(inputs) != len(labels):
        raise ValueError(
            "`inputs` and `labels` must have one entry for each example, but got shapes "
            f"{inputs.shape} and {labels.shape}."
        )
    if inputs.size == 0:
        raise ValueError(f"`inputs` must hold at least one example, but have {inputs.shape}.")
    values = _input_values(inputs)
    _check_labels(values, labels)
    holds_texts = values.dtype == np.int64
    greatest = int(max(labels.max(), values.max()) if holds_texts else labels.max())
    classes = greatest + 1 if num_classes is None else num_classes
    if greatest >= classes:
        raise ValueError(
            f"`label < num_classes` must hold, but got {greatest} with num_classes = {classes}."
        )
    return Dataset(
        torch.from_numpy(values), torch.from_numpy(labels.astype(np.int64)), classes, groups
    )


def _input_values(inputs: Array) -> Array:
    """Float32 or int64 as the networks take them; always a copy."""
    if inputs.dtype == np.uint8:
        return _pixels(inputs)
    if inputs.dtype.kind == "f":
        if not np.isfinite(inputs).all():
            row = int(np.argwhere(~np.isfinite(inputs))[0][0])
            raise ValueError(
                f"`inputs` must be finite, but example {row} has NaN or infinite values."
            )
        return inputs.astype(np.float32)
    if inputs.dtype.kind in "iu" and inputs.ndim == 2:
        if inputs.min() < 0:
            raise ValueError(f"`inputs` of texts must be >= 0, but got {inputs.min()}.")
        return inputs.astype(np.int64)
    raise ValueError(
        "`inputs` must be floats, uint8 images, or integers of shape (examples, time) for texts, "
        f"but got {inputs.dtype} of shape {inputs.shape}. Convert them to float32."
    )


def _pixels(images: Array) -> NDArray[np.float32]:
    """`(examples, channels, height, width)` in [0, 1]; channels may come last or be left out."""
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] not in _BANDS and images.shape[3] in _BANDS:
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in _BANDS:
        raise ValueError(
            "uint8 `inputs` must be images of 1 or 3 channels, (examples, height, width) with or "
            f"without channels, but got {images.shape}. Convert them to grey or RGB."
        )
    return np.ascontiguousarray(images, dtype=np.float32) / np.float32(255)


def _check_labels(inputs: Array, labels: Array) -> None:
    if labels.dtype.kind not in "iu":
        raise ValueError(
            f"`labels` must be whole numbers, but got {labels.dtype}. Number the classes from 0."
        )
    wanted = inputs.shape if inputs.dtype == np.int64 else inputs.shape[:1]
    if labels.shape != wanted:
        raise ValueError(
            f"`labels` must have shape {wanted}, one per example or character of a text, but got "
            f"{labels.shape}."
        )
    if labels.min() < 0:
        raise ValueError(f"`labels` must be >= 0, but got {labels.min()}. Number them from 0.")
