"""Small networks for image classification whose layers all take inputs >= 0."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

_CHANNELS = (8, 16)
_NORM_GROUPS = 4
_HIDDEN = (64, 64)
_POOL = 2


def _build_cnn(input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """Twice conv, GroupNorm, ReLU, pool; then one linear layer."""
    channels, height, width = input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for block, out in enumerate(_CHANNELS, start=1):
        layers[f"conv{block}"] = nn.Conv2d(channels, out, kernel_size=3, padding=1, bias=False)
        layers[f"norm{block}"] = nn.GroupNorm(_NORM_GROUPS, out)
        layers[f"relu{block}"] = nn.ReLU()
        layers[f"pool{block}"] = nn.MaxPool2d(_POOL)
        channels, height, width = out, height // _POOL, width // _POOL
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(channels * height * width, num_classes)
    return nn.Sequential(layers)


def _build_mlp(input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """Twice linear, LayerNorm, ReLU; then one linear layer."""
    channels, height, width = input_shape
    features = channels * height * width
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for block, out in enumerate(_HIDDEN, start=1):
        layers[f"linear{block}"] = nn.Linear(features, out, bias=False)
        layers[f"norm{block}"] = nn.LayerNorm(out)
        layers[f"relu{block}"] = nn.ReLU()
        features = out
    layers["linear"] = nn.Linear(features, num_classes)
    return nn.Sequential(layers)


_BUILDERS: dict[str, Callable[[tuple[int, int, int], int], nn.Sequential]] = {
    "cnn": _build_cnn,
    "mlp": _build_mlp,
}


def build_model(
    name: str, input_shape: tuple[int, int, int], num_classes: int, seed: int
) -> nn.Module:
    """Builds a float network; same seed, same bytes.

    Normalisation is by group or layer, never by batch: clients with skewed labels share no batch
    statistics. The global random generators are left as they were.

    Args:
        name: "cnn" (two convolutions and a linear layer) or "mlp" (three linear layers).
        input_shape: `(channels, height, width)` of one image; its pixels must be >= 0.
        num_classes: How many classes.
        seed: Of the initial weights.

    Returns:
        A module from `(examples, channels, height, width)` images to `(examples, classes)` logits.

    Raises:
        ValueError: If the name is unknown, a size is not positive, or an image is too small.

    Example:
        >>> model = build_model("cnn", (1, 8, 8), num_classes=10, seed=0)
        >>> model(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    if name not in _BUILDERS:
        raise ValueError(f"`name` must be one of {sorted(_BUILDERS)}, but got {name!r}.")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(
            f"`input_shape` must be three positive sizes (channels, height, width), "
            f"but got {input_shape}."
        )
    if num_classes < 1:
        raise ValueError(f"`num_classes >= 1` must hold, but got {num_classes}.")
    smallest = _POOL ** len(_CHANNELS)
    if name == "cnn" and min(input_shape[1:]) < smallest:
        raise ValueError(
            f"`height, width >= {smallest}` must hold for the cnn, which halves them twice, "
            f"but got {input_shape[1:]}. Take the mlp or enlarge the images."
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return _BUILDERS[name](input_shape, num_classes)
