"""Prepare, calibrate, convert: from a float model to quantization-aware training and to deployment.

    float --prepare_--> fake quantization, trains --calibrate_--> static ranges --convert_--> ships

Post-training quantization is the same path without the training; `deploy` walks it on a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import TypeVar

import torch
from torch import Tensor, nn

from .evaluate import evaluating
from .layers import QUANTIZING, FakeQuantLayer, avoid_fused_transformers_
from .observers import Fit
from .quantizers import InputQuantizer, WeightQuantizer
from .recipe import Range, Recipe
from .shadow import Shadow, Shadows

Model = TypeVar("Model", bound=nn.Module)


def fake_quant_layers(model: nn.Module) -> Iterator[tuple[str, FakeQuantLayer]]:
    """The quantizing layers and their names, in the order of the model.

    Example:
        >>> model = prepare_(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), Recipe(2, 2))
        >>> [name for name, _ in fake_quant_layers(model)]
        ['0']
    """
    for name, module in model.named_modules():
        if isinstance(module, FakeQuantLayer):
            yield name, module


def _require_prepared(model: nn.Module, step: str) -> list[tuple[str, FakeQuantLayer]]:
    """The quantizing layers, all of them before `convert_`; else an error."""
    layers = list(fake_quant_layers(model))
    if not layers:
        raise ValueError(f"`{step}` needs a prepared model. Call `prepare_` first.")
    if any(quantizer.is_converted for _, layer in layers for quantizer in _weights(layer)):
        raise ValueError(f"`{step}` needs a model before `convert_`, but it is converted already.")
    return layers


def _weights(layer: FakeQuantLayer) -> Iterator[WeightQuantizer]:
    yield from layer.weight_quantizers.values()  # type: ignore[misc]


def quantizable_layers(model: nn.Module, recipe: Recipe) -> list[str]:
    """Names of the layers that `prepare_` would make quantize.

    Args:
        model: A float model.
        recipe: How it would be quantized.

    Returns:
        Names, in the order of the model.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> quantizable_layers(model, Recipe(2, 2, keep_last=True))
        ['0']
    """
    inside = tuple(
        f"{name}." if name else ""
        for name, module in model.named_modules()
        if isinstance(module, nn.MultiheadAttention)
    )
    names = []
    for name, module in model.named_modules():
        # Attention quantizes its output projection itself.
        if inside and name.startswith(inside) and not isinstance(module, nn.MultiheadAttention):
            continue
        kinds: tuple[type[nn.Module], ...] = tuple(QUANTIZING)
        if isinstance(module, kinds) and recipe.quantizes(name):
            _refuse_odd(name, module)
            names.append(name)
    return names[int(recipe.keep_first) : len(names) - int(recipe.keep_last)]


def _refuse_odd(name: str, module: nn.Module) -> None:
    if type(module) not in QUANTIZING:
        kinds = ", ".join(f"nn.{kind.__name__}" for kind in QUANTIZING if isinstance(module, kind))
        raise ValueError(
            f"every layer that quantizes must be of a class of torch itself, but {name!r} is a "
            f"{type(module).__name__}, which would stay float. Replace it by {kinds}, or name it "
            "in `exclude`."
        )
    if isinstance(module, nn.Embedding) and (module.max_norm is not None or module.sparse):
        raise ValueError(
            f"`max_norm` must be None and `sparse` False for an embedding that quantizes, but "
            f"{name!r} has {module.max_norm} and {module.sparse}. Name it in `exclude`."
        )


def prepare_(model: Model, recipe: Recipe) -> Model:
    """Makes the layers that a recipe names quantize their weights and inputs, in place.

    That can be linear layers, convolutions, embeddings, GRUs, LSTMs and attention. Parameters and
    the keys of the state dict stay as they are (learned ranges are added): float and prepared
    models exchange state dicts freely, and optimizers keep working. Biases and normalisation stay
    float.

    Args:
        model: A float model.
        recipe: What, at which bits, with which ranges.

    Returns:
        The same model.

    Raises:
        ValueError: If the model is prepared already, the recipe names no layer, a pattern of
            `recipe.layers` fits none, or a layer is of a subclass, which would stay float.

    References:
        Jacob et al., arXiv 1712.05877 (training with simulated quantization).

    Example:
        >>> model = prepare_(nn.Sequential(nn.Linear(2, 3)), Recipe(2, 2))
        >>> model[0].weight_quantizers.weight
        WeightQuantizer(bits=2, fit=mse, range=dynamic)
    """
    if any(True for _ in fake_quant_layers(model)):
        raise ValueError(
            "`model` must be a float model, but it is prepared already. "
            "Load its state dict into a float model and prepare that."
        )
    names = quantizable_layers(model, recipe)
    if not names:
        kinds = ", ".join(f"nn.{kind.__name__}" for kind in QUANTIZING)
        raise ValueError(
            f"`model` must have a layer that the recipe quantizes ({kinds}), but there is none. "
            f"It includes {recipe.include} and excludes {recipe.exclude}."
        )
    for layer in recipe.layers:
        if not any(fnmatchcase(name, layer.pattern) for name in names):
            raise ValueError(
                f"every pattern of `layers` must fit a layer that quantizes, but {layer.pattern!r} "
                f"fits none of {names}."
            )
    avoid_fused_transformers_(model)
    for name in names:
        module = model.get_submodule(name)
        # The class changes, the object stays: with it its parameters, hooks and place in the model.
        module.__class__ = QUANTIZING[type(module)]
        assert isinstance(module, FakeQuantLayer)
        module.set_up(recipe, name)
        module.train(module.training)
    return model


def shadow_(model: Model, on: bool = True) -> Model:
    """Lets a prepared model quantize each weight once a step instead of in every forward pass.

    The parameters are the float masters. The layers work with quantized shadows of them that stand
    outside their graph and are made anew after every change of a master; gradients are handed to
    the masters. Values and gradients are those of the unshadowed model. Not for `torch.func`,
    `torch.compile` and `torch.autograd.grad`, which look for the masters in the graph.

    Args:
        model: A prepared model.
        on: Whether to shadow.

    Returns:
        The same model.

    Raises:
        ValueError: If the model is not prepared, or converted.

    Example:
        >>> model = shadow_(prepare_(nn.Sequential(nn.Linear(2, 1)), Recipe(2, 2)))
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> model[0].weight.grad is not None
        True
    """
    groups: dict[Fit, Shadows] = {}
    for _, layer in _require_prepared(model, "shadow_"):
        for quantizer, (_, weight) in zip(
            _weights(layer), layer.quantized_parameters(), strict=True
        ):
            quantizer.shadow = None
            # A learned scale needs the graph, a percentile its own way to the limits.
            if on and quantizer.range is Range.DYNAMIC and quantizer.fit is not Fit.PERCENTILE:
                group = groups.setdefault(quantizer.fit, Shadows(quantizer.fit))
                quantizer.shadow = Shadow(weight, quantizer.bits, quantizer.scale_shape, group)
    return model


def calibrate_(model: Model, batches: Iterable[Tensor]) -> Model:
    """Fixes the range of every layer's input: the mean of the ranges that the batches ask for.

    From then on the model uses these ranges in eval mode; in training mode it goes by its batch as
    before. Averaged and learned ranges are fixed already and stay.

    Args:
        model: A prepared model; its mode is left as it was.
        batches: Inputs of the model, `(examples, ...)` each; unlabelled, 100 examples are plenty.

    Returns:
        The same model.

    Raises:
        ValueError: If the model is not prepared or is converted, there is no batch, or a layer saw
            none, or values that are not finite.

    Example:
        >>> model = prepare_(nn.Sequential(nn.Linear(1, 1)), Recipe(2, 2))
        >>> calibrate_(model, [torch.tensor([[0.0], [3.0]])])[0].input_quantizer.scale
        tensor(1.)
    """
    inputs = _input_quantizers(_require_prepared(model, "calibrate_"))
    for _, quantizer in inputs:
        quantizer.start_observing()
    try:
        with evaluating(model):
            for batch in batches:
                model(batch)
    finally:
        observed = [quantizer.stop_observing() for _, quantizer in inputs]
    for (name, quantizer), ranges in zip(inputs, observed, strict=True):
        if ranges is not None:
            quantizer.fix(*_mean_range(name, quantizer, ranges))
    return model


def _input_quantizers(
    layers: list[tuple[str, FakeQuantLayer]],
) -> list[tuple[str, InputQuantizer]]:
    return [(n, q) for n, layer in layers if (q := layer.input_quantizer) is not None]


def _mean_range(
    name: str, quantizer: InputQuantizer, observed: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    if not observed:
        raise ValueError(
            f"`batches` must reach every layer, but {name or 'the layer'!r} saw none. "
            "Give at least one batch (an iterator that is used up gives none)."
        )
    if not all(bool(torch.isfinite(scale)) for scale, _ in observed):
        raise ValueError(
            f"the input of layer {name!r} must be finite during calibration, but it is not. "
            "Check the batches and the weights of the layers before it."
        )
    return quantizer.mean_range(observed)


def convert_(model: Model) -> Model:
    """Freezes a calibrated model to what ships: weights on their grid, static ranges, eval mode.

    The parameters then hold the quantized values and take no gradients. Each weight's quantizer has
    its `scale`, shape `()`, `(channels,)` or `(channels, groups)`, each input's its `scale` and
    `zero_point`, shape `()`: a weight divided by its scale is its code.

    Args:
        model: A prepared and calibrated model.

    Returns:
        The same model.

    Raises:
        ValueError: If the model is not prepared, not calibrated, converted already, or has a weight
            that is not finite.

    Example:
        >>> model = prepare_(nn.Sequential(nn.Linear(2, 1)), Recipe(2, 2))
        >>> model = convert_(calibrate_(model, [torch.ones(1, 2)]))
        >>> scale = model[0].weight_quantizers.weight.scale
        >>> bool((model[0].weight / scale).frac().any())
        False
    """
    layers = _require_prepared(model, "convert_")
    inputs = _input_quantizers(layers)
    for name, quantizer in inputs:
        if not quantizer.is_fixed:
            raise ValueError(
                f"`convert_` needs static ranges, but {name!r} has none. Call `calibrate_` first."
            )
    _require_finite(model)
    model.requires_grad_(False).eval()
    shadow_(model, on=False)
    with torch.no_grad():
        # All before the first is written: layers may share a weight.
        found = [
            (own, weight, own.find_scale(weight), own(weight))
            for _, layer in layers
            for own, (_, weight) in zip(_weights(layer), layer.quantized_parameters(), strict=True)
        ]
        for weight_quantizer, weight, scale, quantized in found:
            weight.copy_(quantized)
            weight_quantizer.convert_(scale)
    for _, quantizer in inputs:
        quantizer.convert_()
    return model


def _require_finite(model: nn.Module) -> None:
    """Raises `ValueError` with the name of the first parameter that is not finite."""
    for name, parameter in model.named_parameters():
        is_learned_range = name.endswith("_quantizer.scale") or "weight_quantizers" in name
        if not is_learned_range and not bool(torch.isfinite(parameter).all()):
            raise ValueError(
                f"weights must be finite to be deployed, but {name!r} is not. "
                "The training diverged: lower its learning rate."
            )


def deploy(model: Model, recipe: Recipe, calibration_batches: Iterable[Tensor]) -> Model:
    """The model that ships; the float model is left as it is.

    Args:
        model: A float model, however it was trained.
        recipe: What is quantized, at which bits, with which fit; ranges are dynamic until fixed.
        calibration_batches: Inputs of the model, `(examples, ...)` each; none from the test set.

    Returns:
        A converted copy in eval mode.

    Raises:
        ValueError: As `prepare_`, `calibrate_` and `convert_` do.

    Example:
        >>> shipped = deploy(nn.Sequential(nn.Linear(4, 1)), Recipe(2, 2), [torch.ones(1, 4)])
        >>> len(shipped[0].weight.unique()) <= 4
        True
    """
    _require_finite(model)
    prepared = prepare_(copy.deepcopy(model), recipe)
    return convert_(calibrate_(prepared, calibration_batches))
