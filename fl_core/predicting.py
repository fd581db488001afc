"""Step profiles of networks that were never measured, from the operators that they run.

`allocator.roofline` has the arithmetic; the rates of the reference machine ship.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import numpy as np
from torch import nn

from ..allocator.hardware import StepProfile
from ..allocator.operators import ModelOperators
from ..allocator.roofline import DeviceRates, adjust_rates, predict
from ..allocator.strategy import Strategy
from ..models.operators import list_operators
from .data.datasets import Dataset


def reference_rates() -> DeviceRates:
    """The rates that ship; their `origin` says of which machine.

    Example:
        >>> 1 < 1e-9 / reference_rates().seconds_per_matmul < 1000  # billions a second
        True
    """
    shipped = resources.files(__package__).joinpath("profiles").joinpath("rates.json")
    with resources.as_file(shipped) as path:
        return DeviceRates.load(path)


def list_steps(model: nn.Module, data: Dataset, batch_size: int, label: str) -> ModelOperators:
    """Lists what a network's steps compute on a batch of examples, repeated if they are too few.

    Args:
        model: The network.
        data: Examples like those of clients.
        batch_size: Examples per step.
        label: What the profile calls the model.

    Raises:
        ValueError: If the batch size is below 1, there is no example, or nothing quantizes.
    """
    for name, value in (("batch_size", batch_size), ("examples", len(data))):
        if value < 1:
            raise ValueError(f"`{name} >= 1` must hold, but got {value}.")
    batch = data.take(np.arange(batch_size) % len(data))
    return list_operators(model, batch.inputs, batch.labels, label)


def predict_steps(
    model: nn.Module,
    data: Dataset,
    menu: Sequence[str | Strategy],
    batch_size: int,
    label: str,
    measured: StepProfile | None = None,
) -> StepProfile:
    """The step profile of a network, predicted for all strategies but those that were measured.

    Args:
        model: The network, of any kind.
        data: Examples like those of clients; their values do not matter.
        menu: Strategies.
        batch_size: Examples per step.
        label: What the profile calls the model.
        measured: Steps of this network on the device in question, of one strategy or more, at any
            batch size: the rates are scaled by what they take over what is predicted of them.
            Without, all times are those of the reference machine.

    Returns:
        The profile: measured times where they are of this batch size, else predicted ones.

    Raises:
        ValueError: If the measured profile is of another network or holds no step, or the network
            cannot be listed.

    Example:
        >>> import torch
        >>> from fedhq.allocator import parse_menu
        >>> model, label = nn.Linear(4, 2), "linear 4"
        >>> data = Dataset(torch.rand(8, 4), torch.zeros(8, dtype=torch.int64), 2)
        >>> float_step = StepProfile(label, 8, parse_menu(["fp32"]), [0.5], [0], "by hand")
        >>> whole = predict_steps(model, data, ["fp32", "qat-w2a2"], 8, label, float_step)
        >>> whole.step_seconds[0], bool(whole.step_seconds[1] > 0.5)
        (np.float64(0.5), True)
    """
    rates = reference_rates()
    operators = list_steps(model, data, batch_size, label)
    if measured is None:
        return predict(operators, menu, rates)
    if measured.model != label:
        raise ValueError(
            f"`measured` must be of {label!r}, but is of {measured.model!r}. Measure this network."
        )
    same = measured.batch_size == batch_size
    listed = operators if same else list_steps(model, data, measured.batch_size, label)
    predicted = predict(operators, menu, _adjusted(rates, listed, measured))
    if not same:
        return predicted
    known = {s.compute: t for s, t in zip(measured.strategies, measured.step_seconds, strict=True)}
    seconds = [
        known.get(s.compute, t)
        for s, t in zip(predicted.strategies, predicted.step_seconds, strict=True)
    ]
    return StepProfile(
        label,
        batch_size,
        predicted.strategies,
        np.array(seconds),
        predicted.memory_bytes,
        predicted.origin,
    )


def _adjusted(rates: DeviceRates, listed: ModelOperators, measured: StepProfile) -> DeviceRates:
    """The reference's rates times the median factor of what was measured."""
    adjusted = [
        adjust_rates(rates, listed.of(strategy), float(seconds))
        for strategy, seconds in zip(measured.strategies, measured.step_seconds, strict=True)
        if not strategy.is_skip
    ]
    if not adjusted:
        raise ValueError("`measured` must hold a strategy that trains, but all skip.")
    adjusted.sort(key=lambda each: float(each.values.sum()))
    return adjusted[len(adjusted) // 2]
