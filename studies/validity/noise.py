"""How much chance is in a measured accuracy, and what a perfect model could reach against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ...allocator.arrays import FloatArray
from .evidence import REFERENCES, Cell
from .grid import Setting

_DRAWS = 400
_CLEARLY = 2 * np.sqrt(1 + 1 / 2)  # all-PTQ is trained twice


@dataclass(frozen=True)
class Noise:
    """What a setting allows.

    Args:
        setting: Which.
        seeds: Measured.
        mixed: Allocations with some clients on QAT and the others on PTQ, of all seeds.
        gap: What all-PTQ loses against all-QAT, mean over seeds.
        gap_spread: Standard deviation of it over seeds.
        server_gap: What the server sees of it on its own examples (`Cell.server_gap`), mean.
        noise: Standard deviation of an accuracy over repeats on the same data.
        gap_noise: That of a seed's gap: of the mean of its all-QAT runs less the mean of its
            all-PTQ runs, two each.
        spread: Standard deviation between mixed allocations of a seed, noise included.
        harmed: Part of the mixed allocations that lose more than all-PTQ, by more than two such
            deviations of their difference: where more QAT has hurt.
        ceiling: Rank correlation that a model would have that knows the true accuracies.
    """

    setting: Setting
    seeds: int
    mixed: int
    gap: float
    gap_spread: float
    server_gap: float
    noise: float
    gap_noise: float
    spread: float
    harmed: float
    ceiling: float

    @property
    def has_tradeoff(self) -> bool:
        """Whether allocations differ by more than noise: their true spread exceeds it."""
        return self.spread**2 > 2 * self.noise**2


def noise_of(setting: Setting, cells: Sequence[Cell]) -> Noise:
    """Of all seeds of a setting."""
    own = [cell for cell in cells if cell.setting == setting]
    noise = _of_pairs([cell.pairs_of() for cell in own])
    losses = [np.array([e.loss for e in cell.mixed]) for cell in own]
    spread = float(np.sqrt(np.mean([np.var(found, ddof=1) for found in losses])))
    gaps = [cell.gap for cell in own]
    beyond = [found - cell.gap for found, cell in zip(losses, own, strict=True)]
    return Noise(
        setting=setting,
        seeds=len(own),
        mixed=sum(map(len, losses)),
        gap=float(np.mean(gaps)),
        gap_spread=float(np.std(gaps, ddof=1)) if len(gaps) > 1 else 0.0,
        server_gap=float(np.mean([cell.server_gap for cell in own])),
        noise=noise,
        # half of each variance for a mean of two, and the two halves added: their mean
        gap_noise=_of_pairs([cell.pairs_of(REFERENCES) for cell in own]),
        spread=spread,
        harmed=float(np.mean(np.concatenate(beyond) > _CLEARLY * noise)),
        ceiling=float(np.mean([_ceiling(found, noise) for found in losses])),
    )


def _of_pairs(pairs: Sequence[FloatArray]) -> float:
    """Standard deviation of one of two that should be alike: `(pairs, 2)` each."""
    return float(np.sqrt(np.mean(np.diff(np.concatenate(pairs), axis=1) ** 2) / 2))


def _ceiling(losses: np.ndarray, noise: float) -> float:
    """Mean rank correlation of what may be the true losses with the same and fresh noise.

    The true losses are taken to be the measured ones, drawn together by what noise spread them.
    """
    measured = float(np.var(losses, ddof=1))
    left = np.sqrt(max(measured - noise**2, 0.0) / measured) if measured > 0 else 0.0
    if left == 0:
        return 0.0
    true = losses.mean() + left * (losses - losses.mean())
    noisy = true + noise * np.random.default_rng(0).normal(size=(_DRAWS, len(true)))
    ranks = stats.rankdata(noisy, axis=1)
    return float(np.mean([np.corrcoef(stats.rankdata(true), row)[0, 1] for row in ranks]))
