"""What a data set is: labelled examples, and how test and calibration examples are cut off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ...allocator.arrays import IntArray


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled examples.

    Args:
        inputs: `(examples, ...)`: images `(channels, height, width)` float32 in [0, 1], series
            `(channels, time)` float32 of about unit spread, or texts `(time,)` int64 characters.
        labels: `(examples,)` int64 in `0 ... num_classes - 1`; of texts `(examples, time)`, one
            for every character.
        num_classes: Classes; of texts, different characters.
        groups: `(examples,)` whose example it is, where the data have natural clients: a person,
            a writer, a role.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    num_classes: int
    groups: IntArray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Sizes of one example, as `build_model` takes them."""
        return tuple(self.inputs.shape[1:])

    def take(self, indices: IntArray) -> Dataset:
        """The examples at `(n,)` indices, in that order."""
        rows = torch.from_numpy(indices)
        groups = None if self.groups is None else self.groups[indices]
        return Dataset(self.inputs[rows], self.labels[rows], self.num_classes, groups)


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


def split_dataset(
    dataset: Dataset,
    num_test: int,
    num_calibration: int,
    rng: np.random.Generator,
    unit: Literal["examples", "natural"] = "examples",
) -> Split:
    """Cuts off test and calibration examples, each drawn evenly over the classes.

    Texts, whose every example has characters of many classes, are drawn evenly from the whole.
    Examples that overlap, as smartwatch windows do, may come to lie on both sides of a cut: such
    a test says how well a model knows these recordings, not how well it will do on new people.
    The unit `natural` tells just that: it tests on all examples of some natural clients.

    Args:
        dataset: What to cut.
        num_test: Test examples; at least so many with `natural`, which takes natural clients whole.
        num_calibration: Examples for calibration, drawn from those that are not for testing.
        rng: Draws.
        unit: What is never cut through: one example, or all examples of a natural client.

    Raises:
        ValueError: If nothing would be left to train on, or there are no natural clients.
    """
    _check_left(num_test, num_calibration, len(dataset))
    labels = dataset.labels.numpy()
    if unit == "natural":
        in_test = _draw_groups(dataset, num_test, rng)
        test, rest = np.flatnonzero(in_test), np.flatnonzero(~in_test)
        _check_left(len(test), num_calibration, len(dataset))
        rest = rest[_even_order(labels[rest], rng)]
    else:
        order = _even_order(labels, rng)
        test, rest = order[:num_test], order[num_test:]
    return Split(
        train=dataset.take(np.sort(rest[num_calibration:])),
        calibration=dataset.take(np.sort(rest[:num_calibration])),
        test=dataset.take(np.sort(test)),
    )


def _check_left(num_test: int, num_calibration: int, num_examples: int) -> None:
    if num_test + num_calibration >= num_examples:
        raise ValueError(
            f"`num_test + num_calibration < {num_examples}` must hold, but got "
            f"{num_test} + {num_calibration}."
        )


def _draw_groups(
    dataset: Dataset, num_test: int, rng: np.random.Generator
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """`(examples,)` whether of a group drawn for testing; as few groups as `num_test` needs."""
    groups = natural_groups(dataset)
    ids, counts = np.unique(groups, return_counts=True)
    order = rng.permutation(len(ids))
    needed = int(np.searchsorted(np.cumsum(counts[order]), num_test)) + 1
    return np.isin(groups, ids[order[:needed]])


def natural_groups(dataset: Dataset) -> IntArray:
    """`(examples,)` the natural client of each example.

    Raises:
        ValueError: If the data set has none.
    """
    if dataset.groups is None:
        raise ValueError(
            "`natural` needs data that say whose each example is, but these do not. Take "
            "smartwatch, femnist, shakespeare, or arrays with `client`; or do not ask for natural."
        )
    return dataset.groups


def _even_order(labels: IntArray, rng: np.random.Generator) -> IntArray:
    """A random order; of examples with one label, each prefix holds the classes in proportion."""
    shuffled = rng.permutation(len(labels))
    if labels.ndim != 1:
        return shuffled
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels[shuffled] == label)
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return shuffled[np.argsort(place, kind="stable")]
