"""The coverage term as a sum of convex curves, each of what is linear in who teaches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .arrays import FloatArray
from .coverage import Coverage

_APART = 1.1  # the last point over the one before: slopes between nearer ones would be rounding


@dataclass(frozen=True, eq=False)
class Curves:
    """`sum_k weights_k curve_k(at(covered)_k)`, of what is covered of the classes.

    The first are the coverages of the classes. Where unevenness has a price, as many follow
    for the classes' leads: `lead_c = most + coverage_c - share`, so that a class that lags behind
    has a lead below `most`, and `psi(lead) = price * max(0, most - lead)`. The share is never above
    `most`, so that leads are not below 0; a client's part of one may be.

    Args:
        weights: `(curves,)` g of the class.
        carried: `(classes,)` what is covered without anybody.
        most: The share is never above.
        points: `(points,)` breakpoints, the same for all, rising from 0.
        values: `(curves, points)` the curves there; constant after the last.
        num_classes: How many curves are of coverage.
    """

    weights: FloatArray
    carried: FloatArray
    most: float
    points: FloatArray
    values: FloatArray
    num_classes: int

    @classmethod
    def of(cls, term: Coverage, carried: FloatArray | None = None, rounds: float = 1.0) -> Curves:
        """The curves of a coverage term.

        Args:
            term: The term.
            carried: `(classes,)` in place of the term's own.
            rounds: How often what is taught in a round counts at most.

        Example:
            >>> term = Coverage([[8, 0], [0, 2]], (0, 1), ((0, .4), (1, 0)), unevenness_price=2.0)
            >>> curves = Curves.of(term)
            >>> curves.moved(term.share[0]).round(3), curves.start, curves.values[[0, 2]]
            (array([ 1. ,  0. ,  0.2, -0.8]), array([0., 0., 1., 1.]), array([[0.4, 0. ],
                   [2. , 0. ]]))
        """
        start = term.carried if carried is None else carried
        points, phi = term.loss_curve.T
        classes = len(term.population)
        curves = cls(term.class_weights, start, 0.0, points, np.tile(phi, (classes, 1)), classes)
        if not term.has_unevenness:
            return curves
        taught = term.most_share - float(term.carried @ term.class_weights)
        return curves._with_leads(
            term.unevenness_price, float(start @ term.class_weights) + rounds * taught
        )

    @classmethod
    def none(cls) -> Curves:
        """No curve at all."""
        return cls(np.zeros(0), np.zeros(0), 0.0, np.zeros(1), np.zeros((0, 1)), 0)

    def _with_leads(self, price: float, most_share: float) -> Curves:
        most, points = _point_above(self.points, most_share)
        phi = np.interp(points, self.points, self.values[0])
        psi = price * np.maximum(most - points, 0.0)
        g, classes = self.weights, self.num_classes
        return replace(
            self,
            weights=np.append(g, g),
            most=most,
            points=points,
            values=np.repeat([phi, psi], classes, axis=0),
        )

    @property
    def lines(self) -> tuple[FloatArray, FloatArray]:
        """`(curves, points)` slopes and offsets of the lines whose maximum each curve is."""
        slopes = np.zeros_like(self.values)
        slopes[:, :-1] = np.diff(self.values, axis=1) / np.diff(self.points)
        return slopes, np.asarray(self.values - slopes * self.points)

    @property
    def parts(self) -> tuple[slice, ...]:
        """Where the curves stand that are one curve up to a factor."""
        classes = self.num_classes
        return tuple(slice(k, k + classes) for k in range(0, len(self.weights), classes or 1))

    @property
    def has_leads(self) -> bool:
        """Whether there are curves of leads."""
        return len(self.weights) > self.num_classes

    @property
    def start(self) -> FloatArray:
        """`(curves,)` where each stands without anybody."""
        return self.at(self.carried)

    def at(self, covered: FloatArray) -> FloatArray:
        """`(..., curves)` where each stands at `(..., classes)` coverages."""
        if not self.has_leads:
            return covered
        places = self.moved(covered)
        places[..., self.num_classes :] += self.most
        return places

    def moved(self, taught: FloatArray) -> FloatArray:
        """`(..., curves)` how far `(..., classes)` of what is taught moves each along its curve."""
        if not self.has_leads:
            return taught
        share = taught @ self.weights[: self.num_classes]
        return np.concatenate([taught, taught - share[..., None]], axis=-1)

    def of_classes(self, prices: FloatArray) -> FloatArray:
        """`(classes,)` what the `(curves,)` prices say of one more of a class's coverage.

        That of a lead counts for its class, and against all by their part of the share; so the sum
        may be below 0.
        """
        if not self.has_leads:
            return prices
        own, leads = prices[: self.num_classes], prices[self.num_classes :]
        return np.asarray(own + leads - self.weights[: self.num_classes] * leads.sum())


def _point_above(points: FloatArray, least: float) -> tuple[float, FloatArray]:
    """A breakpoint that is no less than a value, the first if there is one; and all of them."""
    if points[-1] >= least:
        return float(points[np.searchsorted(points, least)]), points
    most = max(least, _APART * float(points[-1]))
    return most, np.append(points, most)
