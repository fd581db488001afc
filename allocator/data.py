"""Data analysis: label skew, wire noise and absent data turned into predicted loss (section 3).

The numbers in `fitted.json` are fitted by `fedhq study validity` to federations of four data sets,
and applied unchanged elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import ArrayLike

from .arrays import FloatArray, freeze, freeze_counts
from .strategy import Strategy

_FLOAT_BITS = 32

RESTING = 0.52
"""A `skip_memory` as fitted by `python -m fedhq.studies.schedules`; see its record.

No default: `FittedLoss` and `fitted.json` have 0, and `allocation.resting` asks for this one.
"""


@dataclass(frozen=True)
class FittedLoss:
    """What the loss model was fitted to.

    Args:
        loss_curve: phi as points (coverage, loss); see `Coverage`.
        skip_price: Loss per share of the cohort's examples that skip, beside lost coverage.
        wire_price: Loss per unit of `wire_noise`, by share of examples.
        rule_loss: The default rule takes the fastest point within this loss of the best.
        origin: How, on what and when it was fitted.
        skip_memory: How much of a client's data the weights still hold a round later, in [0, 1):
            the price of its `a`-th absence in a row is `1 - skip_memory ** a` of the skip price, so
            that who just took part may rest. 0 charges every absence alike; `RESTING` was fitted,
            but has to be asked for.
        unevenness_price: Loss per unit of unevenness; see `Coverage`.

    Raises:
        ValueError: If `0 <= skip_memory < 1` or `unevenness_price >= 0` does not hold.
    """

    loss_curve: tuple[tuple[float, float], ...]
    skip_price: float
    wire_price: float
    rule_loss: float
    origin: str
    skip_memory: float = 0.0
    unevenness_price: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.skip_memory < 1:
            raise ValueError(f"`0 <= skip_memory < 1` must hold, but got {self.skip_memory}.")
        freeze("unevenness_price", self.unevenness_price, ())


@cache
def fitted_loss() -> FittedLoss:
    """The fit that ships with fedhq.

    Example:
        >>> fitted_loss().loss_curve[0][0]
        0.0
    """
    text = resources.files(__package__).joinpath("fitted.json").read_text(encoding="utf-8")
    content = json.loads(text)
    return FittedLoss(
        loss_curve=tuple((float(c), float(v)) for c, v in content["loss_curve"]),
        skip_price=float(content["skip_price"]),
        wire_price=float(content["wire_price"]),
        rule_loss=float(content["rule_loss"]),
        origin=str(content["origin"]),
        skip_memory=float(content.get("skip_memory", 0.0)),
        unevenness_price=float(content.get("unevenness_price", 0.0)),
    )


def label_shares(label_counts: ArrayLike) -> FloatArray:
    """`(clients, classes)` each client's own label distribution; uniform for an empty client.

    Raises:
        ValueError: If the counts are no matrix with a class, or negative or not finite.

    Example:
        >>> label_shares([[3, 1], [0, 0]])
        array([[0.75, 0.25],
               [0.5 , 0.5 ]])
    """
    counts = freeze_counts(label_counts)
    totals = counts.sum(axis=1, keepdims=True)
    even = np.full_like(counts, 1 / counts.shape[1])
    return np.where(totals > 0, counts / np.where(totals > 0, totals, 1.0), even)


def normalised_entropy(label_counts: ArrayLike) -> FloatArray:
    """`(clients,)` entropy of the labels over `log classes`: 1 is even, 0 is a single class.

    Where there is but one class at all, nothing is skewed: 1.

    Example:
        >>> normalised_entropy([[5, 5], [9, 0]])
        array([1., 0.])
    """
    shares = label_shares(label_counts)
    if shares.shape[1] == 1:
        return np.ones(len(shares))
    logs = np.log(np.where(shares > 0, shares, 1.0))
    entropy: FloatArray = np.abs((shares * logs).sum(axis=1))
    return np.asarray(entropy / np.log(shares.shape[1]))


def total_variation(label_counts: ArrayLike, population: ArrayLike | None = None) -> FloatArray:
    """`(clients,)` half the absolute distance of a client's labels from the population's.

    Args:
        label_counts: `(clients, classes)`.
        population: `(classes,)` examples in the whole fleet; the clients' sums where None.

    Example:
        >>> total_variation([[4, 0], [0, 4]])
        array([0.5, 0.5])
    """
    shares = label_shares(label_counts)
    whole = np.sum(label_counts, axis=0) if population is None else population
    return np.asarray(np.abs(shares - _distribution(whole)).sum(axis=1) / 2)


def hellinger(label_counts: ArrayLike) -> FloatArray:
    """`(clients,)` Hellinger distance of a client's labels from the population's.

    Example:
        >>> hellinger([[2, 2], [2, 2]])
        array([0., 0.])
    """
    shares = label_shares(label_counts)
    overlap = np.sqrt(shares * _distribution(np.sum(label_counts, axis=0))).sum(axis=1)
    distance: FloatArray = np.sqrt(np.maximum(0.0, 1.0 - overlap))
    return distance


def _distribution(population: ArrayLike) -> FloatArray:
    """`(classes,)` shares of the classes; even without any example."""
    return np.asarray(label_shares(np.asarray(population)[None])[0])


def wire_noise(menu: Sequence[Strategy]) -> FloatArray:
    """`(strategies,)` noise power of stochastic rounding, over the row's largest value squared.

    A step is the largest value over `2 ** (bits - 1) - 1`, and the error's variance grows with the
    step squared (facts A1, symmetric form); 0 for floats and skip.

    Example:
        >>> from fedhq.allocator import parse_menu
        >>> wire_noise(parse_menu(["skip", "fp32", "ptq-w2a2-u2", "qat-w2a2"])).round(4)
        array([0.    , 0.    , 1.    , 0.0204])
    """
    noisy = [0 < s.wire_bits < _FLOAT_BITS for s in menu]
    return np.array(
        [
            1.0 / (2 ** (s.wire_bits - 1) - 1) ** 2 if n else 0.0
            for s, n in zip(menu, noisy, strict=True)
        ]
    )


def separable_loss(
    menu: Sequence[Strategy],
    example_shares: ArrayLike,
    fitted: FittedLoss,
    absent_rounds: ArrayLike = 0,
) -> FloatArray:
    """`(clients, strategies)` the loss that coverage does not hold: absent data and wire noise.

    Args:
        menu: The strategies.
        example_shares: `(clients,)` each client's share of the cohort's examples.
        fitted: The prices.
        absent_rounds: `(clients,)` rounds that each was absent lately, up to this one.

    Example:
        >>> from fedhq.allocator import parse_menu
        >>> prices = FittedLoss(((0, 0),), 0.5, 0.0, 0.01, "by hand")
        >>> separable_loss(parse_menu(["skip", "fp32"]), [0.2, 0.8], prices)
        array([[0.1, 0. ],
               [0.4, 0. ]])
    """
    shares = np.asarray(example_shares, dtype=np.float64)
    skips = np.array([float(s.is_skip) for s in menu])
    missed = 1.0 - fitted.skip_memory ** (np.asarray(absent_rounds, dtype=np.float64) + 1.0)
    absence = shares * missed * fitted.skip_price
    return np.outer(absence, skips) + np.outer(shares, fitted.wire_price * wire_noise(menu))
