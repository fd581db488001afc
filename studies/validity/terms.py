"""What losses are explained by: each function gives columns, a row a federation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...allocator.arrays import FloatArray
from .evidence import Covered, Evidence

KNOTS = np.array([0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0])
"""Coverages at which a fitted curve may bend."""

Columns = Callable[[Sequence[Evidence]], FloatArray]
"""`(federations, columns)` of federations; weights of columns are >= 0."""


def hinges(covered: Covered) -> FloatArray:
    """`(knots,)` sum_c g_c max(0, knot - coverage_c): their sums, weighted, are all curves phi."""
    below = np.maximum(0.0, KNOTS[:, None] - covered.share)
    return np.asarray(below @ covered.weights)


def curve_of(weights: FloatArray) -> tuple[tuple[float, float], ...]:
    """Phi as points: at 0 and at every knot that bends it; rounded, it might not be convex.

    Args:
        weights: `(knots,)` of `hinges`.

    Example:
        >>> curve_of(np.where(KNOTS == 0.5, 0.4, 0.0))
        ((0.0, 0.2), (0.5, 0.0))
    """
    bends = KNOTS[weights > 1e-6]
    at = np.array([0.0, *bends])
    values = np.maximum(0.0, KNOTS - at[:, None]) @ weights
    return tuple((float(c), float(v)) for c, v in zip(at, values, strict=True))


def exponential_curve(weight: float, scale: float) -> tuple[tuple[float, float], ...]:
    """The same of an exponential: at 0 and at every knot, straight between them.

    Example:
        >>> curve = exponential_curve(0.2, 0.1)
        >>> round(curve[0][1], 4), curve[-1]
        (0.2, (1.0, 0.0))
    """
    at = np.array([0.0, *KNOTS])
    values = weight * (np.exp(-at / scale) - np.exp(-1 / scale))
    return tuple((float(c), float(v)) for c, v in zip(at, values, strict=True))


def classes(evidence: Sequence[Evidence]) -> FloatArray:
    """A curve of the coverage of classes."""
    return np.array([hinges(e.taught) for e in evidence])


def clusters(evidence: Sequence[Evidence]) -> FloatArray:
    """A curve of the coverage of clusters of inputs."""
    return np.array([hinges(e.clusters) for e in evidence])


def share(evidence: Sequence[Evidence]) -> FloatArray:
    """A curve of the share of examples: coverage with one class."""
    return np.array([hinges(_whole(e)) for e in evidence])


def worst(evidence: Sequence[Evidence]) -> FloatArray:
    """A curve of the coverage of the class that is covered least."""
    least = (
        Covered(e.taught.share[e.taught.weights > 0].min(keepdims=True), _ONE) for e in evidence
    )
    return np.array([hinges(covered) for covered in least])


def distance(evidence: Sequence[Evidence]) -> FloatArray:
    """The distance of the labels of QAT from the population's."""
    return np.array([[e.distance] for e in evidence])


def exponential(scale: float) -> Columns:
    """sum_c g_c exp(-coverage_c / scale), less what it is where all is covered."""

    def columns(evidence: Sequence[Evidence]) -> FloatArray:
        values = (
            [e.taught.weights @ np.exp(-e.taught.share / scale) - np.exp(-1 / scale)]
            for e in evidence
        )
        return np.array(list(values))

    return columns


def unevenness(evidence: Sequence[Evidence]) -> FloatArray:
    """sum_c g_c max(0, share - coverage_c): how far classes lag behind the share on QAT.

    Nothing where nobody or everybody does QAT; convex in who does.
    """
    lags = (np.maximum(0.0, e.share - e.taught.share) @ e.taught.weights for e in evidence)
    return np.array(list(lags))[:, None]


def interaction(evidence: Sequence[Evidence]) -> FloatArray:
    """A curve of the coverage of classes that counts the more, the less is on QAT in all."""
    without = np.array([[1 - e.share] for e in evidence])
    return np.asarray(classes(evidence) * without)


def prices(evidence: Sequence[Evidence]) -> FloatArray:
    """`(federations, 2)` absent data and wire noise."""
    return np.array([[e.absent, e.noise] for e in evidence])


def absences(evidence: Sequence[Evidence]) -> FloatArray:
    """A curve of what is present of the classes, beside absent data and wire noise."""
    return np.hstack([prices(evidence), np.array([hinges(e.present) for e in evidence])])


_ONE = np.ones(1)


def _whole(evidence: Evidence) -> Covered:
    return Covered(np.array([evidence.share]), _ONE)
