"""The coverage term of the loss: which data teach the deployed precision (design section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .arrays import FloatArray, IntArray, freeze, freeze_counts

_CONVEXITY_TOLERANCE = 1e-9
_ROUNDING = 1e-9  # of sums of counts, relative


@dataclass(frozen=True, eq=False)
class Coverage:
    """The part of the loss that depends on which data teach the deployed precision.

    `sum_c g_c phi(coverage_c)` with `coverage_c = carried_c + sum teaches[s] label_counts[i, c]
    x[i, s] / population_c`; `g` is the population's class distribution, and phi the convex,
    decreasing, piecewise linear curve through the given points, constant after the last. To it
    comes `unevenness_price * sum_c g_c max(0, share - coverage_c)`, `share = sum_k g_k coverage_k`:
    how far classes lag behind the share of all examples. Unlike phi it may rise with coverage:
    nothing and everything are even, a pool that holds few classes is not.

    Args:
        label_counts: `(clients, classes)` examples of each class; one column where unknown.
        teaches: `(strategies,)` in [0, 1].
        loss_curve: Points (coverage, loss), coverage rising from 0.
        population: `(classes,)` examples in the whole fleet, no less than the column sums; these
            where None.
        carried: `(classes,)` coverage that recent rounds still give; zeros where None.
        unevenness_price: Loss per unit of unevenness, >= 0.

    Raises:
        ValueError: If shapes differ, values are negative or not finite, `teaches` exceeds 1,
            `population` is less than what the clients hold, or the curve has no point, does not
            start at 0, is not decreasing, or is not convex.

    Example:
        >>> c = Coverage([[8, 0], [0, 2]], (0, 1), ((0, .4), (.5, 0)))
        >>> round(c.loss(np.array([1.0, 0.25])), 3)  # 0.8 * phi(1) + 0.2 * phi(0.25)
        0.04
        >>> round(c.unevenness(np.array([1.0, 0.25])), 3)  # the share is 0.8 * 1 + 0.2 * 0.25
        0.12
    """

    label_counts: FloatArray
    teaches: FloatArray
    loss_curve: FloatArray
    population: FloatArray
    carried: FloatArray
    unevenness_price: float

    def __init__(
        self,
        label_counts: ArrayLike,
        teaches: ArrayLike,
        loss_curve: ArrayLike,
        population: ArrayLike | None = None,
        carried: ArrayLike | None = None,
        unevenness_price: float = 0.0,
    ) -> None:
        counts = freeze_counts(label_counts)
        classes = counts.shape[1:]
        whole = counts.sum(axis=0) if population is None else population
        object.__setattr__(self, "label_counts", counts)
        object.__setattr__(self, "teaches", freeze("teaches", teaches, np.shape(teaches)))
        object.__setattr__(self, "loss_curve", check_curve(loss_curve))
        object.__setattr__(self, "population", freeze("population", whole, classes))
        rest = np.zeros(classes) if carried is None else carried
        object.__setattr__(self, "carried", freeze("carried", rest, classes))
        price = float(freeze("unevenness_price", unevenness_price, ()))
        object.__setattr__(self, "unevenness_price", price)
        if self.teaches.ndim != 1 or (self.teaches > 1).any():
            raise ValueError(f"`0 <= teaches <= 1` must hold, but got {self.teaches}.")
        with np.errstate(over="ignore"):
            whole = float(self.population.sum())
        if not 0 < whole < np.inf:
            raise ValueError(
                "`population` must hold at least one example and have a finite sum, but its sum "
                f"is {whole:g}."
            )
        self._check_population()

    def _check_population(self) -> None:
        held = self.label_counts.sum(axis=0)
        short = np.flatnonzero(self.population < held * (1 - _ROUNDING))
        if short.size:
            c = int(short[0])
            raise ValueError(
                "`population >= label_counts.sum(axis=0)` must hold (it counts the whole fleet), "
                f"but class {c} has {self.population[c]:.6g} in all and {held[c]:.6g} with these "
                f"clients ({short.size} such classes)."
            )

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises a `ValueError` unless the tables fit `(clients, strategies)`."""
        if self.label_counts.shape[0] != shape[0]:
            raise ValueError(
                f"`label_counts` must have {shape[0]} clients, but has "
                f"{self.label_counts.shape[0]}."
            )
        if self.teaches.shape != shape[1:]:
            raise ValueError(
                f"`teaches` must have shape {shape[1:]}, one value a strategy, "
                f"but got {self.teaches.shape}."
            )

    @property
    def class_weights(self) -> FloatArray:
        """`(classes,)` the population's distribution g."""
        return self.population / float(self.population.sum())

    @property
    def share(self) -> FloatArray:
        """`(clients, classes)` each client's part of a class of the population."""
        return self.label_counts / np.where(self.population > 0, self.population, 1.0)

    def covered(self, choice: IntArray) -> FloatArray:
        """`(classes,)` coverage under a choice of a strategy for every client."""
        return self.carried + self.teaches[choice] @ self.share

    def phi(self, covered: FloatArray) -> FloatArray:
        """The curve's value at each coverage of an array of any shape."""
        return np.interp(covered, self.loss_curve[:, 0], self.loss_curve[:, 1])

    @property
    def has_unevenness(self) -> bool:
        """Whether unevenness counts; with a single class there is none."""
        return self.unevenness_price > 0 and int(np.count_nonzero(self.population)) > 1

    def lags(self, covered: FloatArray) -> FloatArray:
        """By how much each class lags behind the share; `(..., classes)` like the coverages."""
        share = covered @ self.class_weights
        return np.asarray(np.maximum(share[..., None] - covered, 0.0))

    def unevenness(self, covered: FloatArray) -> float:
        """`sum_c g_c max(0, share - coverage_c)` of a `(classes,)` coverage; in [0, 1/4] mostly."""
        return float(self.lags(covered) @ self.class_weights)

    def loss(self, covered: FloatArray) -> float:
        """The term's value for a `(classes,)` coverage, as a fraction of accuracy."""
        value = float(self.class_weights @ self.phi(covered))
        if self.has_unevenness:
            value += self.unevenness_price * self.unevenness(covered)
        return value

    def losses(self, covered: FloatArray) -> FloatArray:
        """`(...)` the term's values for `(..., classes)` coverages."""
        values = np.asarray(self.phi(covered) @ self.class_weights)
        if self.has_unevenness:
            lags = self.lags(covered) @ self.class_weights
            values = values + self.unevenness_price * lags
        return values

    @property
    def lines(self) -> tuple[FloatArray, FloatArray]:
        """`(points,)` slopes and offsets of the lines whose maximum is phi."""
        points = self.loss_curve
        slopes = np.append(np.diff(points[:, 1]) / np.diff(points[:, 0]), 0.0)
        return slopes, np.asarray(points[:, 1] - slopes * points[:, 0])

    @property
    def unit(self) -> float:
        """phi(0), or 1 where phi is 0 everywhere: what solvers measure the term in."""
        return float(self.loss_curve[0, 1]) or 1.0

    @property
    def most_share(self) -> float:
        """The most that can be taught of all examples, with what is carried."""
        taught = float(self.teaches.max()) * self.label_counts.sum() / self.population.sum()
        return float(self.carried @ self.class_weights + taught)

    @property
    def most(self) -> float:
        """What the term can never exceed."""
        unevenness = self.unevenness_price * self.most_share if self.has_unevenness else 0.0
        return float(self.loss_curve[0, 1]) + unevenness


