"""Fine-grained adjustment of the loss: learns how much quantization hurts from measured gaps.

The gap between the float model's accuracy and that of the same weights as deployed is explained by

    gap = base + sum_k weight_k sum_c g_c max(0, knot_k - coverage_c),    all weight_k >= 0

whose sum is phi of the program. `fitted_loss` is the prior: of all knots together one number, "how
much does quantization hurt here", is uncertain; single knots may differ a little; a last knot at
full coverage takes what the curve cannot explain. `base` is what no coverage mends: what rounding
costs after all. Measured (`studies.gaps`): it does not depend on how accurate the float model
already is, so gaps of early rounds count like those of late ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import FloatArray, freeze
from ..goal import ServerAccuracy
from .hinges import Hinges

SCALE_SPREAD = 0.5
"""Standard deviation of the factor on the whole curve; `studies.gaps` found 0.2 to 1."""

KNOT_SPREAD = 0.3
"""Standard deviation of each knot's own factor."""

TAIL_SPREAD = 0.1
"""Standard deviation of the loss per coverage that is missing to 1, where the curve has no more."""

BASE_SPREAD = 0.04
"""Standard deviation of the gap at full coverage."""

ROUND_SPREAD = 0.05
"""Standard deviation of a round's gap around the mean of rounds like it."""

FADING = 0.95
"""What an evaluation still counts after the next one."""

REFUTED = 2.0
"""Standard deviations beyond which the evidence is taken to refute a curve."""

KEPT = 60
"""Newest evaluations that are kept; the next would count for 4 %."""

_CLIP = 1.5  # standard deviations beyond which an evaluation only votes for a direction
_TURNS = 8


@dataclass(frozen=True, eq=False)
class Posterior:
    """What is known of the weights.

    Args:
        mean: `(knots,)`.
        covariance: `(knots, knots)`.
    """

    mean: FloatArray
    covariance: FloatArray

    def distance(self, weights: FloatArray) -> float:
        """Standard deviations from the mean to some weights."""
        off = weights - self.mean
        return float(np.sqrt(max(float(off @ np.linalg.solve(self.covariance, off)), 0.0)))

    def nearest(self, weights: FloatArray) -> FloatArray:
        """Of the weights that the evidence does not refute, those towards the given ones."""
        distance = self.distance(weights)
        if distance <= REFUTED:
            return weights
        return np.asarray(self.mean + (weights - self.mean) * (REFUTED / distance))

    def deviation(self, direction: FloatArray) -> FloatArray:
        """`(knots,)` one standard deviation of `direction @ weights`, as a move of the weights."""
        moved = self.covariance @ direction
        return np.asarray(moved / np.sqrt(max(float(direction @ moved), np.finfo(float).tiny)))


