"""The ways to train at low bits that the accuracy study compares."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from enum import StrEnum

from torch import Tensor, nn

from ..models import Range, Recipe, calibrate_, convert_, fake_quant_layers, prepare_, shadow_
from .others import brevitas_model, torchao_model, why_missing


class Arm(StrEnum):
    """A library and its ranges; the value is its name in tables."""

    DYNAMIC = "fedhq, fitted to each batch"
    """The default: least squared error, weights and inputs; static after calibration."""
    AVERAGED = "fedhq, averaged"
    """Inputs' ranges are moving averages of the fitted ones."""
    LEARNED = "fedhq, learned"
    """Both ranges are parameters (LSQ)."""
    BREVITAS = "Brevitas, default"
    """Weights to the largest magnitude, inputs' scales learned after a first epoch."""
    BREVITAS_LEARNED = "Brevitas, learned"
    """Weights' scales learned, too, from the least squared error on."""
    TORCHAO = "torchao"
    """Linear layers only; a new range for every example, also when deployed."""

    @property
    def is_ours(self) -> bool:
        """Whether it is fedhq's."""
        return self in _RANGES

    @property
    def missing(self) -> str:
        """Why it cannot be run; empty if it can."""
        if self.is_ours:
            return ""
        return why_missing("torchao" if self is Arm.TORCHAO else "brevitas")

    def takes(self, model: nn.Module) -> bool:
        """Whether it can quantize all layers of a model."""
        return self is not Arm.TORCHAO or not any(
            isinstance(module, nn.Conv2d) for module in model.modules()
        )


_RANGES = {
    Arm.DYNAMIC: (Range.DYNAMIC, Range.DYNAMIC),
    Arm.AVERAGED: (Range.DYNAMIC, Range.AVERAGED),
    Arm.LEARNED: (Range.LEARNED, Range.LEARNED),
}


def prepared(arm: Arm, model: nn.Module, bits: int, epoch_steps: int) -> nn.Module:
    """A model that trains at low bits, from the same initial weights whatever the arm.

    Args:
        arm: How.
        model: A float model, which is left as it is.
        bits: Of weights and of every quantizing layer's input.
        epoch_steps: Steps of an epoch.
    """
    if arm is Arm.TORCHAO:
        return torchao_model(model, bits, bits)
    if not arm.is_ours:
        learns = arm is Arm.BREVITAS_LEARNED
        return brevitas_model(model, bits, bits, learns, epoch_steps)
    weight, activation = _RANGES[arm]
    recipe = Recipe(bits, bits, weight_range=weight, activation_range=activation)
    return shadow_(prepare_(copy.deepcopy(model), recipe))


def deployed(model: nn.Module, calibration: Iterable[Tensor]) -> nn.Module:
    """What ships: ours converted with static ranges; of others their model in eval mode.

    Args:
        model: A trained model that `prepared` made.
        calibration: Inputs, none from the test set.
    """
    if any(True for _ in fake_quant_layers(model)):
        return convert_(calibrate_(model, calibration))
    return model.eval()