def check_curve(points: ArrayLike) -> FloatArray:
    """`(points, 2)` a curve, read-only; a `ValueError` unless it is one that `Coverage` takes."""
    if np.ndim(points) != 2 or np.shape(points)[0] == 0 or np.shape(points)[1] != 2:
        raise ValueError(
            "`loss_curve` must be at least one point (coverage, loss), but its shape is "
            f"{np.shape(points)}."
        )
    curve = freeze("loss_curve", points, np.shape(points))
    steps = np.diff(curve, axis=0)
    if curve[0, 0] != 0 or (steps[:, 0] <= 0).any():
        raise ValueError(
            f"`loss_curve` must rise in coverage from 0, but its coverages are {curve[:, 0]}."
        )
    if (steps[:, 1] > 0).any():
        raise ValueError(f"`loss_curve` must not rise in loss, but got {curve[:, 1]}.")
    slopes = np.append(steps[:, 1] / steps[:, 0], 0.0)
    bent = np.flatnonzero(np.diff(slopes) < -_CONVEXITY_TOLERANCE)
    if bent.size:
        k = int(bent[0]) + 1
        raise ValueError(
            "`loss_curve` must be convex (slopes rising to 0), but at coverage "
            f"{curve[k, 0]} the slope falls from {slopes[k - 1]:.4g} to {slopes[k]:.4g}. "
            "Take the lower convex hull of the points."
        )
    return curve
