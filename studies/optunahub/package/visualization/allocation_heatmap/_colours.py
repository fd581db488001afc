"""A colour for every strategy: a hue a method, paler where there are more bits."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import cycle

_HUES = {"skip": "#aab2bc", "fp32": "#c2659a", "ptq": "#d48f00", "qat": "#1f77bf"}
_SPARE = ("#009e73", "#d55e00", "#8a6fd1", "#8c7a3d", "#4f8a8b")  # of methods of somebody else's
_PALEST = 0.55


def strategy_colours(strategies: Collection[str]) -> dict[str, str]:
    """The colours of strategies, from those that do least to those that do most.

    Args:
        strategies: Names such as `skip` or `qat-w4a8`: a method, and behind a dash its bits.

    Example:
        >>> strategy_colours({"qat-w8a8", "qat-w2a2", "skip"})
        {'skip': '#aab2bc', 'qat-w2a2': '#1f77bf', 'qat-w8a8': '#9ac2e2'}
    """
    known = list(_HUES)
    methods = sorted(
        {s.split("-")[0] for s in strategies},
        key=lambda m: (known.index(m) if m in known else len(known), m),
    )
    spare = cycle(_SPARE)
    colours: dict[str, str] = {}
    for method in methods:
        hue = _HUES.get(method) or next(spare)
        same = sorted((s for s in strategies if s.split("-")[0] == method), key=_bits)
        for k, strategy in enumerate(same):
            colours[strategy] = _paler(hue, _PALEST * k / max(len(same) - 1, 1))
    return colours


def _bits(strategy: str) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", strategy)], strategy


def _paler(hue: str, share: float) -> str:
    """A colour with a share of white mixed in."""
    parts = bytes.fromhex(hue[1:])
    return "#" + bytes(round(part + (255 - part) * share) for part in parts).hex()
