"""The kinds of fields that settings are made of: strict numbers, shares, counts, strategies."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from ...allocator.strategy import Strategy, parse_menu
from ..data.names import check_dataset_name

KNOWN_KEYS_ONLY = ConfigDict(extra="forbid")


def _check_strategy(text: str) -> str:
    Strategy.parse(text)
    return text


def _check_distinct(values: tuple[object, ...]) -> tuple[object, ...]:
    if double := [v for v in dict.fromkeys(values) if values.count(v) > 1]:
        raise ValueError(f"must name each once, but has {double[0]!r} twice")
    return values


def _check_menu(texts: tuple[str, ...]) -> tuple[str, ...]:
    parse_menu(texts)
    return texts


# Strict: neither true nor "5" is a number; a whole number may stand where a float is wanted.
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True)]
Positive = Annotated[Finite, Field(gt=0)]
Share = Annotated[Finite, Field(ge=0, le=1)]
NotNegative = Annotated[Finite, Field(ge=0)]
BelowOne = Annotated[Finite, Field(ge=0, lt=1)]
Count = Annotated[Whole, Field(ge=1)]
Seed = Annotated[Whole, Field(ge=0)]
Distinct = AfterValidator(_check_distinct)  # of a tuple
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), Distinct]
Bits = Annotated[Whole, Field(ge=2, le=8)]
StrategyText = Annotated[str, AfterValidator(_check_strategy)]
Menu = Annotated[tuple[StrategyText, ...], Field(min_length=1), AfterValidator(_check_menu)]
DatasetName = Annotated[str, AfterValidator(check_dataset_name)]
Memory = Annotated[
    float,
    BeforeValidator(lambda value: math.inf if value is None else value),
    Field(gt=0, strict=True),
]
