"""The networks by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from .cnn import build_cnn, build_mlp
from .resnet import build_resnet8, build_resnet20
from .sequence import build_cnn1d, build_gru
from .transformer import build_charlm, build_vit

_IMAGE = ("channels", "height", "width")
_SERIES = ("channels", "time")
_TEXT = ("time",)


@dataclass(frozen=True)
class _Network:
    """How to build a network, and the axes of one of its inputs."""

    build: Callable[[tuple[int, ...], int], nn.Module]
    axes: tuple[str, ...]


_NETWORKS = {
    "charlm": _Network(build_charlm, _TEXT),
    "cnn": _Network(build_cnn, _IMAGE),
    "cnn1d": _Network(build_cnn1d, _SERIES),
    "gru": _Network(build_gru, _SERIES),
    "mlp": _Network(build_mlp, _IMAGE),
    "resnet20": _Network(build_resnet20, _IMAGE),
    "resnet8": _Network(build_resnet8, _IMAGE),
    "vit": _Network(build_vit, _IMAGE),
}


def build_model(name: str, input_shape: tuple[int, ...], num_classes: int, seed: int) -> nn.Module:
    """Builds a float network; same seed, same bytes.

    Normalisation is by group or layer, never by batch: clients with skewed labels share no batch
    statistics. The global random generators are left as they were.

    Args:
        name: For images "cnn" (two convolutions), "mlp" (three linear layers), "resnet8",
            "resnet20" (residual) or "vit" (transformer); for series "cnn1d" or "gru"; for text
            "charlm" (transformer).
        input_shape: Of one example: an image's `(channels, height, width)`, a series'
            `(channels, time)`, a text's `(time,)`.
        num_classes: How many classes; of a text, how many different characters.
        seed: Of the initial weights.

    Returns:
        A module from `(examples, *input_shape)` float32 inputs to `(examples, classes)` logits;
        charlm's is from `(examples, time)` int64 characters to `(examples, vocabulary, time)`.

    Raises:
        ValueError: If the name is unknown, or a size is not positive or does not suit the network.

    Example:
        >>> model = build_model("cnn", (1, 8, 8), num_classes=10, seed=0)
        >>> model(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    if name not in _NETWORKS:
        raise ValueError(f"`name` must be one of {sorted(_NETWORKS)}, but got {name!r}.")
    network = _NETWORKS[name]
    if len(input_shape) != len(network.axes) or min(input_shape) < 1:
        raise ValueError(
            f"`input_shape` must be positive sizes ({', '.join(network.axes)}) for the {name}, "
            f"but got {input_shape}. {_suited(len(input_shape))}"
        )
    if num_classes < 1:
        raise ValueError(f"`num_classes >= 1` must hold, but got {num_classes}.")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return network.build(input_shape, num_classes)


def _suited(num_axes: int) -> str:
    """Which networks take inputs of so many axes."""
    names = [name for name, network in _NETWORKS.items() if len(network.axes) == num_axes]
    return f"Networks for {num_axes} axes: {', '.join(names) or 'none'}."
