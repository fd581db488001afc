"""The colours of a report, the same in its tables and figures.

Each strategy has one, by method (after Okabe and Ito, who chose hues that the colour-blind tell
apart); an arm whose clients all do the same has its strategy's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..allocator.strategy import Method, Strategy
from .results import Comparison

LAST_ARM = "#009e73"
"""Of a comparison's last arm, and of what it chose."""

_METHODS = dict(zip(Method, ("#aab2bc", "#c2659a", "#d48f00", "#1f77bf"), strict=True))
HYBRIDS = ("#d55e00", "#767d87", "#3f9fdc", "#8a6fd1", "#8c7a3d", "#4f8a8b")


@dataclass(frozen=True)
class Palette:
    """The colours of a comparison.

    Args:
        strategies: Colour of each strategy that occurs, from skip to qat.
        arms: Colour of each arm, in the comparison's order.
    """

    strategies: Mapping[str, str]
    arms: Mapping[str, str]

    @classmethod
    def of(cls, comparison: Comparison) -> Palette:
        """Gives every strategy and arm of a comparison its colour."""
        done: dict[str, set[str]] = {arm: set() for arm in comparison.arms}
        for result in comparison.results:
            done.setdefault(result.arm, set()).update(c.strategy for c in result.clients)
        strategies = strategy_colours(set().union(*done.values()))
        spare = iter(HYBRIDS * len(done))
        arms: dict[str, str] = {}
        for arm in comparison.arms:
            own = next(iter(done[arm])) if len(done[arm]) == 1 else ""
            if own and strategies[own] not in arms.values():
                arms[arm] = strategies[own]
            elif arm == comparison.arms[-1]:
                arms[arm] = LAST_ARM
            else:
                arms[arm] = next(spare)
        return cls(strategies, arms)


def strategy_colours(texts: Iterable[str]) -> dict[str, str]:
    """One hue a method; more bits are paler."""
    order = list(Method)
    parsed = sorted(
        (Strategy.parse(text) for text in texts),
        key=lambda s: (order.index(s.method), s.weight_bits, s.activation_bits, s.wire_bits),
    )
    colours = {}
    for strategy in parsed:
        same = [s for s in parsed if s.method is strategy.method]
        pale = 0.55 * same.index(strategy) / max(len(same) - 1, 1)
        hue = bytes.fromhex(_METHODS[strategy.method][1:])
        colours[str(strategy)] = "#" + bytes(round(c + (255 - c) * pale) for c in hue).hex()
    return colours
