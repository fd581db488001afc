"""The reasons for an allocation, in words and numbers: `solution.explain()`."""

from .client import ClientExplanation
from .explanation import Bottleneck, Explanation, explain
from .reports import ClassReport, LimitReport
from .whatif import Alternative, Change, Flips

__all__ = [
    "Alternative",
    "Bottleneck",
    "Change",
    "ClassReport",
    "ClientExplanation",
    "Explanation",
    "Flips",
    "LimitReport",
    "explain",
]
