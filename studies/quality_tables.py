"""What the accuracy study found: results, paired differences, and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..allocator.arrays import FloatArray
from .quality_arms import Arm
from .quality_trials import Cell


@dataclass(frozen=True)
class Result:
    """What an arm reached on a cell.

    Args:
        cell: On what.
        arm: How.
        rate: The chosen learning rate.
        accuracies: Of the deployed model, one for each seed.
    """

    cell: Cell
    arm: Arm
    rate: float
    accuracies: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """Ours less another's, over paired seeds.

    Args:
        mean: Of the accuracies' differences.
        error: Standard error of that mean.

    Example:
        >>> print(Difference(-0.01, 0.004))
        -1.0 ± 0.4 **worse**
    """

    mean: float
    error: float

    @staticmethod
    def of(ours: Result, theirs: Result) -> Difference:
        """Of two results on the same cell and seeds."""
        gaps = np.subtract(ours.accuracies, theirs.accuracies)
        return Difference(float(gaps.mean()), _standard_error(gaps))

    @property
    def holds(self) -> bool:
        """Whether ours is not worse than the other's less one standard error."""
        return self.mean >= -self.error

    def __str__(self) -> str:
        verdict = "" if self.holds else " **worse**"
        return f"{100 * self.mean:+.1f} ± {100 * self.error:.1f}{verdict}"


def _standard_error(values: FloatArray | tuple[float, ...]) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def verdicts(results: Sequence[Result]) -> str:
    """How often each arm of ours is not worse than another's less one standard error."""
    lines = []
    for ours in (arm for arm in Arm if arm.is_ours):
        for name in ("Brevitas", "torchao"):
            found = [
                differences[ours]
                for theirs, differences in _compared(results)
                if theirs.arm.startswith(name)
            ]
            if found:
                held = sum(difference.holds for difference in found)
                mean = 100 * float(np.mean([difference.mean for difference in found]))
                lines.append(
                    f"- {ours}: not worse than {name} less one standard error in {held} of "
                    f"{len(found)} rows; on average {mean:+.2f} points"
                )
    return "\n".join(lines)


def _compared(results: Sequence[Result]) -> list[tuple[Result, dict[Arm, Difference]]]:
    """Each of the others' results, and each of ours on its cell against it."""
    return [
        (
            theirs,
            {
                ours.arm: Difference.of(ours, theirs)
                for ours in results
                if ours.cell == theirs.cell and ours.arm.is_ours
            },
        )
        for theirs in results
        if not theirs.arm.is_ours
    ]


def difference_table(results: Sequence[Result]) -> str:
    """A row for each of the others' results, a column for each arm of ours; points of accuracy."""
    arms = [arm for arm in Arm if arm.is_ours]
    lines = [f"| | less | {' | '.join(arms)} |", "|---|---|" + "---|" * len(arms)]
    for theirs, differences in _compared(results):
        cells = [str(theirs.cell), theirs.arm, *(str(differences[arm]) for arm in arms)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def accuracy_table(results: Sequence[Result]) -> str:
    """A row for each result: rate, mean and standard error over seeds, in percent."""
    lines = ["| | arm | rate | accuracy | worst seed |", "|---|---|---:|---:|---:|"]
    for result in results:
        mean, error = np.mean(result.accuracies), _standard_error(result.accuracies)
        worst = f"{100 * min(result.accuracies):.1f}"
        reached = f"{100 * mean:.1f} ± {100 * error:.1f}"
        cells = [str(result.cell), result.arm, f"{result.rate:g}", reached, worst]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
