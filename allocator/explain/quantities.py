"""Numbers as people read them: few digits, a unit, and a multiple of it that suits them."""

from __future__ import annotations

from dataclasses import dataclass

_DIGITS = 4
_PREFIXES = ("", "k", "M", "G", "T", "P")
_LEAST_WORTH = 0.1  # what a price per multiple should at least come to
_SYMBOLS = {"bytes": "B", "joules": "J", "bits": "bit", "flops": "FLOP"}


def number(value: float, sign: bool = False) -> str:
    """A number with four digits, and a sign if wanted.

    Example:
        >>> number(0.123456), number(123456.0), number(2.0, sign=True)
        ('0.1235', '123500', '+2')
    """
    rounded = float(f"{value:.{_DIGITS}g}")
    digits = f"{rounded:.0f}" if 1e4 <= abs(rounded) < 1e15 else f"{rounded:.{_DIGITS}g}"
    return f"+{digits}" if sign and rounded > 0 else digits


@dataclass(frozen=True)
class Unit:
    """What a value is measured in.

    Args:
        symbol: As written after a number.
        one: As written after "one more", where that differs.
        factor: What a value is multiplied by for showing: 100 for shares and losses.
        prefixes: The multiples that it may be shown in, each 1000 times the one before.

    Example:
        >>> Unit.of("uplink_bytes").text(12_000), POINTS.text(0.05), POINTS.text(-0.01, sign=True)
        ('12 kB', '5 points', '-1 point')
    """

    symbol: str
    one: str = ""
    factor: float = 1.0
    prefixes: tuple[str, ...] = ("",)

    @classmethod
    def of(cls, resource: str) -> Unit:
        """The unit that the name of a resource ends in; the name itself where it is none."""
        word = resource.rsplit("_", maxsplit=1)[-1]
        if word == "seconds":
            return SECONDS
        if word in _SYMBOLS:
            return cls(_SYMBOLS[word], prefixes=_PREFIXES)
        return cls("", one="unit")

    def text(self, value: float, sign: bool = False) -> str:
        """A value with its unit."""
        shown = value * self.factor
        power = 0
        while power + 1 < len(self.prefixes) and abs(shown) >= 1000.0 ** (power + 1):
            power += 1
        digits = number(shown / 1000.0**power, sign)
        symbol = self.one if self.one and digits.lstrip("+-") == "1" else self.symbol
        return f"{digits} {self.prefixes[power]}{symbol}".rstrip()

    def worth(self, price: float, limit: float, objective: Unit) -> tuple[str, str]:
        """A multiple of the unit, and what one of it is worth.

        The multiple is the smallest one worth a tenth of the objective's unit, but no larger than
        the limit itself: nobody has that much more to give.

        Args:
            price: Objective units per unit of the value, as in `Prices`.
            limit: The limit that it is the price of.
            objective: The objective's unit.

        Example:
            >>> Unit.of("uplink_bytes").worth(3.1e-7, 2e7, SECONDS)
            ('MB', '0.31 s')
        """
        power, each = 0, price / self.factor
        while (
            power + 1 < len(self.prefixes)
            and each * objective.factor < _LEAST_WORTH
            and limit * self.factor >= 1000.0 ** (power + 1)
        ):
            power, each = power + 1, each * 1000.0
        return f"{self.prefixes[power]}{self.one or self.symbol}", objective.text(each)


SECONDS = Unit("s")
POINTS = Unit("points", one="point", factor=100.0)
"""Of accuracy: percentage points, what a loss is shown in."""
PERCENT = Unit("%", factor=100.0)
CLIENTS = Unit("clients", one="client")
