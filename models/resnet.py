"""Residual networks for small images, normalised by group.

References:
    He et al., arXiv 1512.03385, section 4.2 (the CIFAR networks of 6n + 2 layers, shortcut A);
    Wu and He, arXiv 1803.08494 (GroupNorm).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

_CHANNELS = (16, 32, 64)
_NORM_GROUPS = 4


class ResidualBlock(nn.Module):
    """Twice conv and GroupNorm, added to the input.

    Where the block halves the image and widens it, the shortcut takes every other pixel and pads
    with channels of zeros (option A of the paper): it has no parameters and nothing to quantize.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, no fewer.
        stride: 2 halves height and width, rounding up; 1 keeps them.

    Example:
        >>> import torch
        >>> ResidualBlock(16, 32, stride=2)(torch.zeros(1, 16, 8, 7)).shape
        torch.Size([1, 32, 4, 4])
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(_NORM_GROUPS, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(_NORM_GROUPS, out_channels)
        self._stride = stride
        self._new_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """From `(examples, channels, height, width)` to the same with the block's sizes."""
        y = nn.functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return nn.functional.relu(y + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self._stride > 1:
            x = x[:, :, :: self._stride, :: self._stride]
        if self._new_channels:
            x = nn.functional.pad(x, (0, 0, 0, 0, 0, self._new_channels))
        return x


def _build(input_shape: tuple[int, ...], num_classes: int, blocks_a_stage: int) -> nn.Sequential:
    channels = input_shape[0]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(channels, _CHANNELS[0], kernel_size=3, padding=1, bias=False)
    layers["norm"] = nn.GroupNorm(_NORM_GROUPS, _CHANNELS[0])
    layers["relu"] = nn.ReLU()
    channels = _CHANNELS[0]
    for stage, out in enumerate(_CHANNELS, start=1):
        for block in range(1, blocks_a_stage + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            layers[f"stage{stage}_block{block}"] = ResidualBlock(channels, out, stride)
            channels = out
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(channels, num_classes)
    return nn.Sequential(layers)


def build_resnet8(input_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """One residual block in each of three stages, for images of any size.

    Args:
        input_shape: `(channels, height, width)` of one image.
        num_classes: How many classes.

    Returns:
        A module from `(examples, channels, height, width)` images to `(examples, classes)` logits.

    Example:
        >>> sum(p.numel() for p in build_resnet8((3, 32, 32), 10).parameters())
        75290
    """
    return _build(input_shape, num_classes, blocks_a_stage=1)


def build_resnet20(input_shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """Three residual blocks in each of three stages, for images of any size.

    Args:
        input_shape: `(channels, height, width)` of one image.
        num_classes: How many classes.

    Returns:
        A module from `(examples, channels, height, width)` images to `(examples, classes)` logits.

    Example:
        >>> sum(p.numel() for p in build_resnet20((3, 32, 32), 10).parameters())
        269722
    """
    return _build(input_shape, num_classes, blocks_a_stage=3)
