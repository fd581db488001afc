"""Fine-grained adjustment of the loss: learns how much quantization hurts from measured gaps.

The gap between the float model's accuracy and that of the same weights as deployed is explained by

    LOSS_PER_GAP gap = base + price unevenness + sum_k weight_k sum_c g_c max(0, knot_k - cover_c)

with weights >= 0. The sum is phi of the program; the price of unevenness is the fitted one and not
learned: what it explains of a gap is taken off first. `fitted_loss` is the prior: of all knots
together one number, "how much does quantization hurt here", is uncertain; single knots may differ a
little; a last knot at full coverage takes what the curve cannot explain. `base` is what no coverage
mends: what rounding costs after all. A model that has hardly learned has nothing to lose yet: an
evaluation counts by the square of how far its float model is on the way from guessing to perfect.
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

LOSS_PER_GAP = 0.63
"""Deployed accuracy lost against all-QAT, by gap: QAT costs some accuracy in float, which is not
part of a gap. `studies/gaps.md`: 0.21 to 0.77 in twelve settings and seeds, 0.63 on average."""

SCALE_SPREAD = 0.8
"""Standard deviation of the factor on the whole curve; `studies/gaps.md`: 0.13 to 2.9 around 1.6
on digits, where the shipped curve, fitted to four data sets, is too flat."""

KNOT_SPREAD = 0.3
"""Standard deviation of each knot's own factor."""

TAIL_SPREAD = 0.05
"""Standard deviation of the loss per coverage that is missing to 1, beyond the curve's own."""

BASE, BASE_SPREAD = 0.006, 0.01
"""What is lost, by the gap, where the curve says nothing: `studies/gaps.md` has -0.003 to 0.012."""

ROUND_SPREAD = 0.05
"""Standard deviation of what a round's gap says of the loss, around the mean of rounds like it:
`LOSS_PER_GAP` times the 0.073, 0.055 and 0.047 of the thirds of a run (`studies/gaps.md`), and a
little more, since the learned curve is none of those that were fitted."""

FADING = 0.95
"""What an evaluation still counts after the next one."""

REFUTED = 1.5
"""Standard deviations beyond which the evidence is taken to refute a curve."""

KEPT = 60
"""Newest evaluations that are kept; the next would count for 4 %."""

HALFWAY = 0.5
"""On the way from guessing to perfect: from here on a model has something to lose."""

FORGETS_ALL = 0.1
"""Change of coverage or of the population's distribution after which no older evaluation counts."""

_SAVED = {"knots", "below", "gap", "variance", "learned", "missed"}
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
        """Of the weights up to `REFUTED` from the mean, those in a straight line to the given."""
        distance = self.distance(weights)
        if distance <= REFUTED:
            return weights
        return np.asarray(self.mean + (weights - self.mean) * (REFUTED / distance))


