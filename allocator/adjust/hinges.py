"""A convex, decreasing, piecewise linear curve as a sum of hinges: all that a curve can be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import FloatArray, freeze
from ..coverage import check_curve

_NO_BEND = 1e-9  # change of slope below which a point bends nothing


@dataclass(frozen=True, eq=False)
class Hinges:
    """`phi(coverage) = rest + sum_k weights_k max(0, knots_k - coverage)`, weights >= 0.

    Args:
        curve: `(points, 2)` (coverage, loss) that it was made of.
        knots: `(knots,)` rising; the last is at least 1, full coverage.
        weights: `(knots,)` by how much the slope rises there; 0 at full coverage if the curve ends
            before.
        rest: The loss at full coverage.
    """

    curve: FloatArray
    knots: FloatArray
    weights: FloatArray
    rest: float

    @classmethod
    def of(cls, curve: ArrayLike) -> Hinges:
        """Those of a curve.

        Raises:
            ValueError: If it is none; see `Coverage`.

        Example:
            >>> hinges = Hinges.of([[0.0, 0.4], [0.2, 0.1], [0.5, 0.0]])
            >>> hinges.knots.tolist(), hinges.weights.round(3).tolist()
            ([0.2, 0.5, 1.0], [1.167, 0.333, 0.0])
        """
        points = check_curve(curve)
        slopes = np.append(np.diff(points[:, 1]) / np.diff(points[:, 0]), 0.0)
        bends = np.maximum(np.diff(slopes), 0.0)
        kept = bends > _NO_BEND
        knots, weights = points[1:, 0][kept], bends[kept]
        if knots.max(initial=0.0) < 1.0:
            knots, weights = np.append(knots, 1.0), np.append(weights, 0.0)
        return cls(points, knots, weights, float(points[-1, 1]))

    def below(self, covered: FloatArray) -> FloatArray:
        """`(knots, classes)` by how much each class's coverage is below each knot."""
        return np.maximum(0.0, self.knots[:, None] - covered)

    def with_weights(self, weights: FloatArray) -> FloatArray:
        """`(points, 2)` the curve of other weights; negative ones count as 0.

        Example:
            >>> hinges = Hinges.of([[0.0, 0.4], [0.5, 0.0]])
            >>> hinges.with_weights(np.array([0.4, 0.1])).round(3).tolist()
            [[0.0, 0.3], [0.5, 0.05], [1.0, 0.0]]
        """
        if np.array_equal(weights, self.weights):
            return self.curve
        bent = np.where(weights > _NO_BEND, weights, 0.0)
        at = np.append(0.0, self.knots[bent > 0])
        loss = self.rest + np.maximum(0.0, self.knots - at[:, None]) @ bent
        return freeze("loss_curve", np.column_stack([at, loss]), (len(at), 2))
