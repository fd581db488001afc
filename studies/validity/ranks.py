"""Rank correlations of predicted and measured losses, with intervals over seeds and allocations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ...allocator.arrays import BoolArray, FloatArray, IntArray
from .drawing import Kind
from .evidence import MIXED, Cell, Evidence
from .grid import Setting
from .left_out import Fold, Predictions
from .models import CANDIDATES, LossModel

_RESAMPLES = 500
_TAILS = (2.5, 97.5)
_DIGITS = 9  # what differs less is equal


@dataclass(frozen=True)
class Interval:
    """A mean and where 95 of 100 resamples lie.

    Example:
        >>> print(Interval(0.5, -0.1, 0.9))
        .50 [-.10, .90]
    """

    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies on one side of zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    def __str__(self) -> str:
        if np.isnan(self.mean):
            return "-"
        return f"{short(self.mean)} [{short(self.low)}, {short(self.high)}]"


def short(value: float, digits: int = 2) -> str:
    """A number without the zero before its point.

    Example:
        >>> short(-0.5), short(1.0), short(0.034, 3)
        ('-.50', '1.00', '.034')
    """
    if np.isnan(value):
        return "-"
    text = f"{value + 0.0:.{digits}f}"
    if not float(text):
        text = f"{0:.{digits}f}"  # no zero is negative
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


@dataclass(frozen=True, eq=False)
class Ranks:
    """Rank correlations, by setting: of all that was measured, and of resamples of it.

    A resample draws seeds with replacement and in each seed allocations by their numbers, the same
    in all settings and for all models: they share data, so they are no independent evidence.

    Args:
        settings: In their order.
        once: By model, fold: `(settings,)` means over seeds.
        resampled: By model, fold: `(resamples, settings)`.
    """

    settings: tuple[Setting, ...]
    once: dict[tuple[str, Fold], FloatArray]
    resampled: dict[tuple[str, Fold], FloatArray]

    @classmethod
    def of(
        cls,
        predictions: Predictions,
        kinds: Sequence[Kind] = MIXED,
        folds: Sequence[Fold] = (*Fold,),
    ) -> Ranks:
        """Of the allocations of some kinds, each counted once."""
        cells = predictions.cells
        settings = tuple(dict.fromkeys(cell.setting for cell in cells))
        rows = rows_of(cells, kinds)
        draws = Resamples.of(sorted({c.seed for c in cells}), len(rows[0]))
        once, resampled = {}, {}
        measured = [
            Ranked.of(predictions.losses[r], draws.places[cell.seed])
            for r, cell in zip(rows, cells, strict=True)
        ]
        for model in CANDIDATES:
            for fold in folds:
                predicted = predictions.of(model, fold)
                found = [
                    Ranked.of(predicted[r], draws.places[cell.seed]).correlation(losses)
                    for r, cell, losses in zip(rows, cells, measured, strict=True)
                ]
                by_setting = [mean_over_seeds(cells, found, s, draws) for s in settings]
                once[model.name, fold] = np.array([values[0] for values in by_setting])
                resampled[model.name, fold] = np.array([values[1:] for values in by_setting]).T
        return cls(settings, once, resampled)

    def mean(self, model: LossModel, fold: Fold, among: BoolArray) -> Interval:
        """Over some of the settings."""
        key = model.name, fold
        return interval(self.once[key][among], self.resampled[key][:, among])

    def difference(
        self, model: LossModel, other: LossModel, fold: Fold, among: BoolArray
    ) -> Interval:
        """By how much a model does better than another, in the same resamples."""
        a, b = (model.name, fold), (other.name, fold)
        return interval(
            (self.once[a] - self.once[b])[among],
            (self.resampled[a] - self.resampled[b])[:, among],
        )

    def of_setting(self, model: LossModel, fold: Fold, setting: Setting) -> Interval:
        """In one setting."""
        return self.mean(model, fold, np.array([s == setting for s in self.settings]))


@dataclass(frozen=True, eq=False)
class Resamples:
    """Which seeds and allocations each resample draws.

    Args:
        times: By seed: `(resamples,)` how often.
        places: By seed: `(resamples, allocations)` which.
    """

    times: dict[int, IntArray]
    places: dict[int, IntArray]

    @property
    def count(self) -> int:
        """Resamples."""
        return _RESAMPLES

    @classmethod
    def of(cls, seeds: Sequence[int], allocations: int) -> Resamples:
        """Draws them."""
        rng = np.random.default_rng(0)
        even = np.full(len(seeds), 1 / len(seeds))
        times = rng.multinomial(len(seeds), even, _RESAMPLES)
        places = rng.integers(allocations, size=(len(seeds), _RESAMPLES, allocations))
        return cls(
            {seed: times[:, k] for k, seed in enumerate(seeds)},
            {seed: places[k] for k, seed in enumerate(seeds)},
        )


def rows_of(cells: Sequence[Cell], kinds: Sequence[Kind] = MIXED) -> list[IntArray]:
    """For every cell the places of its allocations of some kinds, without repeats."""

    def counts(evidence: Evidence) -> bool:
        return evidence.trial.drawn.kind in kinds and not evidence.trial.repeat

    rows, start = [], 0
    for cell in cells:
        rows.append(start + np.flatnonzero([counts(e) for e in cell.evidence]))
        start += len(cell.evidence)
    return rows


@dataclass(frozen=True, eq=False)
class Ranked:
    """Ranks of some values, and of their resamples.

    Args:
        ranks: `(1 + resamples, values)` less their means; NaN where a value is.
    """

    ranks: FloatArray

    @classmethod
    def of(cls, values: FloatArray, places: IntArray) -> Ranked:
        """Of values, and of these at `(resamples, values)` places; equals share a rank.

        Example:
            >>> order = np.array([[0, 1, 2]])
            >>> a = Ranked.of(np.array([1.0, 2, 4]), order)
            >>> a.correlation(Ranked.of(np.array([0.1, 0.3, 0.2]), order))
            array([0.5, 0.5])
        """
        whole = np.vstack([np.arange(len(values)), places])
        ranks = stats.rankdata(values.round(_DIGITS)[whole], axis=1)
        return cls(ranks - ranks.mean(axis=1, keepdims=True))

    def correlation(self, other: Ranked) -> FloatArray:
        """`(1 + resamples,)` rank correlations; 0 where all values of one are equal."""
        size = np.sqrt((self.ranks**2).sum(axis=1) * (other.ranks**2).sum(axis=1))
        products = (self.ranks * other.ranks).sum(axis=1)
        return np.asarray(np.where(size == 0, 0.0, products / np.where(size == 0, 1.0, size)))


def mean_over_seeds(
    cells: Sequence[Cell], found: Sequence[FloatArray], setting: Setting, draws: Resamples
) -> FloatArray:
    """`(1 + resamples,)` means over the seeds of a setting, as often as each is drawn."""
    own = [(c.seed, f) for c, f in zip(cells, found, strict=True) if c.setting == setting]
    times = np.array([[1, *draws.times[seed]] for seed, _ in own], dtype=float)
    total = times.sum(axis=0)
    values = np.array([values for _, values in own])
    return np.asarray((times * values).sum(axis=0) / np.where(total > 0, total, np.nan))


def interval(once: FloatArray, resampled: FloatArray) -> Interval:
    """Of `(settings,)` values and `(resamples, settings)` of resamples, each averaged."""
    seen = resampled[~np.isnan(resampled).all(axis=1)]
    if not seen.size:
        return Interval(np.nan, np.nan, np.nan)
    low, high = np.percentile(np.nanmean(seen, axis=1), _TAILS)
    return Interval(float(np.nanmean(once)), float(low), float(high))
