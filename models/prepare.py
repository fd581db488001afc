"""From a float model to one that quantizes in its forward pass, and trains so.

    float --prepare_--> fake quantization, trains --calibrate_--> static ranges --convert_--> ships

`convert` has the other two steps; until the last of them `restore_` gives the float model back.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TypeVar

from torch import nn

from .layers import (
    FLOAT,
    QUANTIZING,
    FakeQuantLayer,
    allow_fused_transformers_,
    avoid_fused_transformers_,
)
from .observers import Fit
from .quantizers import WeightQuantizer
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


def require_prepared(model: nn.Module, step: str) -> list[tuple[str, FakeQuantLayer]]:
    """The quantizing layers, all of them before `convert_`; else an error."""
    layers = list(fake_quant_layers(model))
    if not layers:
        raise ValueError(f"`{step}` needs a prepared model. Call `prepare_` first.")
    if any(
        quantizer.is_converted for _, layer in layers for quantizer, _ in quantized_weights(layer)
    ):
        raise ValueError(f"`{step}` needs a model before `convert_`, but it is converted already.")
    return layers


def quantized_weights(layer: FakeQuantLayer) -> Iterator[tuple[WeightQuantizer, nn.Parameter]]:
    """The parameters that a layer quantizes, each with its quantizer."""
    quantizers = layer.weight_quantizers.values()
    for quantizer, (_, weight) in zip(quantizers, layer.quantized_parameters(), strict=True):
        assert isinstance(quantizer, WeightQuantizer)
        yield quantizer, weight


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
    models exchange state dicts freely, and optimizers keep working. Biases, normalisation and
    layers of other kinds stay float.

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
    for pattern in recipe.exclude:
        if not any(fnmatchcase(name, pattern) for name, _ in model.named_modules()):
            raise ValueError(
                f"every pattern of `exclude` must fit a module, but {pattern!r} fits none. What "
                f"quantizes: {names}."
            )
    for layer in recipe.layers:
        if not any(fnmatchcase(name, layer.pattern) for name in names):
            raise ValueError(
                f"every pattern of `layers` must fit a layer that quantizes, but {layer.pattern!r} "
                f"fits none of {names}."
            )
    avoid_fused_transformers_(model)
    try:
        for name in names:
            module = model.get_submodule(name)
            # The class changes, the object stays: with it its parameters, hooks and place.
            module.__class__ = QUANTIZING[type(module)]
            assert isinstance(module, FakeQuantLayer)
            module.set_up(recipe, name)
            module.train(module.training)
        _refuse_two_grids(model)
    except ValueError:
        _restore_layers_(model)
        raise
    return model


def restore_(model: Model) -> Model:
    """Makes a prepared model float again, in place: undoes `prepare_`, and `shadow_`.

    Modules, parameters, buffers and hooks are the same objects as ever, with the values that
    training gave them; learned and averaged ranges are dropped.

    Args:
        model: A prepared model.

    Returns:
        The same model.

    Raises:
        ValueError: If the model is not prepared, or converted: its weights are rounded for good.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3))
        >>> weight = model[0].weight
        >>> restore_(prepare_(model, Recipe(2, 2)))
        Sequential(
          (0): Linear(in_features=2, out_features=3, bias=True)
        )
        >>> model[0].weight is weight
        True
    """
    require_prepared(model, "restore_")
    _restore_layers_(model)
    return model


def _restore_layers_(model: nn.Module) -> None:
    for _, layer in list(fake_quant_layers(model)):
        layer.tear_down()
        layer.__class__ = FLOAT[type(layer)]  # type: ignore[assignment]
    allow_fused_transformers_(model)


def _refuse_two_grids(model: nn.Module) -> None:
    """A weight that layers share ships once, so they must quantize it alike."""
    grids: dict[int, tuple[str, int, tuple[int, ...]]] = {}
    for name, layer in fake_quant_layers(model):
        for quantizer, weight in quantized_weights(layer):
            first, *grid = grids.setdefault(
                id(weight), (name, quantizer.bits, quantizer.scale_shape)
            )
            if grid != [quantizer.bits, quantizer.scale_shape]:
                raise ValueError(
                    f"layers that share a weight must have the same bits, but {first!r} has "
                    f"{grid[0]} and {name!r} has {quantizer.bits}. Give `layers` one pattern for "
                    "both."
                )


def shadow_(model: Model, on: bool = True) -> Model:
    """Lets a prepared model quantize each weight once a step instead of in every forward pass.

    The parameters are the float masters. The layers work with quantized shadows of them that stand
    outside their graph and are made anew after every change of a master; gradients are handed to
    the masters. Values and gradients are those of the unshadowed model. Not for `torch.func`,
    `torch.compile` and `torch.autograd.grad`, which look for the masters in the graph, nor for
    hooks on the masters, which do not run. What is written past torch's count of changes (`.data`,
    NumPy) is seen after the next backward pass or optimizer step, or by calling `shadow_` again.

    Args:
        model: A prepared model.
        on: Whether to shadow.

    Returns:
        The same model.

    Raises:
        ValueError: If the model is not prepared, or converted.

    Example:
        >>> import torch
        >>> model = shadow_(prepare_(nn.Sequential(nn.Linear(2, 1)), Recipe(2, 2)))
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> model[0].weight.grad is not None
        True
    """
    groups: dict[Fit, Shadows] = {}
    for _, layer in require_prepared(model, "shadow_"):
        for quantizer, weight in quantized_weights(layer):
            quantizer.shadow = None
            # A learned scale needs the graph, a percentile its own way to the limits.
            if on and quantizer.range is Range.DYNAMIC and quantizer.fit is not Fit.PERCENTILE:
                group = groups.setdefault(quantizer.fit, Shadows(quantizer.fit))
                quantizer.shadow = Shadow(weight, quantizer.bits, quantizer.scale_shape, group)
    return model
