"""Hands a converted model's linear layers and embeddings to torchao, codes and scales as they are.

The weights become the tensors that torchao's own convert step makes for `IntxWeightOnlyConfig` and
`Int8DynamicActivationIntxWeightConfig`, but with the scales that the model was trained for instead
of new ones.

torchao has no linear layer with a static range of unsigned codes for its inputs, which is what
`calibrate_` fixes: a model whose inputs are quantized can only go over with its inputs in float, or
with torchao's dynamic int8 ranges; its logits then differ, so `to_torchao` wants to be told.

Needs `pip install 'fedhq[export]'`.
"""

from __future__ import annotations

import copy
from enum import Enum

import torch
from torch import nn
from torchao.quantization import IntxUnpackedToInt8Tensor  # type: ignore[import-untyped]

from .export_codes import WeightCodes, converted_layers, layer_codes
from .layers import FakeQuantLayer


class TorchaoActivations(Enum):
    """How torchao treats the inputs of linear layers."""

    FLOAT = None
    """Not quantized."""
    INT8_PER_TOKEN = "int8_asym_per_token"
    """A new range for every token, 8 bits, as in `Int8DynamicActivationIntxWeightConfig`."""


def to_torchao(model: nn.Module, activations: TorchaoActivations | None = None) -> nn.Module:
    """A copy of a converted model whose quantized weights are torchao's integer tensors.

    Its layers are plain `nn.Linear` and `nn.Embedding`; `torchao.quantization` and `torch.export`
    know their weights. Where the model's own activations are float its logits stay, up to float
    rounding.

    Args:
        model: A converted model whose quantizing layers are linear or embeddings, on the CPU.
        activations: What takes the place of static ranges. None: nothing may, so the model must
            have been deployed with float activations.

    Returns:
        The copy, in eval mode.

    Raises:
        ValueError: If the model is not converted, has another quantizing layer, or has static
            ranges while `activations` is None.

    Example:
        >>> from .convert import deploy
        >>> from .recipe import Recipe
        >>> model = deploy(nn.Sequential(nn.Linear(4, 2)), Recipe(4, 8), [torch.ones(1, 4)])
        >>> to_torchao(model, TorchaoActivations.FLOAT)[0].weight.qdata.dtype
        torch.int8
    """
    for name, layer in converted_layers(model):
        _check(name, layer, activations)
    exported = copy.deepcopy(model)
    for name, layer in converted_layers(exported):
        [(_, weight)] = layer_codes(name, layer)
        is_linear = isinstance(layer, nn.Linear)
        tensor = _tensor(weight, activations if is_linear else None)
        plain: nn.Module = layer
        del plain.input_quantizer, plain.weight_quantizers
        plain.__class__ = nn.Linear if is_linear else nn.Embedding
        plain.weight = nn.Parameter(tensor, requires_grad=False)
    return exported


def _check(name: str, layer: FakeQuantLayer, activations: TorchaoActivations | None) -> None:
    if not isinstance(layer, nn.Linear | nn.Embedding):
        raise ValueError(
            "torchao's integer weights are for nn.Linear and nn.Embedding, but "
            f"{name!r} is a {type(layer).__name__}. Use `export_onnx`."
        )
    if activations is None and layer.input_quantizer is not None:
        raise ValueError(
            f"`activations` must say what takes the place of the static input range of {name!r}, "
            "which torchao cannot represent. Deploy with float activations, choose a "
            "TorchaoActivations, or use `export_onnx`, which keeps the ranges."
        )


def _tensor(weight: WeightCodes, activations: TorchaoActivations | None) -> torch.Tensor:
    scale = weight.scale.view(len(weight.codes), -1)
    tensor: torch.Tensor = IntxUnpackedToInt8Tensor(
        qdata=weight.codes,
        scale=scale,
        zero_point=torch.zeros_like(scale, dtype=torch.int8),
        target_dtype=getattr(torch, f"int{weight.bits}"),
        block_size=(1, weight.group_size),
        dtype=scale.dtype,
        activation_quantization=None if activations is None else activations.value,
    )
    return tensor
