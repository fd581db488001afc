"""Performance profiles: how often a solver is within a factor of the fastest.

After Dolan and Moré, "Benchmarking optimization software with performance profiles", Mathematical
Programming 91 (2002). A solver that did not solve a problem took infinitely long. The same curves
over seconds instead of factors say what a time budget buys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ...allocator.arrays import FloatArray
from .judged import Criterion, Judged


@dataclass(frozen=True, eq=False)
class Profile:
    """A rising step function: the share of problems that a solver has solved up to somewhere.

    Args:
        at: `(steps,)` where it rises, rising: a factor of the fastest, or seconds.
        share: `(steps,)` share of the problems from there on.

    Example:
        >>> profile = Profile.of([1.0, np.inf, 3.0, 1.0])
        >>> profile(1.0), profile(2.9), profile(3.0), profile(1e9)
        (0.5, 0.5, 0.75, 0.75)
    """

    at: FloatArray
    share: FloatArray

    @classmethod
    def of(cls, values: ArrayLike) -> Profile:
        """That of one solver.

        Args:
            values: `(problems,)` what each problem took; infinite where it was not solved.
        """
        numbers = np.asarray(values, dtype=float)
        at, counts = np.unique(numbers[np.isfinite(numbers)], return_counts=True)
        share = counts.cumsum() / max(len(numbers), 1)
        at.flags.writeable = share.flags.writeable = False
        return cls(at, share)

    def __call__(self, value: float) -> float:
        """The share solved up to a value, that value included."""
        steps = int(np.searchsorted(self.at, value, side="right"))
        return float(self.share[steps - 1]) if steps else 0.0


def ratios(seconds: FloatArray) -> FloatArray:
    """`(problems, solvers)` times as multiples of the fastest solver's on the same problem.

    Args:
        seconds: `(problems, solvers)` above 0; infinite where a solver did not solve the problem.
            A problem that nobody solved stays infinite for everybody.

    Example:
        >>> ratios(np.array([[1.0, 2.0], [np.inf, 3.0]]))
        array([[ 1.,  2.],
               [inf,  1.]])
    """
    fastest = seconds.min(axis=1, keepdims=True, initial=np.inf)
    return seconds / np.where(np.isfinite(fastest), fastest, 1.0)


@dataclass(frozen=True, eq=False)
class Race:
    """The times of some solvers on the problems that all of them were given.

    Args:
        solvers: Their names.
        seconds: `(problems, solvers)` infinite where a solver did not solve the problem.
        left_out: Problems that not all of them have been measured on.
    """

    solvers: tuple[str, ...]
    seconds: FloatArray
    left_out: int

    @classmethod
    def of(cls, judged: Sequence[Judged], criterion: Criterion) -> Race:
        """That of cells of one time limit.

        Args:
            judged: The cells; those of solvers that are not installed do not count.
            criterion: What counts as solved.
        """
        tried = [j for j in judged if j.cell.outcome != "missing"]
        solvers = tuple(dict.fromkeys(j.cell.solver for j in tried))
        rows: dict[str, dict[str, float]] = {}
        for j in tried:
            took = j.cell.seconds["total"] if j.meets(criterion) else np.inf
            rows.setdefault(j.cell.problem, {})[j.cell.solver] = took
        whole = [[row[s] for s in solvers] for row in rows.values() if len(row) == len(solvers)]
        seconds = np.array(whole, dtype=float).reshape(-1, len(solvers))
        return cls(solvers, seconds, len(rows) - len(whole))

    def performance_profiles(self) -> tuple[Profile, ...]:
        """One a solver, over factors of the fastest."""
        return tuple(Profile.of(column) for column in ratios(self.seconds).T)

    def time_profiles(self) -> tuple[Profile, ...]:
        """One a solver, over seconds."""
        return tuple(Profile.of(column) for column in self.seconds.T)
