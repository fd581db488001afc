"""Layers that quantize their weight and input; their parameters are those of a float layer."""

from __future__ import annotations

from torch import Tensor, nn

from .observers import (
    fit_activation_scale,
    fit_weight_scale,
    quantize_activation,
    quantize_weight,
)


class FakeQuantLayer(nn.Module):
    """What quantizing layers share: bits, ranges, and when which of them applies.

    Made by `prepare_` from a float layer, never constructed. Weight scales come from the weight at
    hand until `convert_` fixes the weight. The input's scale comes from the batch at hand until
    `calibrate_` has fixed it; even then a layer in training mode goes by its batch, unless it is
    converted.
    """

    weight: Tensor
    weight_bits: int
    activation_bits: int
    is_converted: bool
    observed_scales: list[Tensor] | None
    weight_scale: Tensor | None
    activation_scale: Tensor | None

    def set_up(self, weight_bits: int, activation_bits: int) -> None:
        """Adds what a float layer does not have; nothing of it enters the state dict."""
        self.weight_bits = weight_bits
        self.activation_bits = activation_bits
        self.is_converted = False
        self.observed_scales = None
        self.register_buffer("weight_scale", None, persistent=False)
        self.register_buffer("activation_scale", None, persistent=False)

    def quantized_weight(self) -> Tensor:
        """The weight on the grid, shape `(channels, ...)`."""
        if self.is_converted:
            return self.weight
        scale = fit_weight_scale(self.weight, self.weight_bits)
        return quantize_weight(self.weight, scale, self.weight_bits)

    def quantized_input(self, x: Tensor) -> Tensor:
        """The layer's input on the grid, shape of `x`; observes its scale while calibrating."""
        static = self.activation_scale if self.is_converted or not self.training else None
        if static is None or self.observed_scales is not None:
            scale = fit_activation_scale(x, self.activation_bits)
        else:
            scale = static
        if self.observed_scales is not None:
            self.observed_scales.append(scale)
        return quantize_activation(x, scale, self.activation_bits)


class FakeQuantConv2d(FakeQuantLayer, nn.Conv2d):
    """A convolution over quantized weights and inputs."""

    def forward(self, input: Tensor) -> Tensor:
        """Like `nn.Conv2d`."""
        x, weight = self.quantized_input(input), self.quantized_weight()
        output: Tensor = self._conv_forward(x, weight, self.bias)
        return output


class FakeQuantLinear(FakeQuantLayer, nn.Linear):
    """A linear layer over quantized weights and inputs."""

    def forward(self, input: Tensor) -> Tensor:
        """Like `nn.Linear`."""
        x, weight = self.quantized_input(input), self.quantized_weight()
        return nn.functional.linear(x, weight, self.bias)
