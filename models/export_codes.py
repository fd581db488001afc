"""The integers that a converted model's weights stand for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .layers import FakeQuantLayer
from .prepare import fake_quant_layers
from .quantizers import WeightQuantizer


@dataclass(frozen=True, eq=False)
class WeightCodes:
    """A weight as integers: flattened to rows, it is `codes * scale`.

    Args:
        bits: The codes lie in `-2^(bits - 1) ... 2^(bits - 1) - 1`.
        codes: int8, in the shape of the weight.
        scale: `(rows,)` float32, or `(rows, groups)` for equal groups of a flat row's columns.
    """

    bits: int
    codes: Tensor
    scale: Tensor

    @property
    def group_size(self) -> int:
        """Columns of a flat row that share a scale."""
        return self.codes[0].numel() // self.scale[0].numel()


def converted_layers(model: nn.Module) -> list[tuple[str, FakeQuantLayer]]:
    """The quantizing layers of a converted model and their names, in the order of the model.

    Raises:
        ValueError: If the model is not converted.
    """
    layers = list(fake_quant_layers(model))
    if not layers or not all(quantizer.is_converted for quantizer in weight_quantizers(model)):
        raise ValueError("`model` must be converted, but it is not. Call `deploy` or `convert_`.")
    return layers


def weight_quantizers(model: nn.Module) -> list[WeightQuantizer]:
    """The quantizers of all weights, in the order of the model."""
    return [module for module in model.modules() if isinstance(module, WeightQuantizer)]


def layer_codes(name: str, layer: FakeQuantLayer) -> Iterator[tuple[str, WeightCodes]]:
    """The weights that a layer quantizes, by their names in it.

    Args:
        name: Of the layer, for errors.
        layer: Of a converted model.

    Raises:
        ValueError: If a weight is not on its grid.

    Example:
        >>> from .convert import deploy
        >>> from .recipe import Recipe
        >>> layer = deploy(nn.Sequential(nn.Linear(2, 3)), Recipe(2, 2), [torch.ones(1, 2)])[0]
        >>> [(parameter, weight)] = layer_codes("0", layer)
        >>> bool((weight.codes * weight.scale[:, None] == layer.weight).all())
        True
    """
    parameters = layer.quantized_parameters()
    for (parameter, weight), quantizer in zip(parameters, weight_quantizers(layer), strict=True):
        scale = quantizer.scale
        assert scale is not None, "a converted quantizer has its scale"
        if scale.dim() == 0:
            scale = scale.repeat(len(weight))
        steps = scale.view(len(weight), -1, 1)
        groups = weight.detach().reshape(*steps.shape[:2], -1)
        codes = (groups / steps).round()
        if not torch.equal(codes * steps, groups):
            raise ValueError(
                f"a converted weight must lie on its grid, but {parameter!r} of layer {name!r} "
                "does not. Deploy the float model anew."
            )
        yield parameter, WeightCodes(quantizer.bits, codes.view_as(weight).to(torch.int8), scale)
