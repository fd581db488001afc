"""Recency: how much of what a round did the last weights still hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import FloatArray

_FORGETTING = 0.18  # by an earlier curve; what fits now: `python -m fedhq.studies.schedules`


@dataclass(frozen=True)
class Recency:
    """The weight of every round's loss in the loss of the model that training ends with.

    Each round replaces a share of what the weights hold, so that round t of R still weighs
    `forgetting * (1 - forgetting) ** (R - t)`, scaled to a sum of 1.

    Args:
        forgetting: The share, in (0, 1]; 1 counts nothing but the last round. The default was
            fitted to runs whose learning rate falls as a half cosine.

    Raises:
        ValueError: If it is out of its range.

    Example:
        >>> Recency(0.5).weights(3).round(3)
        array([0.143, 0.286, 0.571])
    """

    forgetting: float = _FORGETTING

    def __post_init__(self) -> None:
        if not 0 < self.forgetting <= 1:
            raise ValueError(
                f"`0 < forgetting <= 1` must hold (a share a round), but got {self.forgetting}. 1 "
                "counts the last round only; less than 0.01 counts a hundred rounds alike."
            )

    def weights(self, rounds: int) -> FloatArray:
        """`(rounds,)` weights of the rounds, the last one last; their sum is 1.

        Raises:
            ValueError: If they are no whole number, or there is none.
        """
        weights = (1.0 - self.forgetting) ** np.arange(check_rounds(rounds))[::-1]
        return np.asarray(weights / weights.sum())

    def after(self, held: FloatArray, new: FloatArray) -> FloatArray:
        """What the weights hold after one more round, of any values."""
        return (1.0 - self.forgetting) * held + self.forgetting * new

    def left(self, held: FloatArray, rounds: int, to_come: int) -> FloatArray:
        """What of held values the last weights will hold, by the measure of `weights`.

        Example:
            >>> recency, held = Recency(0.5), np.zeros(1)
            >>> for taught in (1.0, 0.0):  # two of three rounds
            ...     held = recency.after(held, np.array([taught]))
            >>> recency.left(held, 3, 1).round(3)
            array([0.143])
        """
        kept = 1.0 - self.forgetting
        return np.asarray(held * kept**to_come / (1.0 - kept**rounds))


def check_rounds(rounds: int) -> int:
    """A number of rounds; a `ValueError` unless it is a whole one of at least 1."""
    if isinstance(rounds, bool) or not isinstance(rounds, (int, np.integer)) or rounds < 1:
        raise ValueError(
            f"`rounds >= 1` must hold for a whole number of rounds, but got {rounds!r}."
        )
    return int(rounds)
