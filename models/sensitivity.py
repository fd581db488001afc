"""How much each layer of a float model suffers from being quantized to each width.

The measure is the divergence of the model's predictions from those it had in float: it needs no
labels, is zero without quantization and never negative. `Perturbation` quantizes one layer at a
time and looks; `HessianTrace` predicts the same from the curvature, in one pass for all widths.
`allocate_bits` takes either.
"""

from __future__ import annotations

import copy
import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ..allocator.arrays import FloatArray, IntArray, freeze
from .convert import deploy
from .evaluate import evaluating
from .fake_quant import check_bits
from .prepare import fake_quant_layers, prepare_
from .ptq import divergences, hold_batches, require_float
from .recipe import Range, Recipe

EVERY_WIDTH = (2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True)
class Perturbation:
    """Quantizes one layer at a time, and takes the mean divergence of the outputs.

    The most faithful measure; its time grows with layers times widths. Not seen is how errors of
    several layers add up or cancel.

    Args:
        activations_follow: Quantize the layer's input as well, at as many bits as its weights (if
            the recipe quantizes inputs at all); else weights alone.
    """

    activations_follow: bool = False


@dataclass(frozen=True)
class HessianTrace:
    """Predicts the divergence: half the mean curvature times the weights' squared rounding error.

    To second order, and as if the rounding error pointed nowhere in particular. The Hessian is that
    of the divergence, at the float weights; it is the Fisher information of the predictions, so its
    trace is the mean squared length of gradients and never negative. These are taken of outputs
    with random signs: one backward pass a probe for the traces of all layers at once, where
    products with the Hessian would take two, and would mix the layers.

    Args:
        num_probes: Random signs for every batch; the error of a trace falls with their root.
        seed: Of the signs.

    Raises:
        ValueError: If there is no probe.

    References:
        Dong et al., arXiv 1911.03852 (mean trace times squared error, of the training loss's
        Hessian); Hutchinson 1989, Communications in Statistics 18 (traces from random signs);
        Martens, arXiv 1412.1193 (the divergence's Hessian is the Fisher information).
    """

    num_probes: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_probes < 1:
            raise ValueError(f"`num_probes >= 1` must hold, but got {self.num_probes}.")


