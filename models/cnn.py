"""Networks for images without skip connections: a convolutional and a fully connected one."""

from __future__ import annotations

from collections import OrderedDict
from math import prod

from torch import nn

from .pool import MaxPool2d

_CHANNELS = (8, 16)
_NORM_GROUPS = 4
_HIDDEN = (64, 64)
_POOL = 2


def build_cnn(input_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """Twice conv, GroupNorm, pool, ReLU; then one linear layer.

    Args:
        input_shape: `(channels, height, width)` of one image.
        num_classes: How many classes.

    Returns:
        A module from `(examples, channels, height, width)` images to `(examples, classes)` logits.

    Raises:
        ValueError: If an image is too small to be halved twice.

    Example:
        >>> sum(p.numel() for p in build_cnn((1, 28, 28), 10).parameters())
        9122
    """
    channels, height, width = input_shape
    smallest = _POOL ** len(_CHANNELS)
    if min(height, width) < smallest:
        raise ValueError(
            f"`height, width >= {smallest}` must hold for the cnn, which halves them twice, "
            f"but got {(height, width)}. Take the mlp or enlarge the images."
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for block, out in enumerate(_CHANNELS, start=1):
        layers[f"conv{block}"] = nn.Conv2d(channels, out, kernel_size=3, padding=1, bias=False)
        layers[f"norm{block}"] = nn.GroupNorm(_NORM_GROUPS, out)
        # The greatest of the rectified is the rectified greatest, of a quarter of the values.
        layers[f"pool{block}"] = MaxPool2d(_POOL)
        layers[f"relu{block}"] = nn.ReLU()
        channels, height, width = out, height // _POOL, width // _POOL
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(channels * height * width, num_classes)
    return nn.Sequential(layers)


def build_mlp(input_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """Twice linear, LayerNorm, ReLU; then one linear layer.

    Args:
        input_shape: `(channels, height, width)` of one image.
        num_classes: How many classes.

    Returns:
        A module from `(examples, channels, height, width)` images to `(examples, classes)` logits.

    Example:
        >>> sum(p.numel() for p in build_mlp((1, 8, 8), 10).parameters())
        9098
    """
    features = prod(input_shape)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for block, out in enumerate(_HIDDEN, start=1):
        layers[f"linear{block}"] = nn.Linear(features, out, bias=False)
        layers[f"norm{block}"] = nn.LayerNorm(out)
        layers[f"relu{block}"] = nn.ReLU()
        features = out
    layers["linear"] = nn.Linear(features, num_classes)
    return nn.Sequential(layers)
