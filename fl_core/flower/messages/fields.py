"""The fields of our records, read without trust: of their type, finite, of bounded length."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from ....allocator.errors import WireError
from ....allocator.strategy import Strategy

MOST_INT = 2**63 - 1
"""The greatest whole number that a record of Flower holds."""

_MOST_STRATEGY_CHARS = 32

Value = TypeVar("Value")


def refuse(what: str, rule: str, got: object) -> WireError:
    """The error of a record that breaks a rule."""
    return WireError(
        f"`{rule}` must hold for {what}, but got {_shown(got)}: let both sides run the same "
        "version of fedhq, and look for who writes such records."
    )


def _shown(got: object) -> str:
    """A value as an error shows it: short, whatever it is."""
    if isinstance(got, str | bytes):
        return repr(got[:80])
    if isinstance(got, int) and abs(got) > MOST_INT:
        return f"a whole number of {got.bit_length()} bits"
    if isinstance(got, int | float | None):
        return repr(got)
    return f"a {type(got).__name__}"


class Fields:
    """What a record says, field by field.

    Args:
        record: Any value.
        what: What it is, for errors.

    Raises:
        WireError: If it is no mapping; and by every method if a field is missing without a
            default, of another type, out of range or too long.

    Example:
        >>> Fields({"round": 3}, "a decision").whole("round", most=10)
        3
    """

    def __init__(self, record: object, what: str) -> None:
        if not isinstance(record, Mapping):
            raise refuse(what, "it is a mapping", type(record).__name__)
        self._record: Mapping[str, object] = record
        self.what = what

    def version(self, expected: int) -> None:
        """Refuses a record of another version."""
        got = self.whole("version", most=MOST_INT)
        if got != expected:
            raise refuse(self.what, f"version = {expected}", got)

    def whole(self, name: str, most: int, default: int | None = None) -> int:
        """A whole number, at least 0."""
        value = self._get(name, default)
        if type(value) is not int or not 0 <= value <= most:
            raise refuse(self.what, f"0 <= {name} <= {most}, a whole number", value)
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._get(name, None)
        if type(value) is not bool:
            raise refuse(self.what, f"{name} is true or false", value)
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number."""
        return self._number(name, self._get(name, default), infinite=default == math.inf)

    def numbers(self, name: str, most: int) -> tuple[float, ...]:
        """Finite numbers; none where the field is missing."""
        return tuple(self._number(name, value) for value in self._list(name, most))

    def text(self, name: str, most_chars: int, default: str | None = None) -> str:
        """A text without control characters, not empty."""
        return self._text(name, self._get(name, default), most_chars)

    def texts(self, name: str, most: int, most_chars: int) -> tuple[str, ...]:
        """Texts as in `text`; none where the field is missing."""
        return tuple(self._text(name, value, most_chars) for value in self._list(name, most))

    def strategy(self, name: str) -> Strategy:
        """A strategy's text."""
        return self._parse(name, self.text(name, _MOST_STRATEGY_CHARS))

    def strategies(self, name: str, most: int) -> tuple[Strategy, ...]:
        """Texts of strategies; none where the field is missing."""
        return tuple(self._parse(name, s) for s in self.texts(name, most, _MOST_STRATEGY_CHARS))

    def build(self, make: Callable[[], Value]) -> Value:
        """What is made of the fields; that it refuses them is the record's fault.

        Raises:
            WireError: If `make` raises `ValueError`.
        """
        try:
            return make()
        except ValueError as error:
            raise WireError(f"{self.what}: {error}") from None

    def _parse(self, name: str, text: str) -> Strategy:
        try:
            return Strategy.parse(text)
        except ValueError as error:
            raise WireError(f"{name} of {self.what}: {error}") from None

    def _get(self, name: str, default: object) -> object:
        value = self._record.get(name, default)
        if value is None:
            raise refuse(self.what, f"it has {name!r}", None)
        return value

    def _list(self, name: str, most: int) -> list[object]:
        value = self._record.get(name, [])
        if not isinstance(value, list) or len(value) > most:
            got = len(value) if isinstance(value, list) else value
            raise refuse(self.what, f"{name} is a list of at most {most}", got)
        return value

    def _number(self, name: str, value: object, infinite: bool = False) -> float:
        good = type(value) is float or (type(value) is int and abs(value) <= MOST_INT)
        number = float(value) if good else math.nan  # type: ignore[arg-type]
        if math.isnan(number) or (math.isinf(number) and not infinite):
            raise refuse(self.what, f"{name} is finite", value)
        return number

    def _text(self, name: str, value: object, most_chars: int) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= most_chars:
            got = len(value) if isinstance(value, str) else value
            raise refuse(self.what, f"{name} is a text of 1 to {most_chars} characters", got)
        if not value.isprintable():
            raise refuse(self.what, f"{name} can be printed", value)
        return value
