"""How weights and activations are quantized."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from .fields import KNOWN_KEYS_ONLY, Bits, Count


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class LayerSettings:
    """Other bits for some layers.

    Args:
        pattern: Of their names, as in a shell: `blocks.*.query`.
        weight_bits: 2 to 8.
        activation_bits: 2 to 8.
    """

    pattern: str
    weight_bits: Bits
    activation_bits: Bits


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class QuantizationSettings:
    """How weights and activations are quantized, in training as in deployment, at whatever bits.

    In training, ranges are those of the batch at hand: a client keeps nothing from round to round.

    Args:
        group_size: Weights of a channel that share a scale; all of them where None.
        weight_fit: How a weight's range is fitted: least squared error, nothing clipped, or all but
            a thousandth.
        activation_fit: How an activation's range is fitted.
        exclude: Patterns of the names of layers that stay float, as in a shell.
        keep_first: Leave the first quantizing layer in float.
        keep_last: Leave the last one in float.
        layers: Other bits for some layers, whatever the strategy.
        correct_bias: Shift the deployed biases so that mean outputs are those in float.
    """

    group_size: Count | None = None
    weight_fit: Literal["mse", "absmax", "percentile"] = "mse"
    activation_fit: Literal["mse", "absmax", "percentile"] = "mse"
    exclude: tuple[str, ...] = ()
    keep_first: Annotated[bool, Field(strict=True)] = False
    keep_last: Annotated[bool, Field(strict=True)] = False
    layers: tuple[LayerSettings, ...] = ()
    correct_bias: Annotated[bool, Field(strict=True)] = False
