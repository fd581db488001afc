"""Predicts step times of strategies that a device never ran, from what their operators do.

    step seconds = sum over operators of  launches * launch seconds + work / rate      (facts: T4)

with the work that bounds the kind of operator: multiply-adds of products and convolutions, bytes
of the rest, values put on a grid of fake quantization (T5). The two parts are added, where the
roofline takes the greater of compute and memory: a sum is linear in what is unknown, so a few
measured steps give it by least squares, and small operators fall short of the peak by themselves.

A device of which one step was timed gets all the rates of the reference machine times one factor,
the time measured over the time predicted. That is what `DeviceProfile.slowdown` means, so fleets
take it as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from .arrays import FloatArray, freeze
from .hardware import StepProfile
from .operators import ModelOperators, Operator, OperatorKind, StepOperators
from .strategy import Strategy, parse_menu

_FORMAT = "fedhq device rates"
_VERSION = 1
_REFITS = 12
_LEAST_ERROR = 0.03  # relative; below it an error weighs no more


@dataclass(frozen=True, kw_only=True)
class DeviceRates:
    """What each kind of work costs a device, in seconds.

    Args:
        seconds_per_step: Of what every step does whatever the network: its batch and its loss.
        seconds_per_launch: Of any operator, a view as well.
        seconds_per_convolution: Of a convolution or its gradients, which are set up at every call.
        seconds_per_updated_tensor: Of a tensor that the optimizer takes.
        seconds_per_quantized_tensor: Of a tensor that a quantizer takes.
        seconds_per_byte: Read or written.
        seconds_per_convolved_byte: Of convolutions, which lay it out anew; and where channels are
            few there is more of it for each multiply-add, so it tells of lanes that are idle.
        seconds_per_pooled_byte: Of torch's own max pooling.
        seconds_per_matmul: Of a multiply-add of matrices.
        seconds_per_convolved: Of a multiply-add of a convolution.
        seconds_per_quantized_input: Of a value of a layer's input.
        seconds_per_quantized_weight: Of a value of a weight.
        origin: Where the rates come from.

    Raises:
        ValueError: If a rate is negative or infinite.
    """

    seconds_per_step: float
    seconds_per_launch: float
    seconds_per_convolution: float
    seconds_per_updated_tensor: float
    seconds_per_quantized_tensor: float
    seconds_per_byte: float
    seconds_per_convolved_byte: float
    seconds_per_pooled_byte: float
    seconds_per_matmul: float
    seconds_per_convolved: float
    seconds_per_quantized_input: float
    seconds_per_quantized_weight: float
    origin: str

    def __post_init__(self) -> None:
        for name in _TERMS:
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(
                    f"`0 <= {name} < inf` must hold for the rates of a device, but got "
                    f"{getattr(self, name)}."
                )

    @property
    def values(self) -> FloatArray:
        """`(terms,)` the rates in the order of `work_of`."""
        return np.array([getattr(self, name) for name in _TERMS])

    @staticmethod
    def names() -> tuple[str, ...]:
        """The rates' names, in the order of `values`."""
        return _TERMS

    def scaled(self, factor: float, origin: str) -> DeviceRates:
        """Those of a device that takes so many times as long for everything."""
        changed = dict(zip(_TERMS, (self.values * factor).tolist(), strict=True))
        return DeviceRates(**changed, origin=origin)

    def save(self, path: Path) -> None:
        """Writes the rates as JSON."""
        content = {"format": _FORMAT, "version": _VERSION, **asdict(self)}
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> DeviceRates:
        """Reads rates.

        Raises:
            ValueError: If the file is missing, holds no rates, or is of a newer version.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if (content["format"], content["version"]) != (_FORMAT, _VERSION):
                raise ValueError(f"it is {content['format']!r}, version {content['version']}")
            rates = {name: float(content[name]) for name in _TERMS}
            return cls(**rates, origin=str(content["origin"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} must hold {_FORMAT}, but {type(error).__name__}: {error}. Write them with "
                "`python -m fedhq.studies.hardware --rates FILE`."
            ) from None


_TERMS = tuple(field.name for field in fields(DeviceRates) if field.name != "origin")


def work_of(step: StepOperators) -> FloatArray:
    """`(terms,)` how much of each kind of work a step holds, in the order of `DeviceRates`."""
    work = dict.fromkeys(_TERMS, 0.0)
    work["seconds_per_step"] = float(bool(step.operators))
    for operator in step.operators:
        for name, amount in _work_of(operator):
            work[name] += amount
    return np.array(list(work.values()))


def _work_of(operator: Operator) -> list[tuple[str, float]]:
    moved = float(operator.bytes_read + operator.bytes_written)
    launches, adds = float(operator.launches), float(operator.multiply_adds)
    values = float(operator.quantized_elements)
    match operator.kind:
        case OperatorKind.VIEW:
            return [("seconds_per_launch", launches)]
        case OperatorKind.QUANTIZE_WEIGHTS:
            tensors = ("seconds_per_quantized_tensor", float(operator.tensors))
            return [tensors, ("seconds_per_quantized_weight", values)]
        case OperatorKind.QUANTIZE_INPUT:
            tensors = ("seconds_per_quantized_tensor", launches)
            return [tensors, ("seconds_per_quantized_input", values)]
        case OperatorKind.UPDATE:
            tensors = ("seconds_per_updated_tensor", float(operator.tensors))
            return [tensors, ("seconds_per_byte", moved)]
        case OperatorKind.CONVOLUTION:
            work = ("seconds_per_convolved", adds), ("seconds_per_convolved_byte", moved)
            return [("seconds_per_convolution", launches), *work]
        case OperatorKind.POOLING:
            return [("seconds_per_launch", launches), ("seconds_per_pooled_byte", moved)]
    work = ("seconds_per_matmul", adds), ("seconds_per_byte", moved)
    return [("seconds_per_launch", launches), *work]


def calibrate(steps: Sequence[StepOperators], seconds: ArrayLike, origin: str) -> DeviceRates:
    """Finds the rates with which measured steps are predicted best.

    Non-negative least squares in relative errors, refitted so that an outlier (a step measured
    while the machine was busy) weighs by its error and not by its square.

    Args:
        steps: What was measured, best of several networks and batch sizes.
        seconds: `(steps,)` how long each took, > 0.
        origin: Where the measurements come from.

    Returns:
        The rates; 0 of work that no step holds, or that costs nothing that the steps show.

    Raises:
        ValueError: If there is no step, or a time is not positive.

    References:
        Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23 (the least squares).

    Example:
        >>> mul = Operator("aten.mul", OperatorKind.POINTWISE, False, 1, 0, 8_000, 4_000)
        >>> steps = [StepOperators((mul,) * n, 0.0) for n in (1, 2, 3)]
        >>> rates = calibrate(steps, [3e-6, 5e-6, 7e-6], "by hand")
        >>> round(predict_seconds(StepOperators((mul,) * 10, 0.0), rates) * 1e6, 3)
        21.0
    """
    measured = freeze("seconds", seconds, (len(steps),))
    if not len(steps) or not (measured > 0).all():
        bad = np.flatnonzero(measured <= 0)
        place = f"seconds[{bad[0]}] = {measured[bad[0]]}" if bad.size else "there is none"
        raise ValueError(
            f"`seconds > 0` must hold for every step, and one must be there, but {place}. Leave "
            "out steps too short for the clock, and measure longer ones."
        )
    work = np.array([work_of(step) for step in steps])
    unit = np.maximum(work.max(axis=0), 1.0)
    shares = work / unit / measured[:, None]
    weights = np.ones(len(steps))
    for _ in range(_REFITS):
        found, _residual = optimize.nnls(shares * weights[:, None], weights)
        errors = np.abs(shares @ found - 1)
        weights = 1 / np.sqrt(np.maximum(errors, _LEAST_ERROR))
    rates = dict(zip(_TERMS, (found / unit).tolist(), strict=True))
    return DeviceRates(**rates, origin=origin)


def predict_seconds(step: StepOperators, rates: DeviceRates) -> float:
    """How long a device takes for a step."""
    return float(work_of(step) @ rates.values)


def adjust_rates(rates: DeviceRates, step: StepOperators, seconds: float) -> DeviceRates:
    """Rates of a device of which one step was timed: all times one factor.

    Args:
        rates: Of a reference.
        step: What was timed.
        seconds: How long the device took for it.

    Raises:
        ValueError: If the time is not positive, or the reference takes none for it.
    """
    expected = predict_seconds(step, rates)
    if not 0 < seconds < np.inf or not expected > 0:
        raise ValueError(
            "`seconds` must be finite and > 0 for a step that the rates give a time, but got "
            f"{seconds}, where they predict {expected}. Time a step of the network, in seconds."
        )
    factor = seconds / expected
    origin = f"one step of {seconds * 1e3:.4g} ms measured, {factor:.3g} times of: {rates.origin}"
    return rates.scaled(factor, origin)


def predict(
    model: ModelOperators, menu: Sequence[Strategy | str], rates: DeviceRates
) -> StepProfile:
    """The step profile of a network that was never measured.

    Args:
        model: What its steps compute.
        menu: Strategies; their wire bits, and the bits of qat, make no difference.
        rates: Of the device.

    Returns:
        Predicted times, and memory as `measure_steps` counts it.

    Example:
        >>> mul = Operator("aten.mul", OperatorKind.POINTWISE, False, 1, 0, 8_000, 4_000)
        >>> step = StepOperators((mul,), 1e6)
        >>> rates = calibrate([step], [3e-6], "by hand")
        >>> predict(ModelOperators("mine", 8, step, step), ["skip", "fp32"], rates).step_seconds
        array([0.e+00, 3.e-06])
    """
    strategies = parse_menu([str(s) for s in menu])
    steps = [model.of(s) for s in strategies]
    return StepProfile(
        model=model.model,
        batch_size=model.batch_size,
        strategies=strategies,
        step_seconds=np.array([predict_seconds(step, rates) for step in steps]),
        memory_bytes=np.array([step.memory_bytes for step in steps]),
        origin=f"predicted from {rates.origin}",
    )


@dataclass(frozen=True)
class OperationEnergy:
    """Energy of the two kinds of work that dominate a step; by default of a 45 nm chip.

    Args:
        joules_per_multiply_add: 32-bit float product 3.7 pJ and sum 0.9 pJ.
        joules_per_byte: From and to DRAM: 640 pJ for 32 bits.

    References:
        Horowitz, ISSCC 2014 (after PMC8934428, table 3); facts E3.

    Example:
        >>> mm = Operator("aten.mm", OperatorKind.MATMUL, False, 1, 1_000_000, 0, 1_000)
        >>> round(OperationEnergy().joules(StepOperators((mm,), 0.0)) * 1e6, 2)
        4.76
    """

    joules_per_multiply_add: float = 4.6e-12
    joules_per_byte: float = 160e-12

    def joules(self, step: StepOperators) -> float:
        """Of a step whose tensors all go through DRAM, without idle power: not measured."""
        adds, moved = step.multiply_adds, step.bytes_moved
        return self.joules_per_multiply_add * adds + self.joules_per_byte * moved
