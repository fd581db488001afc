"""The smooth twin of the relaxation's dual: its value, gradient and curvature at some prices.

Each minimum is replaced by `-eps log sum exp(-./eps)` (Nesterov, "Smooth minimization of non-smooth
functions", Math. Programming, 2005). The weights of the sum are a fractional allocation: the
gradient is by how much it misses the limits, the curvature the covariance of what it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, FloatArray
from .relaxation import Relaxation

_BLOCK = 16_384  # clients worked on at a time: their tables stay in a core's cache
_LEAST_EXPONENT = -60.0  # below, a weight is nothing; far below it would be denormal, and slow


@dataclass(frozen=True, eq=False)
class Smooth:
    """The smooth dual at some prices, without the time term.

    Args:
        value: Of the smooth dual, in units; below `bound`.
        bound: Of the dual itself, in units.
        gradient: `(prices,)`.
        curvature: `(prices, prices)` the negative Hessian.
    """

    value: float
    bound: float
    gradient: FloatArray
    curvature: FloatArray

    @classmethod
    def of(
        cls, relaxation: Relaxation, prices: FloatArray, mask: BoolArray, width: float
    ) -> Smooth:
        """Evaluates the smooth dual.

        Args:
            relaxation: The priced problem.
            prices: `(prices,)`, >= 0.
            mask: `(clients, strategies)` what may be chosen; at least one a client.
            width: Of the smoothing, in units: clients share it, and so do curves and prices.
        """
        total = np.zeros(relaxation.num_prices)
        curvature = np.zeros((relaxation.num_prices, relaxation.num_prices))
        bound = softness = 0.0
        eps = width / len(relaxation.base)
        for rows in _blocks(len(relaxation.base)):
            cost = np.where(mask[rows], relaxation.priced(prices, rows), np.inf)
            weights, least, log_sum = _soft_minimum(cost, eps)
            bound += least
            softness += eps * log_sum
            _add_clients(relaxation, weights, rows, total, curvature)
        curvature /= eps
        if relaxation.num_curves:
            eps = width / relaxation.big_parts
            weights, least, log_sum = _soft_minimum(relaxation.curve_priced(prices), eps)
            bound += least
            softness += eps * log_sum
            _add_curves(relaxation, weights, eps, total, curvature)
        bound -= float(prices @ relaxation.limits)
        return cls(bound - softness, bound, total - relaxation.limits, curvature)


def _add_clients(
    relaxation: Relaxation,
    weights: FloatArray,
    rows: slice,
    total: FloatArray,
    curvature: FloatArray,
) -> None:
    """Adds the mean and the covariance of what the clients' choices take."""
    linear, curves, teaches = relaxation.of_tables, relaxation.of_curves, relaxation.teaches
    share, moved = relaxation.share[rows], relaxation.curves.moved
    taught = weights @ teaches
    if relaxation.num_curves:
        total[curves] -= moved(taught @ share)
        spread = np.maximum(weights @ teaches**2 - taught**2, 0.0)
        curvature[curves, curves] += moved(moved((share * spread[:, None]).T @ share).T).T
    if not len(linear):
        return
    tables = relaxation.tables[:, rows]
    taken = weights * tables
    means = taken.sum(axis=2)
    flat = (len(linear), weights.size)
    total[linear] += means.sum(axis=1)
    second = taken.reshape(flat) @ tables.reshape(flat).T - means @ means.T
    curvature[linear[:, None], linear] += second
    if relaxation.num_curves:
        cross = moved(-(taken @ teaches - means * taught) @ share)
        curvature[linear, curves] += cross
        curvature[curves, linear] += cross.T


def _add_curves(
    relaxation: Relaxation,
    weights: FloatArray,
    eps: float,
    total: FloatArray,
    curvature: FloatArray,
) -> None:
    """Adds the mean and the covariance, over eps, of where the curves end."""
    places = np.arange(relaxation.num_prices)[relaxation.of_curves]
    points, losses = relaxation.points, relaxation.curve_loss
    ends = weights @ points
    total[places] += ends
    curvature[places, places] += (weights @ points**2 - ends**2) / eps
    if relaxation.has_cap:
        means = (weights * losses).sum(axis=1)
        total[-1] += means.sum()
        spread = (weights * losses**2).sum(axis=1) - means**2
        curvature[-1, -1] += spread.sum() / eps
        cross = ((weights * losses) @ points - means * ends) / eps
        curvature[-1, places] += cross
        curvature[places, -1] += cross


def _blocks(clients: int) -> Iterator[slice]:
    return (slice(k, k + _BLOCK) for k in range(0, clients, _BLOCK))


def _soft_minimum(cost: FloatArray, eps: float) -> tuple[FloatArray, float, float]:
    """Weights of each row's entries, the sum of the minima, and that of `log sum exp`."""
    least = cost.min(axis=1, keepdims=True)
    weights = np.exp(np.maximum((least - cost) / eps, _LEAST_EXPONENT))
    sums = weights.sum(axis=1, keepdims=True)
    weights /= sums
    return weights, float(least.sum()), float(np.log(sums).sum())
