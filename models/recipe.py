"""What is quantized, at which bits, with which ranges: the settings of `prepare_`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from .fake_quant import check_bits
from .granularity import PER_CHANNEL, Granularity
from .observers import Fit


class Range(StrEnum):
    """Where a range comes from while training."""

    DYNAMIC = "dynamic"
    """From the values at hand."""
    AVERAGED = "averaged"
    """From a moving average over the batches before; for inputs. It is not in the state dict."""
    LEARNED = "learned"
    """A scale that is trained with the weights (LSQ, arXiv 1902.08153); it enters the state dict.

    An input's zero point stays that of the first batch, which must be like the others.
    """


@dataclass(frozen=True)
class LayerBits:
    """Other bits for some layers.

    Args:
        pattern: Of their names, as in a shell: `blocks.*.query`.
        weight_bits: 2 to 8.
        activation_bits: 2 to 8, or None for float inputs.
    """

    pattern: str
    weight_bits: int
    activation_bits: int | None

    def __post_init__(self) -> None:
        _check_both(self.weight_bits, self.activation_bits)


_CHOICES: dict[str, type[StrEnum]] = {
    "weight_fit": Fit,
    "activation_fit": Fit,
    "weight_range": Range,
    "activation_range": Range,
}


@dataclass(frozen=True)
class Recipe:
    """How a model is quantized.

    Args:
        weight_bits: 2 to 8.
        activation_bits: 2 to 8, of every quantizing layer's input; None leaves inputs float.
        granularity: Which values of a weight share a scale.
        weight_fit: How a weight's range is fitted.
        activation_fit: How an input's range is fitted.
        weight_range: dynamic or learned.
        activation_range: dynamic, averaged or learned.
        include: Patterns of the names of the modules that quantize, as in a shell.
        exclude: Patterns of those that stay float all the same.
        keep_first: Leave the first layer that would quantize in float.
        keep_last: Leave the last one in float.
        layers: Other bits for some layers; of several that fit, the last counts.

    Raises:
        ValueError: If bits are out of range, a weight's range is averaged, or nothing is included.

    Example:
        >>> recipe = Recipe(4, 8, exclude=("head",), layers=(LayerBits("conv1", 8, 8),))
        >>> recipe.bits_of("conv1"), recipe.bits_of("conv2"), recipe.quantizes("head")
        ((8, 8), (4, 8), False)
    """

    weight_bits: int
    activation_bits: int | None
    granularity: Granularity = PER_CHANNEL
    weight_fit: Fit = Fit.MSE
    activation_fit: Fit = Fit.MSE
    weight_range: Range = Range.DYNAMIC
    activation_range: Range = Range.DYNAMIC
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    keep_first: bool = False
    keep_last: bool = False
    layers: tuple[LayerBits, ...] = ()

    def __post_init__(self) -> None:
        _check_both(self.weight_bits, self.activation_bits)
        # A plain "learned" means Range.LEARNED.
        for name, kind in _CHOICES.items():
            object.__setattr__(self, name, kind(getattr(self, name)))
        if self.weight_range is Range.AVERAGED:
            raise ValueError(
                "`weight_range` must be dynamic or learned, but got averaged: a weight is known "
                "before it is used."
            )
        if not isinstance(self.granularity, Granularity):
            raise ValueError(
                "`granularity` must be PerTensor(), PerAxis() or PerGroup(size), but got "
                f"{self.granularity!r}."
            )
        if not all(isinstance(layer, LayerBits) for layer in self.layers):
            raise ValueError(f"`layers` must be a tuple of LayerBits, but got {self.layers!r}.")
        for name, patterns in (("include", self.include), ("exclude", self.exclude)):
            if isinstance(patterns, str):
                raise ValueError(f"`{name}` must be a tuple of patterns, but got {patterns!r}.")
        if not self.include:
            raise ValueError("`include` must hold at least one pattern, but it is empty.")

    def quantizes(self, name: str) -> bool:
        """Whether a module of this name quantizes, if it can."""
        return _fits(name, self.include) and not _fits(name, self.exclude)

    def bits_of(self, name: str) -> tuple[int, int | None]:
        """(weight bits, activation bits) of a module of this name."""
        for layer in reversed(self.layers):
            if fnmatchcase(name, layer.pattern):
                return layer.weight_bits, layer.activation_bits
        return self.weight_bits, self.activation_bits


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_both(weight_bits: int, activation_bits: int | None) -> None:
    check_bits("weight_bits", weight_bits)
    if activation_bits is not None:
        check_bits("activation_bits", activation_bits)
