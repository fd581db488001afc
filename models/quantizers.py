"""The two quantizers of a layer: of a weight, and of its input.

They find ranges in training, keep them in deployment, and know nothing of the layer they serve.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .fake_quant import fake_quantize, fake_quantize_dynamic
from .granularity import Granularity
from .observers import (
    Fit,
    activation_range,
    fit_activation_range,
    fit_weight_range,
    quantize_activation,
    quantize_weight,
    weight_range,
)
from .recipe import Range
from .shadow import Shadow

_MOMENTUM = 0.1
"""Of a moving average: the newest batch's share, but for the first few, which share alike."""
_LEAST_SCALE = 1e-9
"""Of a learned range."""


def _usable(scale: Tensor) -> Tensor:
    """A learned scale as it is used: a step past zero would turn the grid around."""
    return scale.abs().clamp_min(_LEAST_SCALE)


class _Quantizer(nn.Module):
    """What both share: bits, codes, and a range once it is fixed."""

    scale: Tensor | None
    zero_point: Tensor | None

    def __init__(self, bits: int, codes: tuple[int, int], fit: Fit, range_: Range) -> None:
        super().__init__()
        self.bits = bits
        self.quant_min, self.quant_max = codes
        self.fit = fit
        self.range = range_
        self.is_converted = False
        self._is_trained = False
        self.register_buffer("zero_point", None, persistent=False)
        if range_ is not Range.LEARNED:
            self.register_buffer("scale", None, persistent=False)

    def extra_repr(self) -> str:
        """For printing a model."""
        return f"bits={self.bits}, fit={self.fit}, range={self.range}"

    def _learn(self, x: Tensor) -> Tensor:
        """Quantizes with the trained scale; its gradient is damped as in LSQ, section 2.2."""
        assert self.scale is not None
        values = x.numel() / max(self.scale.numel(), 1)
        damped = 1 / math.sqrt(max(values, 1) * self.quant_max)
        zero_point = 0 if self.zero_point is None else self.zero_point
        codes = self.quant_min, self.quant_max
        return fake_quantize(x, _usable(self.scale), zero_point, *codes, damped)


