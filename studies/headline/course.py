"""The course of an arm over its seeds: how accurate it is when, and when it is accurate enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...allocator.arrays import BoolArray, FloatArray, IntArray

TAIL = 3
"""Rounds over which an accuracy is averaged: low bits swing from one to the next."""

_ROUNDING = 1e-12
_DRAWS = 1000
_INSIDE = (2.5, 97.5)  # percentiles


def settle(deployed: FloatArray) -> FloatArray:
    """The mean of each round and those before it, `TAIL` in all.

    At low bits one round is luck: the highest of twenty is above what training comes to.

    Args:
        deployed: `(..., rounds)` accuracies.

    Example:
        >>> settle(np.array([0.3, 0.5, 0.7, 0.6])).round(2).tolist()
        [0.3, 0.4, 0.5, 0.6]
    """
    sums = np.cumsum(deployed, axis=-1)
    sums[..., TAIL:] -= sums[..., :-TAIL].copy()
    return np.asarray(sums / np.minimum(np.arange(1, sums.shape[-1] + 1), TAIL))


def rounds_to(curve: FloatArray, target: float) -> int | None:
    """After how many rounds a curve has settled at a target; None where it never does.

    Args:
        curve: `(rounds,)` accuracies.
        target: The accuracy.

    Example:
        >>> curve = np.array([0.3, 0.9, 0.6])
        >>> rounds_to(curve, 0.6), rounds_to(curve, 0.9)
        (2, None)
    """
    there = np.flatnonzero(settle(curve) >= target - _ROUNDING)
    return int(there[0]) + 1 if len(there) else None


@dataclass(frozen=True, eq=False)
class Course:
    """One arm in one setting.

    Args:
        seconds: `(seeds, rounds)` simulated time at the end of every round.
        deployed: `(seeds, rounds)` accuracy of the deployed model then.
    """

    seconds: FloatArray
    deployed: FloatArray

    @property
    def end(self) -> float:
        """Accuracy at the end, mean over seeds."""
        return float(self.deployed[:, -TAIL:].mean())

    @property
    def settled(self) -> FloatArray:
        """`(seeds, rounds)` accuracy as it counts for targets, see `settle`."""
        return settle(self.deployed)

    def within(self, seconds: FloatArray) -> FloatArray:
        """`(seeds,)` accuracy when some time is over: the mean of the last rounds that are done.

        Args:
            seconds: `(seeds,)` the time.
        """
        rows = []
        for ends, curve, limit in zip(self.seconds, self.deployed, seconds, strict=True):
            done = int((ends <= limit * (1 + 1e-9)).sum())
            rows.append(curve[max(done - TAIL, 0) : done].mean() if done else 0.0)
        return np.array(rows)

    def of(self, seeds: Sequence[int]) -> Course:
        """The course of some of the seeds, by their places."""
        return Course(self.seconds[list(seeds)], self.deployed[list(seeds)])

    def reaches(self, target: float, draws: IntArray) -> Reaches:
        """When curves averaged over seeds and the last rounds first are at a target.

        Args:
            target: The accuracy.
            draws: `(draws, seeds)` how often each seed counts.
        """
        weights = draws / draws.sum(axis=1, keepdims=True)
        times, values = weights @ self.seconds, weights @ self.settled
        is_there = values >= target - _ROUNDING
        reached = is_there.any(axis=1)
        first = np.where(reached, is_there.argmax(axis=1), -1)
        return Reaches(times[np.arange(len(times)), first], reached)


@dataclass(frozen=True, eq=False)
class Reaches:
    """Times to a target, of several draws of seeds.

    Args:
        seconds: `(draws,)` the time; where it was not reached, how long was waited for it.
        reached: `(draws,)` whether it was.
    """

    seconds: FloatArray
    reached: BoolArray


Kind = Literal["=", "<", ">", "?"]


@dataclass(frozen=True)
class Ratio:
    """How much faster one arm is at the target than another, with what a miss leaves open.

    Args:
        value: The ratio of times, or the bound of it; NaN where nothing is known.
        kind: `=`; `<` where the arm missed the target, so that the ratio is below the value; `>`
            where the other did; `?` where both did.
        low: Below which the ratio is in 2.5 % of draws of the seeds.
        high: Above which it is in 2.5 %.
        seeds: `(seeds,)` the ratio of each seed's own curves; 0 where the arm missed the target,
            infinite where the other did, NaN where both did.
    """

    value: float
    kind: Kind
    low: float
    high: float
    seeds: tuple[float, ...]

    @property
    def least(self) -> float:
        """The least that it can be: 0 where the arm missed the target."""
        return self.value if self.kind in "=>" else 0.0

    @property
    def most(self) -> float:
        """The most that it can be."""
        return self.value if self.kind in "=<" else float("inf")

    def __str__(self) -> str:
        if self.kind == "?":
            return "both missed"
        return f"{'' if self.kind == '=' else self.kind + ' '}{self.value:.2f}"


def faster(arm: Course, other: Course, target: float) -> Ratio:
    """Time to the target of another arm over that of an arm, on curves averaged over seeds.

    The spread is that of draws of seeds with replacement, the same for both arms.

    Example:
        >>> times = np.array([[1.0, 2.0, 3.0]])
        >>> arm, other = Course(times, np.array([[0.5, 0.8, 0.8]])), Course(2 * times, times / 4)
        >>> print(faster(arm, other, 0.6), faster(other, arm, 0.6), faster(arm, other, 0.9))
        > 3.00 < 0.33 both missed
    """
    count = len(arm.seconds)
    once = np.ones((1, count), dtype=np.int64)
    own = np.eye(count, dtype=np.int64)
    draws = np.concatenate([once, own, _draws(count)])
    first, second = arm.reaches(target, draws), other.reaches(target, draws)
    ratio = second.seconds / first.seconds
    least = np.where(first.reached, ratio, 0.0)
    most = np.where(second.reached, ratio, np.inf)
    seeds = np.where(first.reached, np.where(second.reached, ratio, np.inf), 0.0)
    seeds = np.where(first.reached | second.reached, seeds, np.nan)
    kinds: dict[tuple[bool, bool], Kind] = {
        (True, True): "=",
        (False, True): "<",
        (True, False): ">",
        (False, False): "?",
    }
    kind = kinds[bool(first.reached[0]), bool(second.reached[0])]
    if count == 1:
        return Ratio(float(ratio[0]), kind, 0.0, float("inf"), tuple(seeds[1:2].tolist()))
    low = float(np.percentile(least[1 + count :], _INSIDE[0], method="lower"))
    high = float(np.percentile(most[1 + count :], _INSIDE[1], method="higher"))
    return Ratio(float(ratio[0]), kind, low, high, tuple(seeds[1 : 1 + count].tolist()))


def _draws(count: int) -> IntArray:
    """`(draws, seeds)` how often each seed is drawn; the same for all arms and settings."""
    rng = np.random.default_rng(count)
    return np.asarray(rng.multinomial(count, [1 / count] * count, size=_DRAWS), dtype=np.int64)


@dataclass(frozen=True)
class Difference:
    """A mean over seeds with its 95 % interval (Student's t).

    Args:
        mean: The mean.
        low: End of the interval; minus infinity of one seed.
        high: Likewise.
        seeds: `(seeds,)` the values.
    """

    mean: float
    low: float
    high: float
    seeds: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Difference:
        """Of paired differences.

        Example:
            >>> d = Difference.of([0.1, 0.2, 0.3])
            >>> round(d.mean, 3), round(d.low, 3), round(d.high, 3)
            (0.2, -0.048, 0.448)
        """
        from scipy import stats

        told, mean = tuple(map(float, values)), float(np.mean(values))
        if len(told) == 1:
            return cls(mean, -float("inf"), float("inf"), told)
        error = float(np.std(told, ddof=1)) / len(told) ** 0.5
        reach = error * float(stats.t.ppf(0.975, len(told) - 1))
        return cls(mean, mean - reach, mean + reach, told)