class LossModel:
    """Learns phi, the curve of the coverage term; deterministic, and robust.

    What is planned with is the curve nearest to the fitted one that the evidence does not refute:
    as long as gaps are as fitted, or too noisy to tell, plans stay those of the fitted curve, byte
    for byte. One wrong evaluation is outvoted, old ones fade.

    Args:
        curve: `(points, 2)` the fitted phi: (coverage, loss), see `Coverage`.

    References:
        M. West, J. Harrison, "Bayesian Forecasting and Dynamic Models", 1997 (discounting);
        P. Huber, "Robust estimation of a location parameter", Ann. Math. Statist., 1964.

    Example:
        >>> model = LossModel([[0.0, 0.2], [0.5, 0.0]])
        >>> model.curve().tolist()
        [[0.0, 0.2], [0.5, 0.0]]
        >>> for _ in range(20):  # nobody teaches, and still next to nothing is lost
        ...     model.observe([0.0], [1.0], ServerAccuracy(0.89, 0.9, 200))
        >>> bool(model.curve()[0, 1] < 0.15)
        True
    """

    def __init__(self, curve: ArrayLike) -> None:
        self._hinges = Hinges.of(curve)
        size = len(self._hinges.knots)
        self._below: FloatArray = np.zeros((0, size))
        self._gap: FloatArray = np.zeros(0)
        self._sampling: FloatArray = np.zeros(0)
        self._fitted: Posterior | None = None

    def __len__(self) -> int:
        """Evaluations that still count."""
        return len(self._gap)

    def observe(
        self, covered: ArrayLike, class_weights: ArrayLike, accuracy: ServerAccuracy
    ) -> None:
        """Takes in an evaluation.

        Args:
            covered: `(classes,)` coverage that the evaluated weights were trained with.
            class_weights: `(classes,)` distribution of the population.
            accuracy: What was measured.
        """
        below = self._hinges.below(np.asarray(covered, dtype=np.float64)) @ np.asarray(
            class_weights, dtype=np.float64
        )
        self._below = np.concatenate([self._below, below[None]])[-KEPT:]
        self._gap = np.append(self._gap, accuracy.gap)[-KEPT:]
        self._sampling = np.append(self._sampling, accuracy.gap_variance)[-KEPT:]
        self._fitted = None

    def posterior(self) -> Posterior:
        """What the evaluations say of the weights; the prior where there is none."""
        if self._fitted is None:
            self._fitted = self._fit()
        return self._fitted

    def curve(self, explore: float = 0.0) -> FloatArray:
        """`(points, 2)` the curve to plan with; convex and decreasing.

        Args:
            explore: Standard errors of phi(0) by which quantization is taken to hurt less, once
                gaps are measured: how much less it hurts shows only where fewer clients teach.
        """
        if not len(self):
            return self._hinges.curve
        weights = self.posterior().nearest(self._hinges.weights)
        if explore:
            weights = weights - explore * self.posterior().deviation(self._hinges.knots)
        return self._hinges.with_weights(weights)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep, ready for JSON."""
        return {
            "knots": self._hinges.knots.tolist(),
            "below": self._below.tolist(),
            "gap": self._gap.tolist(),
            "sampling": self._sampling.tolist(),
        }

    def loaded(self, state: Mapping[str, Any] | None) -> LossModel:
        """The model of a saved state; without evaluations where there is none.

        What was saved with another fitted curve says nothing of this one's knots: it is left out.

        Raises:
            ValueError: If it is no such state.
        """
        model, knots = LossModel(self._hinges.curve), self._hinges.knots
        if state is not None and state["knots"] == knots.tolist():
            rounds = len(state["gap"])
            below = np.reshape(np.array(state["below"], dtype=np.float64), (-1, len(knots)))
            model._below = freeze("below", below, (rounds, len(knots)))
            model._gap = np.array(state["gap"], dtype=np.float64)
            model._sampling = freeze("sampling", state["sampling"], (rounds,))
        return model

    def _fit(self) -> Posterior:
        """Bayesian linear regression of the gaps on base and knots, with Huber's weights."""
        mean = np.append(0.0, self._hinges.weights)
        precision = np.linalg.inv(self._prior())
        design = np.column_stack([np.ones(len(self)), self._below])
        variance = ROUND_SPREAD**2 + self._sampling
        counts = FADING ** np.arange(len(self))[::-1] / variance
        left = self._gap - design @ mean
        trust, found = np.ones(len(self)), mean
        for _ in range(_TURNS):
            weighted = design * (counts * trust)[:, None]
            inverse = np.linalg.inv(precision + weighted.T @ design)
            found = mean + inverse @ (weighted.T @ left)
            off = np.abs(self._gap - design @ found) / np.sqrt(variance)
            trust = 1.0 / np.maximum(off / _CLIP, 1.0)
        return Posterior(found[1:], (inverse[1:, 1:] + inverse[1:, 1:].T) / 2)

    def _prior(self) -> FloatArray:
        """Covariance of base and weights before any evaluation."""
        weights = self._hinges.weights
        covariance = np.zeros((len(weights) + 1, len(weights) + 1))
        covariance[0, 0] = BASE_SPREAD**2
        own = np.where(weights > 0, KNOT_SPREAD * weights, TAIL_SPREAD)
        covariance[1:, 1:] = SCALE_SPREAD**2 * np.outer(weights, weights) + np.diag(own**2)
        return covariance
