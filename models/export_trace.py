"""Traces a converted model to an ONNX graph whose inputs to layers are quantized.

`QuantizeLinear` divides by its scale, but the model multiplies by the reciprocal, and at exact
halves the two round apart: pixels are multiples of 1/255, scales fractions of the largest, and up
to 27 of 1 500 predictions on MNIST changed at W2A2. So the graph multiplies by the reciprocal first
and quantizes with scale 1; then none of 31 500 changed.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from onnxscript import opset21
from torch import Tensor, nn

from .evaluate import evaluating
from .prepare import fake_quant_layers
from .quantizers import InputQuantizer

INPUT, OUTPUT = "input", "logits"
_OPSET = 21  # the first with int4, and with scales for groups of columns
_UINT8_BITS = 8


def trace(model: nn.Module, example_input: Tensor) -> torch.onnx.ONNXProgram:
    """The graph of a converted model, its weights still floats under their names in the model.

    Args:
        model: Converted; stays as it is.
        example_input: `(examples, ...)`, at least one example.

    Returns:
        A graph not optimized yet, whose first dimension is free.
    """
    traced = copy.deepcopy(model)
    for _, layer in fake_quant_layers(traced):
        if layer.input_quantizer is not None:
            layer.add_module("input_quantizer", _Mark(layer.input_quantizer))
    # An example of one would be traced as a graph for one.
    example = torch.cat([example_input[:1]] * 2)
    with evaluating(traced), muted():
        program = torch.onnx.export(
            traced,
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=_OPSET,
            dynamic_shapes=({0: torch.export.Dim("examples")},),
            custom_translation_table={
                torch.ops.fedhq.onnx_quantize_dequantize.default: _quantize_dequantize_nodes
            },
            dynamo=True,
            optimize=False,  # would rename the weights
            verbose=False,
        )
    assert program is not None, "torch.onnx.export returns None only where it writes a file"
    return program


@contextmanager
def muted() -> Iterator[None]:
    """Silences what the exporter says about its own internals and about missing torchvision."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@torch.library.custom_op("fedhq::onnx_quantize_dequantize", mutates_args=())
def _quantize_dequantize(
    x: Tensor, inverse: Tensor, scale: Tensor, zero_point: Tensor, limits: Sequence[float]
) -> Tensor:
    """Marks where the graph quantizes an input; only traced, never computed."""
    raise NotImplementedError


@_quantize_dequantize.register_fake
def _(
    x: Tensor, inverse: Tensor, scale: Tensor, zero_point: Tensor, limits: Sequence[float]
) -> Tensor:
    return torch.empty_like(x)


# `Any`: onnxscript types its operators for tensors, but they build a graph from its values.
def _quantize_dequantize_nodes(
    x: Any, inverse: Any, scale: Any, zero_point: Any, limits: Sequence[float]
) -> Any:
    """What stands in the graph for the mark."""
    steps = opset21.Mul(x, inverse)
    if limits:
        low, high = (opset21.Constant(value_float=limit) for limit in limits)
        steps = opset21.Clip(steps, low, high)
    codes = opset21.QuantizeLinear(steps, opset21.Constant(value_float=1.0), zero_point)
    return opset21.DequantizeLinear(codes, scale, zero_point)


class _Mark(nn.Module):
    """Takes the place of an input quantizer while the model is traced."""

    inverse: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, quantizer: InputQuantizer) -> None:
        super().__init__()
        scale, zero_point = quantizer.scale, quantizer.zero_point
        assert scale is not None, "a converted quantizer has its range"
        assert zero_point is not None
        self.register_buffer("inverse", scale.reciprocal())
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point.to(torch.uint8))
        self._limits: list[float] = []
        if quantizer.bits < _UINT8_BITS:  # else uint8 ends where the codes do
            ends = (quantizer.quant_min, quantizer.quant_max)
            self._limits = [float(end - int(zero_point)) for end in ends]

    def forward(self, x: Tensor) -> Tensor:
        marked: Tensor = _quantize_dequantize(
            x, self.inverse, self.scale, self.zero_point, self._limits
        )
        return marked
