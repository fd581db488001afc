"""The outer problem: prices that make the relaxation's bound largest, for one round time.

Newton's method on the smooth dual with a logarithmic barrier that keeps prices positive, smoothing
and barrier shrinking together: an interior-point method. The few curves and prices are smoothed as
widely as all the clients together; with one width for all, kinks of the curves would be far
sharper than what the clients show, and Newton's steps short.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, FloatArray
from .relaxation import Relaxation
from .smooth import Smooth

_SHRINK = 0.3  # of the width between stages
_CLOSE = 1.0  # a stage ends at this decrement over the barrier's weight
_MOST_STEPS = 60  # of a stage
_FIRST, _LAST = 1.0, 1e-9  # width
_FIRST_PRICE = 0.1
_MOST_GROWTH, _MOST = 1e3, 1e7  # of a price in a step, and at all
_NEAR, _WIDEN = 20.0, 4.0  # prices from elsewhere: decrement, and steps in looking for a width


@dataclass(frozen=True, eq=False)
class Peak:
    """The best prices found for a round time.

    Args:
        prices: `(prices,)`.
        bound: D there, with the time term, in units; a lower bound whatever stopped the search.
        width: Of the last smoothing.
        precision: By how much a better bound may exist, in units.
    """

    prices: FloatArray
    bound: float
    width: float
    precision: float


@dataclass(frozen=True, eq=False)
class _Point:
    """The smooth dual with barrier at some prices, and the Newton step from there."""

    prices: FloatArray
    smooth: Smooth
    merit: float
    step: FloatArray
    decrement: float


class _Slope:
    """The smooth dual of one round time, with barrier."""

    def __init__(self, relaxation: Relaxation, mask: BoolArray, width: float) -> None:
        self._relaxation, self._mask, self._width = relaxation, mask, width
        self.barrier = width / relaxation.big_parts

    def at(self, prices: FloatArray) -> _Point:
        """Everything at some prices."""
        smooth = Smooth.of(self._relaxation, prices, self._mask, self._width)
        slope = smooth.gradient + self.barrier / prices
        bend = self.barrier / prices**2
        matrix, diagonal = smooth.curvature, slice(None, None, len(prices) + 1)
        matrix.flat[diagonal] += bend
        # Of a variance that is nothing, rounding may leave less.
        scale = 1.0 / np.sqrt(np.maximum(matrix.flat[diagonal], bend))
        scaled = matrix * scale[:, None] * scale
        scaled.flat[diagonal] += 1e-12
        step = scale * np.linalg.solve(scaled, scale * slope)
        merit = smooth.value + self.barrier * float(np.log(prices).sum())
        return _Point(prices, smooth, merit, step, float(slope @ step))

    def along(self, point: _Point) -> _Point | None:
        """Goes along the step, ever shorter, until the merit rises; None if it never does."""
        # Prices stay positive, and where nothing holds them back they do not fly off at once.
        growth = np.minimum(_MOST_GROWTH * (point.prices + 1.0), 0.9 * (_MOST - point.prices))
        room = np.where(point.step < 0, 0.9 * point.prices, growth)
        length = float(np.min(room / np.maximum(np.abs(point.step), room)))
        while length > 1e-8:
            there = self.at(point.prices + length * point.step)
            if there.merit >= point.merit + 0.02 * length * point.decrement:
                return there
            length *= 0.35
        return None


def ascend(
    relaxation: Relaxation,
    threshold: float,
    start: Peak | None,
    precision: float,
    cutoff: float = np.inf,
) -> Peak:
    """Maximises the dual for a round time.

    Args:
        relaxation: The priced problem.
        threshold: The round time in seconds.
        start: Where another threshold's search ended.
        precision: Ends when a better bound is unlikely to be this much better, in units.
        cutoff: Ends when the bound exceeds this, in units: the threshold holds no optimum then.
    """
    time, mask = relaxation.time_cost(threshold), relaxation.within(threshold)
    if not relaxation.num_prices:
        bound = Smooth.of(relaxation, np.zeros(0), mask, _LAST).bound
        return Peak(np.zeros(0), bound + time, _LAST, 0.0)
    width, prices = _FIRST, np.full(relaxation.num_prices, _FIRST_PRICE)
    if start is not None:
        width, prices = _fitting(relaxation, mask, start)
    best, best_prices = -np.inf, prices
    while True:
        slope, before, is_close = _Slope(relaxation, mask, width), best, False
        point = slope.at(prices)
        for _ in range(_MOST_STEPS):
            if point.smooth.bound > best:
                best, best_prices = point.smooth.bound, point.prices
            if best + time > cutoff:
                return Peak(best_prices, best + time, width, np.inf)
            is_close = point.decrement < _CLOSE * slope.barrier
            moved = None if is_close else slope.along(point)
            if moved is None:
                break
            point = moved
        prices = point.prices
        # What smoothing takes from the bound is lost half at most, the barrier's part in full;
        # where most clients are undecided it takes more than the width, and tells less.
        likely = max((point.smooth.value - best) / 2 + width / 2, width / 10)
        is_precise = is_close and max(min(likely, width), best - before) < precision
        if is_precise or width < _LAST:
            return Peak(best_prices, best + time, width, precision)
        width *= _SHRINK


def _fitting(relaxation: Relaxation, mask: BoolArray, start: Peak) -> tuple[float, FloatArray]:
    """The smallest width at which prices from elsewhere are near the maximum, and these."""
    width = start.width
    while True:
        slope = _Slope(relaxation, mask, width)
        prices = np.maximum(start.prices, slope.barrier)
        if width >= _FIRST or slope.at(prices).decrement < _NEAR * slope.barrier:
            return width, prices
        width *= _WIDEN
