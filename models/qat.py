"""Prepare, calibrate, convert: from a float model to quantization-aware training and to deployment.

    float --prepare_--> fake quantization, trains --calibrate_--> static ranges --convert_--> ships

Post-training quantization is the same path without the training; `deploy` walks it on a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from .evaluate import evaluating
from .fake_quant import check_bits
from .layers import FakeQuantConv2d, FakeQuantLayer, FakeQuantLinear
from .observers import fit_weight_scale, quantize_weight

Model = TypeVar("Model", bound=nn.Module)


def _fake_quant_layers(model: nn.Module) -> Iterator[tuple[str, FakeQuantLayer]]:
    """The quantizing layers and their names, in the order of the model."""
    for name, module in model.named_modules():
        if isinstance(module, FakeQuantLayer):
            yield name, module


def _require_prepared(model: nn.Module, step: str) -> list[tuple[str, FakeQuantLayer]]:
    """The quantizing layers, all of them before `convert_`; else an error."""
    layers = list(_fake_quant_layers(model))
    if not layers:
        raise ValueError(f"`{step}` needs a prepared model. Call `prepare_` first.")
    if any(layer.is_converted for _, layer in layers):
        raise ValueError(f"`{step}` needs a model before `convert_`, but it is converted already.")
    return layers


def prepare_(model: Model, weight_bits: int, activation_bits: int) -> Model:
    """Makes every `nn.Conv2d` and `nn.Linear` quantize its weight and its input, in place.

    Parameters and the keys of the state dict stay as they are: float and prepared models exchange
    state dicts freely, and optimizers keep working. Biases and normalisation stay float.

    Args:
        model: A float model.
        weight_bits: 2 to 8, per output channel.
        activation_bits: 2 to 8, per tensor; the inputs of these layers must be >= 0.

    Returns:
        The same model.

    Raises:
        ValueError: If the bits are out of range, or the model is prepared already, has no such
            layer, or has a subclass of one, which would stay float.

    References:
        Jacob et al., arXiv 1712.05877 (training with simulated quantization).

    Example:
        >>> prepare_(nn.Sequential(nn.Linear(2, 3)), weight_bits=2, activation_bits=2)[0]
        FakeQuantLinear(in_features=2, out_features=3, bias=True)
    """
    check_bits("weight_bits", weight_bits)
    check_bits("activation_bits", activation_bits)
    if any(True for _ in _fake_quant_layers(model)):
        raise ValueError(
            "`model` must be a float model, but it is prepared already. "
            "Load its state dict into a float model and prepare that."
        )
    _refuse_subclasses(model)
    found = False
    for module in model.modules():
        # The class changes, the object stays: with it its parameters, hooks and place in the model.
        if type(module) is nn.Conv2d:
            module.__class__ = FakeQuantConv2d
        elif type(module) is nn.Linear:
            module.__class__ = FakeQuantLinear
        if isinstance(module, FakeQuantLayer):
            module.set_up(weight_bits, activation_bits)
            found = True
    if not found:
        raise ValueError("`model` must have an nn.Conv2d or nn.Linear, but there is none.")
    return model


def _refuse_subclasses(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and type(module) not in (nn.Conv2d, nn.Linear):
            raise ValueError(
                f"every convolution and linear layer must be an nn.Conv2d or nn.Linear itself, but "
                f"{name!r} is a {type(module).__name__}, which would stay float. Replace it."
            )


def calibrate_(model: Model, batches: Iterable[Tensor]) -> Model:
    """Fixes the range of every layer's input: the mean of the scales that the batches ask for.

    From then on the model uses these ranges in eval mode; in training mode it goes by its batch as
    before.

    Args:
        model: A prepared model; its mode is left as it was.
        batches: Inputs of the model, `(examples, ...)` each; unlabelled, 100 examples are plenty.

    Returns:
        The same model.

    Raises:
        ValueError: If the model is not prepared or is converted, there is no batch, or a layer saw
            none, or values that are negative or not finite.

    Example:
        >>> model = prepare_(nn.Sequential(nn.Linear(1, 1)), 2, 2)
        >>> calibrate_(model, [torch.tensor([[0.0], [3.0]])])[0].activation_scale
        tensor(1.)
    """
    layers = _require_prepared(model, "calibrate_")
    for _, layer in layers:
        layer.observed_scales = []
    try:
        with evaluating(model):
            for batch in batches:
                model(batch)
        scales = [_mean_scale(name, layer.observed_scales or []) for name, layer in layers]
    finally:
        for _, layer in layers:
            layer.observed_scales = None
    for (_, layer), scale in zip(layers, scales, strict=True):
        layer.activation_scale = scale
    return model


def _mean_scale(name: str, observed: list[Tensor]) -> Tensor:
    """The mean of the observed scales, `()`."""
    if not observed:
        raise ValueError(
            f"`batches` must reach every layer, but {name or 'the layer'!r} saw none. "
            "Give at least one batch (an iterator that is used up gives none)."
        )
    scale = torch.stack(observed).mean()
    if not torch.isfinite(scale):
        raise ValueError(
            f"the input of layer {name!r} must be finite during calibration, but it is not. "
            "Check the batches and the weights of the layers before it."
        )
    return scale


def convert_(model: Model) -> Model:
    """Freezes a calibrated model to what ships: weights on their grid, static ranges, eval mode.

    The parameters then hold the quantized values and take no gradients. Each quantizing layer has
    `weight_scale`, shape `(channels,)`, and `activation_scale`, shape `()`: a weight divided by its
    scale is its code.

    Args:
        model: A prepared and calibrated model.

    Returns:
        The same model.

    Raises:
        ValueError: If the model is not prepared, not calibrated, converted already, or has a weight
            that is not finite.

    Example:
        >>> model = calibrate_(prepare_(nn.Sequential(nn.Linear(2, 1)), 2, 2), [torch.ones(1, 2)])
        >>> bool((convert_(model)[0].weight / model[0].weight_scale).frac().any())
        False
    """
    layers = _require_prepared(model, "convert_")
    for name, layer in layers:
        if layer.activation_scale is None:
            raise ValueError(
                f"`convert_` needs static ranges, but {name!r} has none. Call `calibrate_` first."
            )
    _require_finite(model)
    with torch.no_grad():
        for _, layer in layers:
            layer.weight_scale = fit_weight_scale(layer.weight, layer.weight_bits)
            layer.weight.copy_(quantize_weight(layer.weight, layer.weight_scale, layer.weight_bits))
            layer.is_converted = True
    return model.requires_grad_(False).eval()


def _require_finite(model: nn.Module) -> None:
    """Raises `ValueError` with the name of the first parameter that is not finite."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ValueError(
                f"weights must be finite to be deployed, but {name!r} is not. "
                "The training diverged: lower its learning rate."
            )


def deploy(
    model: Model, weight_bits: int, activation_bits: int, calibration_batches: Iterable[Tensor]
) -> Model:
    """The model that ships at these bits; the float model is left as it is.

    Args:
        model: A float model, however it was trained.
        weight_bits: 2 to 8, per output channel.
        activation_bits: 2 to 8, per tensor.
        calibration_batches: Inputs of the model, `(examples, ...)` each; none from the test set.

    Returns:
        A converted copy in eval mode.

    Raises:
        ValueError: As `prepare_`, `calibrate_` and `convert_` do.

    Example:
        >>> shipped = deploy(nn.Sequential(nn.Linear(4, 1)), 2, 2, [torch.ones(1, 4)])
        >>> len(shipped[0].weight.unique()) <= 4
        True
    """
    _require_finite(model)
    prepared = prepare_(copy.deepcopy(model), weight_bits, activation_bits)
    return convert_(calibrate_(prepared, calibration_batches))
