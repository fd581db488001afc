"""The models of the loss that are compared, from the simplest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from ...allocator.arrays import BoolArray, FloatArray
from . import terms
from .evidence import Evidence
from .terms import Columns

SCALES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
"""Of exponentials of coverage; that is kept which explains best."""


@dataclass(frozen=True)
class LossModel:
    """A loss that is linear in its terms, with weights >= 0.

    Args:
        name: For tables.
        tells: What a client must tell.
        data: Terms of which data are taught; of several, that is kept which explains best what the
            model is fitted to.
        prices: Terms of absent data and wire noise.
        in_program: Whether the solvers take it as it is.
    """

    name: str
    tells: str
    data: tuple[tuple[Columns, ...], ...]
    prices: Columns = terms.prices
    in_program: bool = True


@dataclass(frozen=True, eq=False)
class Tables:
    """The terms of a model for some federations, ready to be fitted to parts of them.

    Args:
        model: Whose.
        data: `(federations, columns)` for each alternative.
        prices: `(federations, columns)`.
    """

    model: LossModel
    data: tuple[FloatArray, ...]
    prices: FloatArray

    @classmethod
    def of(cls, model: LossModel, evidence: Sequence[Evidence]) -> Tables:
        """Works out all terms."""
        data = tuple(
            np.hstack([columns(evidence) for columns in alternative]) for alternative in model.data
        )
        return cls(model, data, model.prices(evidence))

    def fit(
        self, losses: FloatArray, row_weights: FloatArray, scale: FloatArray, rows: BoolArray
    ) -> Fit:
        """Least squares on some of the federations.

        Args:
            losses: `(federations,)`.
            row_weights: `(federations,)` of squared errors.
            scale: `(federations,)` what terms of data are multiplied by: ones, or the gap between
                all-PTQ and all-QAT where it is known.
            rows: `(federations,)` which to fit to.
        """
        root = np.sqrt(row_weights[rows])
        fits = []
        for number, data in enumerate(self.data):
            columns = np.hstack([data * scale[:, None], self.prices])[rows]
            weights, error = optimize.nnls(columns * root[:, None], losses[rows] * root)
            fits.append((float(error), number, np.asarray(weights)))
        _, number, weights = min(fits, key=lambda fit: fit[:2])
        return Fit(self, number, weights)


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted model.

    Args:
        tables: What it was fitted to.
        alternative: Which of the model's alternatives explained best.
        weights: `(columns,)` of its data terms, then of its prices.
    """

    tables: Tables
    alternative: int
    weights: FloatArray

    def predict(self, scale: FloatArray) -> FloatArray:
        """`(federations,)` losses, also of those it was not fitted to."""
        data = self.tables.data[self.alternative] * scale[:, None]
        return np.asarray(np.hstack([data, self.tables.prices]) @ self.weights)

    @property
    def slopes(self) -> FloatArray:
        """`(federations,)` by how much a prediction rises with the scale: prices have no part."""
        data = self.tables.data[self.alternative]
        return np.asarray(data @ self.weights[: data.shape[1]])


_NOTHING, _LABELS, _CLUSTERS = "number of examples", "label counts", "counts of clusters"

SHARE = LossModel("share, fitted curve", _NOTHING, ((terms.share,),))
UNEVEN = LossModel(
    "share and unevenness", _LABELS, ((terms.share, terms.unevenness),), in_program=False
)
COVERAGE = LossModel("coverage, fitted curve", _LABELS, ((terms.classes,),))
CLUSTERS = LossModel("coverage of clusters, fitted curve", _CLUSTERS, ((terms.clusters,),))
ABSENCE = LossModel(
    "coverage, absence by class", _LABELS, ((terms.classes,),), terms.absences, in_program=False
)
LAGGING = LossModel("coverage and unevenness", _LABELS, ((terms.classes, terms.unevenness),))
EXPONENTIAL = LossModel(
    "coverage, fitted exponential", _LABELS, tuple((terms.exponential(s),) for s in SCALES)
)
INTERACTIONS = (
    UNEVEN,
    LAGGING,
    LossModel("coverage and share", _LABELS, ((terms.classes, terms.share),), in_program=False),
    LossModel(
        "coverage times share", _LABELS, ((terms.classes, terms.interaction),), in_program=False
    ),
)
CANDIDATES = (  # the simplest first
    SHARE,
    EXPONENTIAL,
    COVERAGE,
    CLUSTERS,
    LossModel("label distance", _LABELS, ((terms.distance,),), in_program=False),
    LossModel("coverage of the worst class", _LABELS, ((terms.worst,),), in_program=False),
    *INTERACTIONS,
    ABSENCE,
)
