"""What a combined update does to the server's weights: FedAvg, FedAdam, FedYogi.

Reddi et al., arXiv 2003.00295, algorithm 2, with d for the combined update of a round, all weight
by weight; m starts at 0 and v at tau**2:

    m = beta1 * m + (1 - beta1) * d
    v = beta2 * v + (1 - beta2) * d**2                       FedAdam
    v = v - (1 - beta2) * d**2 * sign(v - d**2)              FedYogi
    weights = weights + learning_rate * m / (sqrt(v) + tau)

As there, nothing corrects for the start of m and v. FedAvg adds learning_rate * d.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..settings import ServerSettings
from ..weights import Weights
from ..wire.rounding import Float32Array


@dataclass(frozen=True, eq=False)
class Moments:
    """What an adaptive optimizer keeps; no array is written to.

    Args:
        mean: m, by name of the weight.
        square: v, by name of the weight.
    """

    mean: Weights
    square: Weights


def start_moments(settings: ServerSettings, weights: Weights) -> Moments | None:
    """The moments before the first round; None where the optimizer keeps none.

    Args:
        settings: Name the optimizer.
        weights: Of the model; only names and shapes are read.
    """
    if settings.optimizer == "fedavg":
        return None
    tau = np.float32(settings.tau)
    return Moments(
        {name: np.zeros(values.shape, np.float32) for name, values in weights.items()},
        {name: np.full(values.shape, tau * tau) for name, values in weights.items()},
    )


def step(
    settings: ServerSettings, weights: Weights, change: Weights, moments: Moments | None
) -> tuple[Weights, Moments | None]:
    """New weights and moments; what is given stays as it is.

    Args:
        settings: Name the optimizer and its rates.
        weights: Before the round.
        change: The combined update.
        moments: Of the round before, or what `start_moments` gave.

    Example:
        >>> one = {"w": np.ones(2, np.float32)}
        >>> step(ServerSettings(learning_rate=0.5), one, one, None)[0]["w"].tolist()
        [1.5, 1.5]
    """
    if moments is None:
        moved = {name: _scaled(values, settings.learning_rate) for name, values in change.items()}
        for name, old in weights.items():
            moved[name] += old
        return moved, None
    # Arrays of one number stay arrays with `out` and operations in place alone.
    mean, square, moved = {}, {}, {}
    for name, d in change.items():
        mean[name] = _scaled(d, 1 - settings.beta1)
        mean[name] += _scaled(moments.mean[name], settings.beta1)
        power = np.square(d, out=np.empty_like(d))
        square[name] = _new_square(settings, moments.square[name], power)
        divisor = np.sqrt(square[name], out=power)
        divisor += np.float32(settings.tau)
        moved[name] = _scaled(mean[name], settings.learning_rate)
        moved[name] /= divisor
        moved[name] += weights[name]
    return moved, Moments(mean, square)


def _new_square(settings: ServerSettings, old: Float32Array, power: Float32Array) -> Float32Array:
    if settings.optimizer == "fedadam":
        new = _scaled(power, 1 - settings.beta2)
        new += _scaled(old, settings.beta2)
        return new
    new = np.subtract(power, old, out=np.empty_like(old))
    np.sign(new, out=new)
    new *= _scaled(power, 1 - settings.beta2)
    new += old
    return new


def _scaled(values: Float32Array, factor: float) -> Float32Array:
    return np.multiply(values, np.float32(factor), out=np.empty_like(values))