Measure = Perturbation | HessianTrace
_DIRECT = Perturbation()


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What each layer costs at each width.

    Args:
        layers: Names, in the order of the model.
        bits: Widths, ascending.
        values: `(layers, bits)` mean divergence from the float model with this layer alone
            quantized, in nats, >= 0.
        num_weights: `(layers,)` how many weights each quantizes.
        measure: How the values were found.

    Raises:
        ValueError: If shapes do not fit, widths do not ascend within 2 to 8, or a value is negative
            or not finite.

    Example:
        >>> Sensitivity(("a", "b"), (2, 4), [[0.5, 0.1], [0.2, 0.1]], [10, 30], Perturbation()).bits
        (2, 4)
    """

    layers: tuple[str, ...]
    bits: tuple[int, ...]
    values: FloatArray
    num_weights: IntArray
    measure: Measure

    def __init__(
        self,
        layers: Sequence[str],
        bits: Sequence[int],
        values: ArrayLike,
        num_weights: ArrayLike,
        measure: Measure,
    ) -> None:
        check_widths(bits)
        shape = len(layers), len(bits)
        counts = freeze("num_weights", num_weights, shape[:1]).astype(np.int64)
        counts.flags.writeable = False
        if not layers or (counts < 1).any():
            raise ValueError(
                "every layer must have weights, and there must be one, but `num_weights` is "
                f"{counts.tolist()}."
            )
        object.__setattr__(self, "layers", tuple(layers))
        object.__setattr__(self, "bits", tuple(bits))
        object.__setattr__(self, "values", freeze("values", values, shape))
        object.__setattr__(self, "num_weights", counts)
        object.__setattr__(self, "measure", measure)


def check_widths(bits: Sequence[int]) -> None:
    """Raises `ValueError` unless widths ascend and lie in 2 to 8.

    Example:
        >>> check_widths((2, 4, 8))
    """
    if not bits or list(bits) != sorted(set(bits)):
        raise ValueError(f"`bits` must be at least one width, ascending, but got {tuple(bits)}.")
    for width in bits:
        check_bits("bits", width)


def layer_sensitivities(
    model: nn.Module,
    recipe: Recipe,
    batches: Iterable[Tensor],
    bits: Sequence[int] = EVERY_WIDTH,
    measure: Measure = _DIRECT,
) -> Sensitivity:
    """Measures, for every layer that a recipe quantizes, what each width costs.

    Args:
        model: A float model, from `(examples, ...)` inputs to `(examples, classes)` logits, or of
            texts to `(examples, classes, time)`; it is left as it was.
        recipe: Which layers, granularity and fits; its own bits do not count, but inputs that it
            leaves float stay so. Ranges are taken as dynamic.
        batches: Inputs, `(examples, ...)` each; unlabelled, as for calibration.
        bits: Widths to try, ascending.
        measure: How.

    Returns:
        The sensitivities; the same for the same arguments.

    Raises:
        ValueError: If the model is prepared, no layer quantizes, there is no example, or widths are
            out of range.

    Example:
        >>> from .networks import build_model
        >>> model = build_model("mlp", (1, 4, 4), num_classes=3, seed=0)
        >>> batch = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> found = layer_sensitivities(model, Recipe(4, 8), [batch], bits=(2, 8))
        >>> found.layers, found.num_weights.tolist()
        (('linear1', 'linear2', 'linear'), [1024, 4096, 192])
        >>> bool((found.values[:, 0] > found.values[:, 1]).all())  # two bits cost more than eight
        True
    """
    require_float("model", model)
    check_widths(bits)
    held = hold_batches(batches)
    dynamic = replace(recipe, weight_range=Range.DYNAMIC, activation_range=Range.DYNAMIC)
    weights = _quantized_weights(model, dynamic)
    sizes = [sum(model.get_parameter(key).numel() for key in keys) for keys in weights.values()]
    match measure:
        case Perturbation():
            values = _perturbed(model, dynamic, tuple(weights), held, bits, measure)
        case HessianTrace():
            errors = np.array([_rounding_errors(model, dynamic, width) for width in bits]).T
            values = 0.5 * (_traces(model, weights, held, measure) / sizes)[:, None] * errors
    return Sensitivity(tuple(weights), bits, values, sizes, measure)


def _quantized_weights(model: nn.Module, recipe: Recipe) -> dict[str, list[str]]:
    """Names of the parameters that each layer would quantize."""
    prepared = prepare_(copy.deepcopy(model), recipe)
    weights, owners = {}, dict[Tensor, str]()
    for name, layer in fake_quant_layers(prepared):
        keys = [key for key, _ in layer.quantized_parameters()]
        weights[name] = [f"{name}.{key}" if name else key for key in keys]
        for _, weight in layer.quantized_parameters():
            if owners.setdefault(weight, name) != name:
                raise ValueError(
                    f"layers must not share a weight, but {owners[weight]!r} and {name!r} do: it "
                    "cannot have two widths. Name one of them in `exclude`."
                )
    return weights


def _perturbed(
    model: nn.Module,
    recipe: Recipe,
    names: Sequence[str],
    batches: tuple[Tensor, ...],
    bits: Sequence[int],
    measure: Perturbation,
) -> FloatArray:
    """`(layers, bits)` divergences, each of a model with one layer quantized."""
    with evaluating(model):
        outputs = [model(batch) for batch in batches]
    values = np.empty((len(names), len(bits)))
    for (row, name), (column, width) in product(enumerate(names), enumerate(bits)):
        follows = measure.activations_follow and recipe.bits_of(name)[1] is not None
        alone = replace(
            recipe,
            weight_bits=width,
            activation_bits=width if follows else None,
            include=(glob.escape(name),),
            keep_first=False,
            keep_last=False,
            layers=(),
        )
        shipped = deploy(model, alone, batches if follows else ())
        with evaluating(shipped):
            found = [
                divergences(output, shipped(batch)).flatten()
                for output, batch in zip(outputs, batches, strict=True)
            ]
        values[row, column] = float(torch.cat(found).mean())
    return values


@torch.no_grad()
def _rounding_errors(model: nn.Module, recipe: Recipe, width: int) -> list[float]:
    """Squared rounding error of each layer's weights."""
    prepared = prepare_(copy.deepcopy(model), replace(recipe, weight_bits=width, layers=()))
    return [
        sum(
            float((layer.quantized_weight(key) - weight).double().square().sum())
            for key, weight in layer.quantized_parameters()
        )
        for _, layer in fake_quant_layers(prepared)
    ]


def _traces(
    model: nn.Module,
    weights: dict[str, list[str]],
    batches: tuple[Tensor, ...],
    measure: HessianTrace,
) -> FloatArray:
    """`(layers,)` traces of the divergence's Hessian in each layer's weights."""
    free = copy.deepcopy(model).requires_grad_()
    every = [free.get_parameter(key) for keys in weights.values() for key in keys]
    generator = torch.Generator().manual_seed(measure.seed)
    squares, places = np.zeros(len(every)), 0
    # cuDNN has no gradients of recurrent layers in eval mode.
    with evaluating(free), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        for batch in batches:
            logits = free(batch)
            places += logits.numel() // logits.shape[1]
            for _ in range(measure.num_probes):
                probe = _probe(logits.detach(), generator)
                gradients = torch.autograd.grad(
                    logits, every, probe, retain_graph=True, materialize_grads=True
                )
                squares += [float(g.double().square().sum()) for g in gradients]
    found = iter(squares / (measure.num_probes * places))
    return np.array([sum(next(found) for _ in keys) for keys in weights.values()])


def _probe(logits: Tensor, generator: torch.Generator) -> Tensor:
    """A root of the divergence's Hessian in the logits, `diag(p) - p p'`, times random signs."""
    p = logits.softmax(dim=1)
    signs = torch.randint(0, 2, logits.shape, generator=generator).to(p) * 2 - 1
    steps = p.sqrt() * signs
    return steps - p * steps.sum(dim=1, keepdim=True)
