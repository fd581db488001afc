"""The best of many noisy figures, and what it is on seeds that had no part in picking it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .results import Setting

Candidate = tuple[Setting, str]
"""A setting and an arm."""


def held_out(
    candidates: Sequence[Candidate],
    worth: Callable[[Setting, str], tuple[float, float]],
    value: Callable[[Setting, str, int], float],
) -> list[float]:
    """What the best candidate comes to on a seed, picked on the others; of every seed there is.

    A seed that tells nothing (NaN), as both arms miss the target with it, counts as nothing gained.

    Args:
        candidates: To pick from; those without the seed, or with no other, are passed over.
        worth: By what they are picked, and where that is equal; greater is better.
        value: What an arm of a setting comes to on the seed at a place in `Setting.seeds`.
    """
    found = []
    for seed in sorted({seed for setting, _ in candidates for seed in setting.seeds}):
        rivals = [c for c in candidates if seed in c[0].seeds and len(c[0].seeds) > 1]
        if rivals:
            setting, arm = max(rivals, key=lambda c: worth(c[0].without(seed), c[1]))
            told = value(setting, arm, setting.seeds.index(seed))
            found.append(0.0 if math.isnan(told) else told)
    return found
