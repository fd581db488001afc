"""Post-training quantization around `deploy`: how far a model moved, and its mean outputs mended.

The whole way of a float model, in the order of the calls:

    layer_sensitivities   what it costs to quantize each layer alone
    allocate_bits         which layer gets how many bits under a budget
    with_bits             the recipe with these bits
    deploy                calibrates ranges, as the recipe's `weight_fit` and `activation_fit` say
    correct_bias_         puts the mean outputs of what ships right

Each of them helps without the others; `deploy` alone is plain post-training quantization.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .evaluate import evaluating
from .export_codes import converted_layers
from .layers import FakeQuantConv1d, FakeQuantConv2d, FakeQuantLinear
from .prepare import fake_quant_layers

Model = TypeVar("Model", bound=nn.Module)

_CHANNEL_DIM: dict[type[nn.Module], int] = {
    FakeQuantConv1d: -2,
    FakeQuantConv2d: -3,
    FakeQuantLinear: -1,
    nn.BatchNorm1d: 1,
    nn.BatchNorm2d: 1,
    nn.GroupNorm: 1,
    nn.LayerNorm: -1,
}
"""Layers that add their bias last, and where their output has the channels of it."""


def require_float(name: str, model: nn.Module) -> None:
    """Raises `ValueError` if a model is prepared.

    Example:
        >>> require_float("model", nn.Linear(2, 1))
    """
    if any(True for _ in fake_quant_layers(model)):
        raise ValueError(
            f"`{name}` must be a float model, but it is prepared already. "
            "Give the model as it was before `prepare_` or `deploy`."
        )


def hold_batches(batches: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """Keeps batches that are used more than once.

    Raises:
        ValueError: If they hold no example.

    Example:
        >>> len(hold_batches(torch.zeros(5, 2).split(2)))
        3
    """
    held = tuple(batch for batch in batches if len(batch))
    if not held:
        raise ValueError(
            "`batches` must hold at least one example, but there is none. "
            "(An iterator that is used up gives none.)"
        )
    return held


@torch.no_grad()
def divergences(float_logits: Tensor, logits: Tensor) -> Tensor:
    """Kullback-Leibler divergence from what a float model says, of each example or character.

    Args:
        float_logits: `(examples, classes)`, or of texts `(examples, classes, time)`.
        logits: Another model's, of the same shape.

    Returns:
        `(examples,)`, or `(examples, time)`; float64, in nats, >= 0.

    Example:
        >>> divergences(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
        tensor([0.1201], dtype=torch.float64)
    """
    wanted, found = (x.double().log_softmax(dim=1) for x in (float_logits, logits))
    return (wanted.exp() * (wanted - found)).sum(dim=1).clamp_min(0)


def output_divergence(float_model: nn.Module, model: nn.Module, batches: Iterable[Tensor]) -> float:
    """Mean Kullback-Leibler divergence of a model's predictions from the float model's.

    How far quantization moved a model, told without labels; sharper than accuracy where that has
    hardly moved.

    Args:
        float_model: From `(examples, ...)` inputs to `(examples, classes)` logits, or of texts to
            `(examples, classes, time)`; its mode is left as it was.
        model: The same model, quantized.
        batches: Inputs, `(examples, ...)` each.

    Returns:
        In nats, >= 0.

    Raises:
        ValueError: If there is no example.

    Example:
        >>> from .convert import deploy
        >>> from .recipe import Recipe
        >>> layer, batch = nn.Linear(4, 3), torch.rand(10, 4)
        >>> shipped = [deploy(layer, Recipe(bits, bits), [batch]) for bits in (2, 8)]
        >>> two, eight = [output_divergence(layer, model, [batch]) for model in shipped]
        >>> two > eight
        True
    """
    held = hold_batches(batches)
    with evaluating(float_model), evaluating(model):
        found = [divergences(float_model(batch), model(batch)).flatten() for batch in held]
    return float(torch.cat(found).mean())


def correct_bias_(model: Model, float_model: nn.Module, batches: Iterable[Tensor]) -> Model:
    """Shifts the biases of a converted model so that its mean outputs are the float model's.

    Rounding moves the mean of every channel, and the layers that follow add such shifts up. In the
    order in which the layers run, each one's bias takes back the shift of its own mean output,
    while those before it are corrected already. All this is done after `convert_`, because before
    it neither ranges nor rounded weights are final.

    Corrected are the quantizing linear layers and convolutions and the float normalisations, as far
    as they have a bias. A layer without one is passed over, since a new bias would change the keys
    of the state dict, as are embeddings, recurrent layers and attention: the next layer with a bias
    takes back what they shift.

    On digits at W2A2 the mean divergence of outputs fell from .40 to .32 (two seeds each of cnn,
    mlp, resnet8 and vit), without the normalisations to .37; at W4A4 from .015 to .010. One vit got
    worse at W2A2: a mean is little where rounding has changed the whole distribution.

    Args:
        model: A converted model, as `deploy` gives it.
        float_model: The model that was deployed.
        batches: Inputs of the model, `(examples, ...)` each, as for calibration; they go through
            the model once for each layer that is corrected.

    Returns:
        The same model.

    Raises:
        ValueError: If the model is not converted, the other one is not float or has other
            parameters, there is no example, or a mean output is not finite.

    References:
        Nagel et al., arXiv 1906.04721, section 4.2 (there in closed form or from data; here from
        data).

    Example:
        >>> from .convert import deploy
        >>> from .recipe import Recipe
        >>> layer, batch = nn.Linear(4, 3), torch.rand(10, 4)
        >>> shipped = correct_bias_(deploy(layer, Recipe(2, 2), [batch]), layer, [batch])
        >>> torch.allclose(shipped(batch).mean(dim=0), layer(batch).mean(dim=0), atol=1e-6)
        True
    """
    dims = _channel_dims(model, float_model)
    held = hold_batches(batches)
    for name, wanted in _mean_outputs(float_model, dims, held).items():
        shift = wanted - _mean_outputs(model, {name: dims[name]}, held)[name]
        if not bool(torch.isfinite(shift).all()):
            raise ValueError(
                f"mean outputs must be finite to be corrected, but those of {name!r} are not. "
                "Check the batches."
            )
        with torch.no_grad():
            model.get_submodule(name).get_parameter("bias").add_(shift)
    return model


def _channel_dims(model: nn.Module, float_model: nn.Module) -> dict[str, int]:
    """The layers that are corrected; or an error if the two models do not belong together."""
    converted_layers(model)
    require_float("float_model", float_model)
    ours, theirs = ({(n, p.shape) for n, p in m.named_parameters()} for m in (model, float_model))
    if ours != theirs:
        raise ValueError(
            "`float_model` must have the parameters of `model`, but they differ in "
            f"{sorted({name for name, _ in ours ^ theirs})[:3]}. Give the model that was deployed."
        )
    return {
        name: _CHANNEL_DIM[type(module)]
        for name, module in model.named_modules()
        if type(module) in _CHANNEL_DIM and module.bias is not None
    }


def _mean_outputs(
    model: nn.Module, dims: dict[str, int], batches: Iterable[Tensor]
) -> dict[str, Tensor]:
    """Mean outputs of layers, in the shape of their biases and the order in which they run."""
    sums: dict[str, tuple[Tensor, int]] = {}

    def listen(name: str, dim: int) -> RemovableHandle:
        layer = model.get_submodule(name)
        bias = layer.get_parameter("bias")

        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            values = output.movedim(dim, -1).reshape(-1, *bias.shape)
            total, count = sums.get(name, (torch.zeros_like(bias, dtype=torch.float64), 0))
            sums[name] = total + values.sum(dim=0, dtype=torch.float64), count + len(values)

        return layer.register_forward_hook(hook)

    hooks = [listen(name, dim) for name, dim in dims.items()]
    try:
        with evaluating(model):
            for batch in batches:
                model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total / count for name, (total, count) in sums.items()}
