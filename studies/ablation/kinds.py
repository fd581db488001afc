"""What kind of solver a contestant is: what colours, order and comparisons go by."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """Kinds of solvers, in the order in which they are listed."""

    OURS = "fedhq"
    """fedhq's own."""
    MODELLER = "modeller"
    """A library behind cvxpy."""
    LIBRARY = "library"
    """A library that is called directly."""
    HEURISTIC = "heuristic"
    """Searches, and proves nothing."""
    BLACK_BOX = "black box"
    """Optuna."""
    RULE = "rule"
    """Decides without looking for anything better."""