class LossModel:
    """Learns phi, the curve of the coverage term; deterministic, and robust.

    What is planned with is the curve nearest to the fitted one that the evidence does not refute:
    as long as gaps are as fitted, or too noisy to tell, plans stay those of the fitted curve, byte
    for byte. One wrong evaluation is outvoted, old ones fade.

    The bound is no confidence interval: the curve moves from the fitted one towards the mean of
    what is known until `REFUTED` = 1.5 standard deviations are left, in the ellipsoid of all
    weights together, so that what is planned with lags behind the evidence on purpose. Where
    evaluations are outvoted, or a weight below 0 is cut to 0, the ellipsoid is an approximation.

    Args:
        curve: `(points, 2)` the fitted phi: (coverage, loss), see `Coverage`.
        unevenness_price: Loss per unit of unevenness that plans count besides, >= 0.

    Raises:
        ValueError: If the curve is none, or the price is negative or not finite.

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

    def __init__(self, curve: ArrayLike, unevenness_price: float = 0.0) -> None:
        self._hinges = Hinges.of(curve)
        self._price = float(freeze("unevenness_price", unevenness_price, ()))
        size = len(self._hinges.knots)
        self._below: FloatArray = np.zeros((0, size))
        self._gap: FloatArray = np.zeros(0)
        self._variance: FloatArray = np.zeros(0)
        self._learned: FloatArray = np.zeros(0)
        self._valid: FloatArray = np.zeros(0)
        self._missed = False
        self._fitted: Posterior | None = None

    def wants_probe(self, evaluations: int) -> bool:
        """Whether more rounds should show what is lost where next to nobody teaches.

        So many evaluations of a model that has something to lose, or twice as many of any. Not once
        a round was not evaluated. What was forgotten since does not bring them again: later rounds
        are evaluated, too, and next to nobody's teaching costs more late in a run.

        Args:
            evaluations: How many are enough.
        """
        telling = int((self._learned >= HALFWAY).sum())
        return not self._missed and telling < evaluations and len(self) < 2 * evaluations

    def __len__(self) -> int:
        """Evaluations that are kept."""
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
        weights = np.asarray(class_weights, dtype=np.float64)
        coverage = np.asarray(covered, dtype=np.float64)
        below = self._hinges.below(coverage) @ weights
        uneven = float(np.maximum(coverage @ weights - coverage, 0.0) @ weights)
        left = LOSS_PER_GAP * accuracy.gap - self._price * uneven
        guessing = min(float(weights.max()), HALFWAY)  # of one class: labels may be withheld
        learned = max((accuracy.in_float - guessing) / (1 - guessing), 0.0)
        variance = ROUND_SPREAD**2 + LOSS_PER_GAP**2 * accuracy.gap_variance
        self._below = np.concatenate([self._below, below[None]])[-KEPT:]
        self._gap = np.append(self._gap, left)[-KEPT:]
        self._variance = np.append(self._variance, variance)[-KEPT:]
        self._learned = np.append(self._learned, learned)[-KEPT:]
        self._valid = np.append(self._valid, 1.0)[-KEPT:]
        self._fitted = None

    def miss(self) -> None:
        """Takes note of a round that was not evaluated."""
        self._missed = True

    def posterior(self) -> Posterior:
        """What the evaluations say of the weights; the prior where there is none."""
        if self._fitted is None:
            self._fitted = self._fit()
        return self._fitted

    def curve(self) -> FloatArray:
        """`(points, 2)` the curve to plan with; convex and decreasing."""
        if not len(self):
            return self._hinges.curve
        return self._hinges.with_weights(self.posterior().nearest(self._hinges.weights))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep, ready for JSON."""
        return {
            "knots": self._hinges.knots.tolist(),
            "unevenness_price": self._price,
            "below": self._below.tolist(),
            "gap": self._gap.tolist(),
            "variance": self._variance.tolist(),
            "learned": self._learned.tolist(),
            "valid": self._valid.tolist(),
            "missed": self._missed,
        }

    def forget(self, change: float) -> None:
        """Lets what was seen count less, since it was explained by data that are others now.

        In proportion, so that many small changes forget as much as a large one.

        Args:
            change: Of coverage or of the population's distribution, as a fraction; `FORGETS_ALL` or
                more forgets all.
        """
        self._valid = self._valid * max(1.0 - change / FORGETS_ALL, 0.0)
        self._fitted = None

    def loaded(self, state: Mapping[str, Any] | None) -> LossModel:
        """The model of a saved state; one without evaluations where there is none.

        What was saved with another fitted curve or price says nothing of these: it is left out.

        Raises:
            ValueError: If it is no such state.
        """
        model, knots = LossModel(self._hinges.curve, self._price), self._hinges.knots
        if state is None:
            model.miss()
            return model
        if missing := sorted(_SAVED - state.keys()):
            raise ValueError(
                f"a state of a `LossModel` must hold {sorted(_SAVED)}, but {missing} are missing. "
                "Load it into what saved it."
            )
        price = state.get("unevenness_price", 0.0)
        if (state["knots"], price) != (knots.tolist(), self._price):
            model.miss()
            return model
        rounds, width = np.size(state["gap"]), len(knots)
        below = state["below"] if rounds else np.zeros((0, width))
        model._below = freeze("below", below, (rounds, width))[-KEPT:]
        model._gap = _finite("gap", state["gap"])[-KEPT:]
        model._variance = freeze("variance", state["variance"], (rounds,))[-KEPT:]
        if not (model._variance > 0).all():
            raise ValueError(f"`variance > 0` must hold, but got {model._variance.min()}.")
        model._learned = freeze("learned", state["learned"], (rounds,))[-KEPT:]
        model._valid = freeze("valid", state.get("valid", np.ones(rounds)), (rounds,))[-KEPT:]
        model._missed = bool(state["missed"])
        return model

    def _fit(self) -> Posterior:
        """Bayesian linear regression of the gaps on base and knots, with Huber's weights."""
        mean = np.append(BASE, self._hinges.weights)
        precision = np.linalg.inv(self._prior())
        design = np.column_stack([np.ones(len(self)), self._below])
        fading = FADING ** np.arange(len(self))[::-1]
        counts = fading * self._valid * self._learned**2 / self._variance
        left = self._gap - design @ mean
        trust, found = np.ones(len(self)), mean
        for _ in range(_TURNS):
            weighted = design * (counts * trust)[:, None]
            inverse = np.linalg.inv(precision + weighted.T @ design)
            found = mean + inverse @ (weighted.T @ left)
            off = np.abs(self._gap - design @ found) / np.sqrt(self._variance)
            trust = 1.0 / np.maximum(off / _CLIP, 1.0)
        return Posterior(found[1:], (inverse[1:, 1:] + inverse[1:, 1:].T) / 2)

    def _prior(self) -> FloatArray:
        """Covariance of base and weights before any evaluation."""
        weights = self._hinges.weights
        covariance = np.zeros((len(weights) + 1, len(weights) + 1))
        covariance[0, 0] = BASE_SPREAD**2
        own = KNOT_SPREAD * weights
        own[-1] = max(float(own[-1]), TAIL_SPREAD)
        covariance[1:, 1:] = SCALE_SPREAD**2 * np.outer(weights, weights) + np.diag(own**2)
        return covariance


def _finite(name: str, values: ArrayLike) -> FloatArray:
    """`(values,)` numbers of any sign; a `ValueError` unless they are finite."""
    freeze(name, np.abs(np.array(values, dtype=np.float64)), (np.size(values),))
    return np.array(values, dtype=np.float64)
