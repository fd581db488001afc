"""What is asked of a figure of the benchmarks, and whether it is reached."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """What is asked of a figure.

    Args:
        figure: What the figure is.
        limit: What it may be at most, or must be at least.
        unit: Of both; empty for a plain number.
        at_least: Whether more is better.

    Example:
        >>> print(Goal("over a sort", 2.0, "x").judge(1.5, 3.0, 1.7))
        reached in the median only: over a sort 1.7 x, worst 3 x (at most 2 x)
    """

    figure: str
    limit: float
    unit: str = ""
    at_least: bool = False

    @property
    def ask(self) -> str:
        """What is asked, as text."""
        return f"{'at least' if self.at_least else 'at most'} {self.say(self.limit)}"

    def judge(self, *figures: float) -> Verdict:
        """Whether it is reached.

        Args:
            figures: One for each problem; infinite (0 where more is better) where the work was
                not done.

        Raises:
            ValueError: If there is no figure.
        """
        if not figures:
            raise ValueError("`figures` must not be empty: nothing was measured.")
        return Verdict(self, figures)

    def say(self, figure: float) -> str:
        """A figure with its unit, three digits."""
        text = f"{figure:,.0f}" if 1000 <= figure < float("inf") else f"{figure:.3g}"
        return f"{text} {self.unit}".rstrip()


@dataclass(frozen=True)
class Verdict:
    """A goal and the figures that came out.

    Args:
        goal: What was asked.
        figures: One for each problem.
    """

    goal: Goal
    figures: tuple[float, ...]

    @property
    def median(self) -> float:
        """Over the problems."""
        return statistics.median(self.figures)

    @property
    def worst(self) -> float:
        """Over the problems."""
        return min(self.figures) if self.goal.at_least else max(self.figures)

    @property
    def outcome(self) -> str:
        """`reached` by every problem, `reached in the median only`, or `missed`."""
        if self._holds(self.worst):
            return "reached"
        return "reached in the median only" if self._holds(self.median) else "missed"

    def _holds(self, figure: float) -> bool:
        return figure >= self.goal.limit if self.goal.at_least else figure <= self.goal.limit

    def __str__(self) -> str:
        worst = f", worst {self.goal.say(self.worst)}" if len(self.figures) > 1 else ""
        median = self.goal.say(self.median)
        return f"{self.outcome}: {self.goal.figure} {median}{worst} ({self.goal.ask})"
