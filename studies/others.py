"""Other libraries' quantization-aware training, put into our networks to be measured beside ours.

Brevitas and torchao are no dependencies: what is not installed is left out and says so. In all of
them weights are symmetric per output channel and inputs unsigned, as ours are; what cannot be had
alike is told where it is built.
"""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ..models import activation_range, weight_range

MakeQuantizer = Callable[[], nn.Module]


class QuantizingConv2d(nn.Conv2d):
    """A convolution whose weight and input go through a module each."""

    weight_quantizer: nn.Module
    input_quantizer: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Like `nn.Conv2d`."""
        x, weight = self.input_quantizer(input), self.weight_quantizer(self.weight)
        output: Tensor = self._conv_forward(x, weight, self.bias)
        return output


class QuantizingLinear(nn.Linear):
    """A linear layer whose weight and input go through a module each."""

    weight_quantizer: nn.Module
    input_quantizer: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Like `nn.Linear`."""
        x, weight = self.input_quantizer(input), self.weight_quantizer(self.weight)
        return nn.functional.linear(x, weight, self.bias)


def why_missing(package: str) -> str:
    """Why what needs a package is left out; empty if it is installed.

    Example:
        >>> why_missing("torch"), why_missing("no_such_package")
        ('', 'left out: no_such_package is not installed')
    """
    return "" if find_spec(package) is not None else f"left out: {package} is not installed"


def quantizing_with(
    model: nn.Module, make_weight: MakeQuantizer, make_input: MakeQuantizer
) -> nn.Module:
    """A copy whose convolutions and linear layers use the given modules to quantize.

    Args:
        model: A float model.
        make_weight: Makes the module of a weight.
        make_input: Makes the module of a layer's input.
    """
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        if type(module) is nn.Conv2d:
            module.__class__ = QuantizingConv2d
        elif type(module) is nn.Linear:
            module.__class__ = QuantizingLinear
        if isinstance(module, QuantizingConv2d | QuantizingLinear):
            module.weight_quantizer, module.input_quantizer = make_weight(), make_input()
    return model


def torch_ao_model(model: nn.Module, weight_bits: int, activation_bits: int) -> nn.Module:
    """A copy with torch.ao's fused fake quantization: abs-max and min-max, moving averages.

    Args:
        model: A float model.
        weight_bits: Of weights, per channel.
        activation_bits: Of inputs, per tensor.

    Raises:
        ImportError: Where torch no longer has it (it is deprecated).
        AttributeError: Likewise.
    """
    from torch.ao import quantization as ao

    low, high = weight_range(weight_bits)
    make_weight = partial(
        ao.FusedMovingAvgObsFakeQuantize,
        observer=ao.MovingAveragePerChannelMinMaxObserver,
        quant_min=low,
        quant_max=high,
        dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric,
    )
    low, high = activation_range(activation_bits)
    make_input = partial(
        ao.FusedMovingAvgObsFakeQuantize,
        observer=ao.MovingAverageMinMaxObserver,
        quant_min=low,
        quant_max=high,
        dtype=torch.quint8,
    )
    return quantizing_with(model, make_weight, make_input)


def torch_ao_prepared(
    model: nn.Sequential, weight_bits: int, activation_bits: int, *, fused: bool
) -> nn.Module:
    """A copy after `torch.ao.quantization.prepare_qat`, with a stub before each layer it quantizes.

    What stands between these layers stays float, as in our networks; ranges are moving averages of
    abs-max (weights) and min-max (inputs), as in torch's own configurations.

    Args:
        model: A float sequence of layers.
        weight_bits: Of weights, per channel.
        activation_bits: Of inputs, per tensor.
        fused: Whether observing and rounding are one operator (`get_default_qat_qconfig`) or
            several (`default_qat_qconfig`).

    Raises:
        ImportError: Where torch no longer has it (it is deprecated).
        AttributeError: Likewise.
    """
    ao: Any = import_module("torch.ao.quantization")  # without types

    kind = ao.FusedMovingAvgObsFakeQuantize if fused else ao.FakeQuantize
    low, high = weight_range(weight_bits)
    weight = kind.with_args(
        observer=ao.MovingAveragePerChannelMinMaxObserver,
        quant_min=low,
        quant_max=high,
        dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric,
    )
    low, high = activation_range(activation_bits)
    inputs = kind.with_args(
        observer=ao.MovingAverageMinMaxObserver, quant_min=low, quant_max=high, dtype=torch.quint8
    )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, module in copy.deepcopy(model).named_children():
        if isinstance(module, nn.Conv2d | nn.Linear):
            layers[f"stub_{name}"] = ao.QuantStub(ao.QConfig(activation=inputs, weight=weight))
            module.qconfig = ao.QConfig(activation=nn.Identity, weight=weight)
        layers[name] = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        prepared: nn.Module = ao.prepare_qat(nn.Sequential(layers).train(), inplace=True)
    return prepared


