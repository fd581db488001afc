"""Rules that pick a point of a frontier: `frontier.pick(FastestWithin(loss=0.01))`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import FloatArray, freeze
from .check import exceeds, with_tolerance


@dataclass(frozen=True)
class FastestWithin:
    """The fastest point whose loss is at most that of the most accurate point, plus `loss`.

    Args:
        loss: Fraction of accuracy that one gives up for speed, >= 0.

    Raises:
        ValueError: If `loss` is negative or not finite.

    Example:
        >>> FastestWithin(0.02)(np.array([1., 2., 3.]), np.array([.2, .01, 0.]))
        1
    """

    loss: float

    def __post_init__(self) -> None:
        freeze("loss", self.loss, ())

    def __call__(self, round_seconds: FloatArray, loss: FloatArray, /) -> int:
        """The index of the point."""
        return int(np.argmax(loss <= with_tolerance(float(loss[-1]) + self.loss)))


@dataclass(frozen=True)
class MostAccurateWithin:
    """The point of least loss whose round time is at most `round_seconds`.

    Args:
        round_seconds: The longest round that one accepts.

    Raises:
        ValueError: If `round_seconds` is negative or not finite, or no point is that fast.

    Example:
        >>> MostAccurateWithin(2.5)(np.array([1., 2., 3.]), np.array([.2, .01, 0.]))
        1
    """

    round_seconds: float

    def __post_init__(self) -> None:
        freeze("round_seconds", self.round_seconds, ())

    def __call__(self, round_seconds: FloatArray, loss: FloatArray, /) -> int:
        """The index of the point."""
        if exceeds(float(round_seconds[0]), self.round_seconds):
            raise ValueError(
                f"`round_seconds >= {round_seconds[0]:.6g}` must hold, the fastest point of the "
                f"frontier, but got {self.round_seconds:.6g}. Allow more time."
            )
        return int(np.flatnonzero(round_seconds <= with_tolerance(self.round_seconds))[-1])


@dataclass(frozen=True)
class Knee:
    """The point farthest below the chord from the fastest to the most accurate one.

    Both axes are scaled to [0, 1] first; the fastest point where none lies below the chord.

    References:
        I. Das, "On characterizing the 'knee' of the Pareto curve based on normal-boundary
        intersection", Structural Optimization, 1999.

    Example:
        >>> Knee()(np.array([1., 2., 3.]), np.array([.2, .01, 0.]))
        1
    """

    def __call__(self, round_seconds: FloatArray, loss: FloatArray, /) -> int:
        """The index of the point."""
        if len(loss) == 1:
            return 0
        time = (round_seconds - round_seconds[0]) / (round_seconds[-1] - round_seconds[0])
        height = (loss - loss[-1]) / (loss[0] - loss[-1])
        return int(np.argmax(1.0 - time - height))


@dataclass(frozen=True)
class Tradeoff:
    """The point that minimises `round time + seconds_per_loss * loss`; the fastest of equals.

    Args:
        seconds_per_loss: Seconds that one accepts per unit of loss, > 0.

    Raises:
        ValueError: If it is not a finite number > 0.

    Example:
        >>> Tradeoff(10.0)(np.array([1., 2., 3.]), np.array([.2, .01, 0.]))
        1
    """

    seconds_per_loss: float

    def __post_init__(self) -> None:
        if not freeze("seconds_per_loss", self.seconds_per_loss, ()) > 0:
            raise ValueError("`seconds_per_loss > 0` must hold, but got 0.")

    def __call__(self, round_seconds: FloatArray, loss: FloatArray, /) -> int:
        """The index of the point."""
        return int(np.argmin(round_seconds + self.seconds_per_loss * loss))
