"""Which layer gets how many bits, under a budget of mean bits a weight.

Choosing one width a layer so that the sum of sensitivities is least is the allocator's own program:
layers are its clients, widths its strategies, sensitivities its losses, bits its one budget.
"""

from __future__ import annotations

import glob
from dataclasses import dataclass, replace

import numpy as np

from ..allocator import AllocationProblem, Budget, Exact, Method, Strategy, solve
from .recipe import LayerBits, Recipe
from .sensitivity import Sensitivity

_WIRE_BITS = 32  # a strategy must have some; no update is sent here


@dataclass(frozen=True)
class MixedBits:
    """A width for each layer.

    Args:
        layers: Names, in the order of the model.
        bits: Of each layer's weights.
        mean_bits: Of all weights.
        sensitivity: Sum of the layers' sensitivities at these widths.
    """

    layers: tuple[str, ...]
    bits: tuple[int, ...]
    mean_bits: float
    sensitivity: float


def allocate_bits(sensitivity: Sensitivity, mean_bits: float) -> MixedBits:
    """Chooses the widths with the least sum of sensitivities that a budget allows.

    Args:
        sensitivity: What each width costs each layer; the widths to choose from.
        mean_bits: Upper limit of the mean bits of all weights, to a millionth of it.

    Returns:
        A choice whose sum of sensitivities is proven to be the least, to a millionth of it.

    Raises:
        ValueError: If even the smallest width everywhere is over the budget.

    References:
        Dong et al., arXiv 1911.03852 (the sum of sensitivities under a size limit).

    Example:
        >>> from fedhq.models.sensitivity import Perturbation
        >>> values = [[1.0, 0.25], [0.5, 0.25], [0.25, 0.125]]
        >>> found = Sensitivity(("a", "b", "c"), (2, 8), values, [10, 10, 80], Perturbation())
        >>> allocate_bits(found, mean_bits=3.0)
        MixedBits(layers=('a', 'b', 'c'), bits=(8, 2, 2), mean_bits=2.6, sensitivity=1.0)
    """
    widths, sizes = np.array(sensitivity.bits), sensitivity.num_weights
    if not mean_bits >= widths[0]:
        raise ValueError(
            f"`mean_bits >= {widths[0]}` must hold, the smallest width of the sensitivities, but "
            f"got {mean_bits}. Measure smaller widths, or allow more bits."
        )
    usage = sizes[:, None] * widths
    # More than the largest width everywhere is no limit, and infinity no number to solve with.
    limit = min(mean_bits, float(widths[-1])) * float(sizes.sum())
    largest = float(sensitivity.values.max()) or 1.0
    problem = AllocationProblem(
        [Strategy(Method.PTQ, width, width, _WIRE_BITS) for width in sensitivity.bits],
        seconds=np.zeros(usage.shape),
        loss=sensitivity.values / largest,
        deadline_seconds=1.0,
        budgets=[Budget("weight_bits", usage, limit)],
        clients=[f"layer {name}" for name in sensitivity.layers],
    )
    choice = solve(problem, Exact()).allocation.choice
    rows = np.arange(len(choice))
    return MixedBits(
        layers=sensitivity.layers,
        bits=tuple(widths[choice].tolist()),
        mean_bits=float(usage[rows, choice].sum() / sizes.sum()),
        sensitivity=float(sensitivity.values[rows, choice].sum()),
    )


def with_bits(recipe: Recipe, mixed: MixedBits, activations_follow: bool = False) -> Recipe:
    """A recipe with a width of its own for each layer.

    Args:
        recipe: The recipe whose layers' sensitivities were measured.
        mixed: What `allocate_bits` chose.
        activations_follow: Quantize each layer's input at as many bits as its weights; else at
            those of the recipe. Inputs that the recipe leaves float stay so.

    Returns:
        The recipe with the choice in `layers`, where it counts above what stood there.

    Example:
        >>> import torch
        >>> from fedhq.models import build_model, deploy
        >>> from fedhq.models.ptq import correct_bias_, output_divergence
        >>> from fedhq.models.sensitivity import HessianTrace, layer_sensitivities
        >>> model, recipe = build_model("resnet8", (1, 8, 8), num_classes=4, seed=0), Recipe(3, 8)
        >>> batches = [torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))]
        >>> found = layer_sensitivities(model, recipe, batches, measure=HessianTrace())
        >>> mixed = allocate_bits(found, mean_bits=3.0)
        >>> shipped = deploy(model, with_bits(recipe, mixed), batches)
        >>> shipped = correct_bias_(shipped, model, batches)
        >>> uniform = correct_bias_(deploy(model, recipe, batches), model, batches)
        >>> mixed.mean_bits <= 3.0
        True
        >>> output_divergence(model, shipped, batches) < output_divergence(model, uniform, batches)
        True
    """
    chosen = []
    for name, width in zip(mixed.layers, mixed.bits, strict=True):
        activation_bits = recipe.bits_of(name)[1]
        if activations_follow and activation_bits is not None:
            activation_bits = width
        chosen.append(LayerBits(glob.escape(name), width, activation_bits))
    return replace(recipe, layers=(*recipe.layers, *chosen))
