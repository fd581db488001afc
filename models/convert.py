"""From a prepared model to what ships: static ranges, weights on their grid.

Post-training quantization is the same path without the training; `deploy` walks it on a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .evaluate import evaluating
from .layers import FakeQuantLayer
from .prepare import Model, prepare_, quantized_weights, require_prepared, shadow_
from .quantizers import InputQuantizer
from .recipe import Recipe


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
    if isinstance(batches, Tensor):
        raise ValueError("`batches` must be several tensors, but is one. Give [inputs].")
    inputs = _input_quantizers(require_prepared(model, "calibrate_"))
    for _, quantizer in inputs:
        quantizer.start_observing()
    try:
        with evaluating(model):
            for batch in batches:
                if not isinstance(batch, Tensor):
                    raise ValueError(
                        "every batch must be a tensor of inputs, but got a "
                        f"{type(batch).__name__}. Of a loader of (inputs, labels), give the inputs."
                    )
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
    layers = require_prepared(model, "convert_")
    inputs = _input_quantizers(layers)
    for name, quantizer in inputs:
        if not quantizer.is_fixed:
            raise ValueError(
                f"`convert_` needs static ranges, but {name!r} has none. Call `calibrate_` first."
            )
        if quantizer.scale is not None and not bool(torch.isfinite(quantizer.scale)):
            raise ValueError(
                f"ranges must be finite to be deployed, but that of the input of {name!r} is not. "
                "A batch in training was not finite: lower the learning rate, or check the data."
            )
    _require_finite(model)
    model.requires_grad_(False).eval()
    shadow_(model, on=False)
    with torch.no_grad():
        # All before the first is written: layers may share a weight.
        found = [
            (own, weight, own.find_scale(weight), own(weight))
            for _, layer in layers
            for own, weight in quantized_weights(layer)
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
