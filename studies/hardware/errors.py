"""Predictions against measurements that they have not seen.

A network is left out with all its image sizes and batch sizes: the rates that predict it come from
the other networks and the probes.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from ...allocator.operators import ModelOperators, StepOperators
from ...allocator.roofline import DeviceRates, adjust_rates, calibrate, predict_seconds
from .cases import FLOAT, MENU, Case
from .measuring import Measured

KNOWN_BATCH = 32

Listing = Mapping[Case, ModelOperators]


class Setting(StrEnum):
    """What was measured of the network that is predicted."""

    SAME_BATCH = "a"
    """Its float step at the same batch size."""
    ONE_BATCH = "b"
    """Its float step at batch 32."""
    NOTHING = "c"
    """Nothing."""


@dataclass(frozen=True)
class Prediction:
    """A predicted time and the measured one.

    Args:
        case: The network and batch size.
        is_qat: Whether the step is one of QAT. Its time is predicted alike for all bits: it counts
            once, against the median of those measured.
        predicted: Seconds of a step.
        measured: Likewise.
        each: What that is the median of: of QAT a time for each of the bits.
    """

    case: Case
    is_qat: bool
    predicted: float
    measured: float
    each: tuple[float, ...]

    @property
    def worst_error(self) -> float:
        """The largest absolute error against one of the measured, as they are."""
        return max(abs(self.predicted / taken - 1) for taken in self.each)

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted / self.measured - 1


def list_all(cases: Sequence[Case]) -> dict[Case, ModelOperators]:
    """What the steps of all cases compute."""
    return {case: case.operators() for case in cases}


def calibrated(measured: Sequence[Measured], listing: Listing, origin: str) -> DeviceRates:
    """The rates of the machine on which these were measured."""
    steps: list[StepOperators] = []
    seconds: list[float] = []
    for one in measured:
        for strategy, taken in zip(MENU, one.seconds, strict=True):
            steps.append(listing[one.case].of(strategy))
            seconds.append(taken)
    return calibrate(steps, seconds, origin)


def without_each_network(measured: Sequence[Measured], listing: Listing) -> dict[str, DeviceRates]:
    """For every network the rates that all others give."""
    networks = sorted({one.case.network for one in measured if not one.case.is_probe})
    return {
        network: calibrated([m for m in measured if m.case.network != network], listing, "others")
        for network in networks
    }


def predictions(
    setting: Setting,
    measured: Sequence[Measured],
    listing: Listing,
    rates: Mapping[str, DeviceRates],
) -> list[Prediction]:
    """All times that a setting asks to predict; what it calls measured is not among them.

    Args:
        setting: What is known.
        measured: Of the device in question.
        listing: What steps compute.
        rates: For every network, from the other networks: of this device, or of another one.
    """
    by_case = {one.case: one for one in measured}
    found = []
    for one in measured:
        if one.case.is_probe:
            continue
        own, timed = rates[one.case.network], _timed(setting, one.case)
        if timed is not None:
            if timed not in by_case:
                continue
            seconds = by_case[timed].seconds[MENU.index(FLOAT)]
            own = adjust_rates(own, listing[timed].of(FLOAT), seconds)
        listed = listing[one.case]
        if timed != one.case:
            in_float = one.seconds[MENU.index(FLOAT)]
            guess = predict_seconds(listed.in_float, own)
            found.append(Prediction(one.case, False, guess, in_float, (in_float,)))
        guess = predict_seconds(listed.quantizing, own)
        each = tuple(t for s, t in zip(MENU, one.seconds, strict=True) if s != FLOAT)
        found.append(Prediction(one.case, True, guess, qat_seconds(one), each))
    return found


def qat_seconds(one: Measured) -> float:
    """Of a QAT step: the median over the menu's bits."""
    return statistics.median(
        taken for strategy, taken in zip(MENU, one.seconds, strict=True) if strategy != FLOAT
    )


def _timed(setting: Setting, case: Case) -> Case | None:
    """The case whose float step a setting knows, of a case that is predicted."""
    if setting is Setting.NOTHING:
        return None
    return replace(case, batch_size=KNOWN_BATCH) if setting is Setting.ONE_BATCH else case


def quantile(found: Sequence[Prediction], at: float) -> float:
    """A quantile of the absolute errors."""
    return float(np.quantile([abs(one.error) for one in found], at))


def memory_ratios(measured: Sequence[Measured], listing: Listing) -> Iterator[tuple[Case, float]]:
    """Counted over allocated memory, of float and of quantizing steps."""
    for one in measured:
        listed = listing[one.case]
        for step, peak in zip((listed.in_float, listed.quantizing), one.peak_bytes, strict=True):
            yield one.case, step.memory_bytes / peak
