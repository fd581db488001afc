"""The model that a federation ships: the server's weights, quantized as the settings say."""

from __future__ import annotations

import torch
from torch import nn

from ..allocator.strategy import Strategy
from ..models import (
    PER_CHANNEL,
    Fit,
    LayerBits,
    PerGroup,
    Recipe,
    correct_bias_,
    deploy,
)
from .data.datasets import Dataset
from .settings import QuantizationSettings


def make_recipe(settings: QuantizationSettings, weight_bits: int, activation_bits: int) -> Recipe:
    """The recipe of a strategy or of the deployment.

    Args:
        settings: All but the bits.
        weight_bits: 2 to 8.
        activation_bits: 2 to 8.

    Example:
        >>> make_recipe(QuantizationSettings(group_size=32), 4, 8).granularity
        PerGroup(group_size=32)
    """
    return Recipe(
        weight_bits,
        activation_bits,
        PER_CHANNEL if settings.group_size is None else PerGroup(settings.group_size),
        weight_fit=Fit(settings.weight_fit),
        activation_fit=Fit(settings.activation_fit),
        exclude=settings.exclude,
        keep_first=settings.keep_first,
        keep_last=settings.keep_last,
        layers=tuple(
            LayerBits(layer.pattern, layer.weight_bits, layer.activation_bits)
            for layer in settings.layers
        ),
    )


def ship(
    model: nn.Module,
    deployed: Strategy,
    settings: QuantizationSettings,
    calibration: Dataset,
    batch_size: int,
) -> nn.Module:
    """Deploys a float model; it is left as it is.

    Args:
        model: With the server's weights.
        deployed: Its weights' and activations' bits count.
        settings: All but the bits.
        calibration: Examples that no client and no test holds.
        batch_size: Of the calibration's batches.

    Returns:
        A converted copy in eval mode.
    """
    recipe = make_recipe(settings, deployed.weight_bits, deployed.activation_bits)
    batches = torch.split(calibration.inputs, batch_size)
    shipped = deploy(model, recipe, batches)
    return correct_bias_(shipped, model, batches) if settings.correct_bias else shipped