class WeightQuantizer(_Quantizer):
    """Quantizes a weight, symmetrically.

    In training the scale is fitted to the weight at hand, or learned; with a `shadow` (`shadow_`)
    the weight is quantized only once after every change.

    Args:
        bits: 2 to 8.
        weight: The weight, for its shape.
        granularity: Which of its values share a scale.
        fit: How a range is fitted.
        range_: dynamic or learned.
    """

    def __init__(
        self, bits: int, weight: Tensor, granularity: Granularity, fit: Fit, range_: Range
    ) -> None:
        super().__init__(bits, weight_range(bits), fit, range_)
        self.scale_shape = granularity.scale_shape(weight.shape)
        self.shadow: Shadow | None = None
        if range_ is Range.LEARNED:
            self.scale = nn.Parameter(weight.new_full(self.scale_shape, torch.nan))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight on its grid, with a straight-through gradient."""
        if self.is_converted:
            return weight
        if self.range is Range.LEARNED:
            self._begin_to_learn(weight)
            return self._learn(weight)
        if self.shadow is not None:
            return self.shadow.leaf(weight)
        return self._quantize(weight)

    def find_scale(self, weight: Tensor) -> Tensor:
        """The scales that the weight ships with."""
        if self.range is Range.LEARNED:
            self._begin_to_learn(weight)
            assert self.scale is not None
            return _usable(self.scale.detach())
        return fit_weight_range(weight, self.bits, self.scale_shape, self.fit)[0]

    def convert_(self, scale: Tensor) -> None:
        """From now on the weight is on the grid of these scales."""
        if self.range is Range.LEARNED:
            del self.scale
            self.register_buffer("scale", None, persistent=False)
        self.scale = scale
        self.zero_point = torch.zeros_like(scale, dtype=torch.int32)
        self.is_converted = True

    def _quantize(self, weight: Tensor) -> Tensor:
        if self.fit is Fit.ABSMAX:
            codes = self.quant_min, self.quant_max
            return fake_quantize_dynamic(weight, *codes, True, self.scale_shape)[0]
        return quantize_weight(weight, self.bits, self.scale_shape, self.fit)[0]

    def _begin_to_learn(self, weight: Tensor) -> None:
        if not self._is_trained:
            assert self.scale is not None
            with torch.no_grad():
                if bool(self.scale.isnan().any()):
                    fitted = fit_weight_range(weight, self.bits, self.scale_shape, self.fit)[0]
                    self.scale.copy_(fitted)
            self._is_trained = True


class InputQuantizer(_Quantizer):
    """Quantizes a layer's input with one scale; zero stays zero.

    In training the range comes from the batch, from an average over batches, or is learned. In eval
    mode a fixed range is used where there is one: of `calibrate_`, an average, a learned one.

    Args:
        bits: 2 to 8.
        fit: How a range is fitted.
        range_: dynamic, averaged or learned.
    """

    def __init__(self, bits: int, fit: Fit, range_: Range) -> None:
        super().__init__(bits, activation_range(bits), fit, range_)
        self._observed: list[tuple[Tensor, Tensor]] | None = None
        self._num_averaged = 0
        if range_ is Range.LEARNED:
            self.scale = nn.Parameter(torch.tensor(torch.nan))
            self.register_buffer("zero_point", torch.zeros((), dtype=torch.int32))

    @property
    def is_fixed(self) -> bool:
        """Whether there is a range to deploy with."""
        if self.scale is None or self.range is not Range.LEARNED:
            return self.scale is not None
        return self._is_trained or not bool(self.scale.isnan())

    def forward(self, x: Tensor) -> Tensor:
        """The input on its grid, with a straight-through gradient."""
        if self._observed is not None:
            return self._round(x, *self._observe(x, self._observed))
        if x.numel() == 0:
            return x
        if self.range is Range.LEARNED and not self.is_converted:
            self._begin_to_learn(x)
            return self._learn(x)
        if self.scale is not None and (self.is_converted or not self.training):
            return self._round(x, self.scale, self._zero())
        if self.range is Range.AVERAGED and self.training:
            return self._round(x, *self._average(x))
        if self.fit is Fit.ABSMAX:
            return fake_quantize_dynamic(x, self.quant_min, self.quant_max, False, ())[0]
        return quantize_activation(x, self.bits, self.fit)[0]

    def start_observing(self) -> None:
        """Keeps the ranges that the next batches ask for, unless training has found its own."""
        if self.range is Range.DYNAMIC or (self.range is Range.AVERAGED and self.scale is None):
            self._observed = []

    def stop_observing(self) -> list[tuple[Tensor, Tensor]] | None:
        """The scales and zero points seen, or None if none were asked for."""
        observed, self._observed = self._observed, None
        return observed

    def fix(self, scale: Tensor, zero_point: Tensor) -> None:
        """Sets the range of eval mode and of deployment."""
        self.scale, self.zero_point = scale, zero_point

    def convert_(self) -> None:
        """From now on the range is the fixed one, whatever the mode."""
        if self.range is Range.LEARNED:
            assert self.scale is not None
            scale = _usable(self.scale.detach())
            del self.scale
            self.register_buffer("scale", scale, persistent=False)
        if self.zero_point is None:
            assert self.scale is not None
            self.zero_point = torch.zeros_like(self.scale, dtype=torch.int32)
        self.is_converted = True

    def mean_range(self, observed: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The mean of the scales, and the zero point that keeps the mean of the lower ends."""
        scales = torch.stack([scale for scale, _ in observed])
        zeros = torch.stack([zero for _, zero in observed])
        return self._with_lower_end(scales.mean(), ((self.quant_min - zeros) * scales).mean())

    def _with_lower_end(self, scale: Tensor, lower: Tensor) -> tuple[Tensor, Tensor]:
        zero_point = self.quant_min - (lower / scale).round()
        return scale, zero_point.clamp(self.quant_min, self.quant_max).to(torch.int32)

    def _zero(self) -> Tensor | int:
        return 0 if self.zero_point is None else self.zero_point

    def _round(self, x: Tensor, scale: Tensor, zero_point: Tensor | int) -> Tensor:
        return fake_quantize(x, scale, zero_point, self.quant_min, self.quant_max)

    def _observe(self, x: Tensor, observed: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        observed.append(fit_activation_range(x.detach(), self.bits, self.fit))
        return observed[-1]

    @torch.no_grad()
    def _average(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The average before this batch, of the first batch its own; takes the batch in."""
        scale, zero_point = fit_activation_range(x, self.bits, self.fit)
        self._num_averaged += 1
        if self.scale is None or self.zero_point is None:
            self.fix(scale, zero_point)
            return scale, zero_point
        before = self.scale, self.zero_point
        lower = (self.quant_min - before[1]) * before[0]
        newest = (self.quant_min - zero_point) * scale
        share = max(_MOMENTUM, 1 / self._num_averaged)
        # A batch that is not finite does not count.
        usable = torch.isfinite(scale)
        mean_scale = torch.where(usable, before[0].lerp(scale, share), before[0])
        mean_lower = torch.where(usable, lower.lerp(newest, share), lower)
        self.fix(*self._with_lower_end(mean_scale, mean_lower))
        return before

    def _begin_to_learn(self, x: Tensor) -> None:
        if not self._is_trained:
            assert self.scale is not None
            scale, zero_point = fit_activation_range(x.detach(), self.bits, self.fit)
            with torch.no_grad():
                if bool(self.scale.isnan()):
                    # From a batch of zeros nothing can be learned, and steps would be huge.
                    self.scale.copy_(torch.ones(()) if float(scale) <= _LEAST_SCALE else scale)
                    self.zero_point = zero_point
            self._is_trained = True
