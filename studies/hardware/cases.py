"""What is measured: the repository's networks at three batch sizes, and probes that only calibrate.

Data are noise of the sizes that the data sets have: times do not go with values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import nn

from ...allocator.operators import ModelOperators
from ...allocator.strategy import Strategy, parse_menu
from ...fl_core.data.datasets import Dataset
from ...fl_core.predicting import list_steps
from ...fl_core.profiling import model_label
from ...models import build_model

BATCH_SIZES = (8, 32, 128)
MENU = parse_menu(["fp32", "qat-w2a2", "qat-w3a3", "qat-w4a4", "qat-w8a8"])
FLOAT: Strategy = MENU[0]


@dataclass(frozen=True)
class Case:
    """A network at a batch size.

    Args:
        network: A registered name, or a probe's.
        input_shape: Of one example.
        num_classes: Classes.
        batch_size: Examples per step.
    """

    network: str
    input_shape: tuple[int, ...]
    num_classes: int
    batch_size: int

    @property
    def label(self) -> str:
        """The network on its inputs, whatever the batch size."""
        return model_label(self.network, self.input_shape)

    @property
    def is_probe(self) -> bool:
        """Whether it only calibrates."""
        return self.network in _PROBES

    def build(self) -> nn.Module:
        """The network."""
        if self.is_probe:
            return _PROBES[self.network](self.input_shape, self.num_classes)
        return build_model(self.network, self.input_shape, self.num_classes, 0)

    def data(self, steps: int) -> Dataset:
        """Noise for so many steps."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch_size * steps, *self.input_shape)
        if len(self.input_shape) == 1:  # characters, each with a label
            inputs, labels = (
                torch.randint(0, self.num_classes, shape, generator=generator) for _ in range(2)
            )
        else:
            inputs = torch.rand(shape, generator=generator)
            labels = torch.randint(0, self.num_classes, shape[:1], generator=generator)
        return Dataset(inputs, labels, self.num_classes)

    def operators(self) -> ModelOperators:
        """What its steps compute."""
        return list_steps(self.build(), self.data(1), self.batch_size, self.label)


def _images(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Convolutions of other widths than the repository's, and torch's own pooling."""
    channels, side, _ = input_shape
    return nn.Sequential(
        nn.Conv2d(channels, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(48 * (side // 4) ** 2, num_classes),
    )


def _series(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """The same in one dimension, without normalisation."""
    channels, length = input_shape
    return nn.Sequential(
        nn.Conv1d(channels, 24, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(24, 48, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Linear(48 * (length // 4), num_classes),
    )


def _dense(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Few operators, of which products of matrices are most of the work."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(prod(input_shape), 192), nn.GELU(), nn.Linear(192, num_classes)
    )


_Sizes = tuple[str, tuple[int, ...], int]

_PROBES = {"probe-images": _images, "probe-series": _series, "probe-dense": _dense}

_NETWORKS: tuple[_Sizes, ...] = (
    ("mlp", (1, 8, 8), 10),
    ("mlp", (1, 28, 28), 10),
    ("mlp", (3, 32, 32), 10),
    ("cnn", (1, 8, 8), 10),
    ("cnn", (1, 28, 28), 10),
    ("cnn", (3, 32, 32), 10),
    ("resnet8", (1, 8, 8), 10),
    ("resnet8", (1, 28, 28), 10),
    ("resnet20", (1, 8, 8), 10),
    ("vit", (1, 8, 8), 10),
    ("vit", (1, 28, 28), 10),
    ("cnn1d", (6, 100), 7),
    ("cnn1d", (13, 32), 10),
    ("gru", (6, 100), 7),
    ("gru", (13, 32), 10),
    ("charlm", (64,), 71),
)
_PROBED: tuple[_Sizes, ...] = (
    ("probe-images", (1, 16, 16), 10),
    ("probe-series", (4, 64), 10),
    ("probe-dense", (1, 16, 16), 10),
)


def all_cases(batch_sizes: Sequence[int] = BATCH_SIZES, quick: bool = False) -> list[Case]:
    """The networks and the probes at every batch size; a quick study takes the fastest few."""
    networks = (*_NETWORKS[::3][:3], *_PROBED) if quick else (*_NETWORKS, *_PROBED)
    return [Case(*sizes, batch) for batch in batch_sizes for sizes in networks]
