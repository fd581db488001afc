"""When one client is online: windows of simulated time, which may repeat."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_ALWAYS, _NEVER, _PER = "always", "never", "per"


@dataclass(frozen=True, slots=True)
class Windows:
    """Spans of simulated seconds in which a client is online.

    Args:
        spans: (start, end) each, half open; kept in order, merged where they touch or overlap.
        period_seconds: After which they repeat; they do not where infinite.

    Raises:
        ValueError: If `0 <= start < end <= period_seconds` does not hold for a span, or the
            period is not > 0.

    Example:
        >>> night = Windows.parse("0:21600 79200:86400 per 86400")
        >>> night.share, str(Windows([(5, 9), (0, 5)]))
        (0.3333333333333333, '0:9')
    """

    spans: tuple[tuple[float, float], ...]
    period_seconds: float = math.inf

    def __init__(
        self, spans: Iterable[tuple[float, float]], period_seconds: float = math.inf
    ) -> None:
        if not period_seconds > 0:
            raise ValueError(f"`period_seconds > 0` must hold, but got {period_seconds}.")
        merged: list[tuple[float, float]] = []
        for start, end in sorted((float(start), float(end)) for start, end in spans):
            if not 0 <= start < end <= period_seconds:
                raise ValueError(
                    "`0 <= start < end <= period` must hold for a window, but got "
                    f"{start:g}:{end:g} with a period of {period_seconds:g} s. Split a window that "
                    "goes beyond the period's end."
                )
            if merged and start <= merged[-1][1]:
                start, end = merged[-1][0], max(end, merged[-1][1])
                merged.pop()
            merged.append((start, end))
        if merged == [(0.0, period_seconds)]:
            period_seconds = math.inf  # always online
            merged = [(0.0, math.inf)]
        object.__setattr__(self, "spans", tuple(merged))
        object.__setattr__(self, "period_seconds", float(period_seconds))

    @classmethod
    def always(cls) -> Windows:
        """Online at any time."""
        return cls([(0.0, math.inf)])

    @classmethod
    def parse(cls, text: str) -> Windows:
        """Reads `always`, `never`, or `start:end start:end ... per period`, all in seconds.

        Raises:
            ValueError: If the text is not of that form, or breaks a rule of the class.
        """
        if text == _ALWAYS:
            return cls.always()
        if text == _NEVER:
            return cls([])
        try:
            head, repeats, period = text.partition(f" {_PER} ")
            spans = [_span(part) for part in head.split()]
            period_seconds = float(period) if repeats else math.inf
        except ValueError:
            spans = []
        if not spans:
            raise ValueError(
                "`online` must be always, never, or windows of seconds like "
                f"`0:21600 79200:86400 per 86400`, but is {text!r}."
            )
        return cls(spans, period_seconds)

    def __str__(self) -> str:
        if not self.spans:
            return _NEVER
        if self.spans == ((0.0, math.inf),):
            return _ALWAYS
        text = " ".join(f"{_text(start)}:{_text(end)}" for start, end in self.spans)
        repeats = math.isfinite(self.period_seconds)
        return f"{text} {_PER} {_text(self.period_seconds)}" if repeats else text

    @property
    def share(self) -> float:
        """Share of the period online; without a period, of the time until the last window ends."""
        if not self.spans:
            return 0.0
        repeats = math.isfinite(self.period_seconds)
        whole = self.period_seconds if repeats else self.spans[-1][1]
        if math.isinf(whole):
            return 1.0
        return sum(end - start for start, end in self.spans) / whole


def _span(text: str) -> tuple[float, float]:
    start, _, end = text.partition(":")
    return float(start), float(end)


def _text(seconds: float) -> str:
    """All digits, without a needless `.0`."""
    return str(int(seconds)) if seconds.is_integer() else repr(seconds)