def brevitas_model(
    model: nn.Module, weight_bits: int, activation_bits: int, learns: bool, collect_steps: int
) -> nn.Module:
    """A copy with Brevitas' layers: unsigned inputs with a learned scale, weights per channel.

    Its weights use the codes -qmax ... qmax, one less than ours.

    Args:
        model: A float sequence of layers whose inputs are >= 0.
        weight_bits: Of weights.
        activation_bits: Of inputs.
        learns: Whether weight scales are learned from the least squared error on; else they reach
            to the largest magnitude, Brevitas' default.
        collect_steps: Steps in which the ranges of inputs are statistics, before they are learned.
    """
    quant_nn = import_module("brevitas.nn")
    brevitas = import_module("brevitas.quant.scaled_int")
    default = brevitas.Int8WeightPerChannelFloat
    settings = {
        "weight_quant": brevitas.Int8WeightPerChannelFloatMSE if learns else default,
        "weight_bit_width": weight_bits,
        "input_quant": brevitas.Uint8ActPerTensorFloat,
        "input_bit_width": activation_bits,
        "input_collect_stats_steps": collect_steps,
    }
    model = copy.deepcopy(model)
    for name, module in list(model.named_children()):
        has_bias = getattr(module, "bias", None) is not None
        if isinstance(module, nn.Conv2d):
            layer = quant_nn.QuantConv2d(
                module.in_channels,
                module.out_channels,
                module.kernel_size,
                padding=module.padding,
                bias=has_bias,
                **settings,
            )
        elif isinstance(module, nn.Linear):
            sizes = module.in_features, module.out_features
            layer = quant_nn.QuantLinear(*sizes, bias=has_bias, **settings)
        else:
            continue
        # Its quantizers have keys of their own.
        layer.load_state_dict(module.state_dict(), strict=False)
        setattr(model, name, layer)
    return model


def torchao_model(model: nn.Module, weight_bits: int, activation_bits: int) -> nn.Module:
    """A copy with torchao's fake-quantized linear layers; convolutions it does not have.

    Inputs have a new range for every example ("per token"), in training and when deployed: torchao
    has no range of a whole tensor.

    Args:
        model: A float sequence of layers.
        weight_bits: Of weights, largest magnitude.
        activation_bits: Of inputs, smallest to largest value.
    """
    qat = import_module("torchao.quantization.qat")
    inputs = qat.IntxFakeQuantizeConfig(_intx(activation_bits), "per_token", is_symmetric=False)
    weights = qat.IntxFakeQuantizeConfig(_intx(weight_bits), "per_channel", is_symmetric=True)
    model = copy.deepcopy(model)
    for name, module in list(model.named_children()):
        if isinstance(module, nn.Linear):
            setattr(model, name, qat.FakeQuantizedLinear.from_linear(module, inputs, weights))
    return model


class _Flat(nn.Module):
    """A fake quantizer of matrices, for what has more axes: a row for each of the first."""

    def __init__(self, quantizer: nn.Module) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = self.quantizer(x.flatten(1))
        return rows.view_as(x)


def torchao_everywhere(model: nn.Module, weight_bits: int, activation_bits: int) -> nn.Module:
    """A copy with torchao's fake quantizers in convolutions, too, which torchao has no layer for.

    Weights have a scale per channel, inputs a range per example, as in `torchao_model`.

    Args:
        model: A float model.
        weight_bits: Of weights, largest magnitude.
        activation_bits: Of inputs, smallest to largest value.
    """
    qat = import_module("torchao.quantization.qat")
    kind = import_module(qat.__name__ + ".fake_quantizer").IntxFakeQuantizer
    inputs = qat.IntxFakeQuantizeConfig(_intx(activation_bits), "per_token", is_symmetric=False)
    return quantizing_with(
        model, lambda: _Flat(torchao_fake_quantizer(weight_bits)), lambda: _Flat(kind(inputs))
    )


def torchao_fake_quantizer(bits: int) -> nn.Module:
    """Torchao's module for a weight: symmetric, per channel, range of the weight at hand."""
    qat = import_module("torchao.quantization.qat")
    config = qat.IntxFakeQuantizeConfig(_intx(bits), "per_channel", is_symmetric=True)
    quantizer: nn.Module = import_module(qat.__name__ + ".fake_quantizer").IntxFakeQuantizer(config)
    return quantizer


def brevitas_weight(
    weight: Tensor, bits: int, learns: bool
) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """Brevitas' quantizer of a weight per channel.

    Args:
        weight: `(channels, values)`; it is not copied.
        bits: Of the codes.
        learns: Whether scales are learned, from the largest magnitude on; else they reach to it.

    Returns:
        The call that quantizes, and what it has gradients in: the weight and learned scales.
    """
    quant_nn = import_module("brevitas.nn")
    kinds = import_module("brevitas.inject.enum").ScalingImplType
    channels, values = weight.shape
    layer = quant_nn.QuantLinear(
        values,
        channels,
        bias=False,
        weight_quant=import_module("brevitas.quant.scaled_int").Int8WeightPerChannelFloat,
        weight_bit_width=bits,
        weight_scaling_impl_type=kinds.PARAMETER_FROM_STATS if learns else kinds.STATS,
    )
    layer.weight = nn.Parameter(weight)
    return lambda: layer.quant_weight().value, list(layer.parameters())


def _intx(bits: int) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, f"int{bits}")
    return dtype
