"""Validates tables against settings; every error names the key, the value and the rule."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

_T = TypeVar("_T")
Place = tuple[str | int, ...]
_HEADING = "the configuration has faults:"


def validate(kind: type[_T], table: object, prefix: str = "") -> _T:
    """Reads a table as settings of a kind.

    Args:
        kind: A pydantic dataclass.
        table: What the user gave.
        prefix: Dotted key of the table, for errors; empty at the top.

    Raises:
        ValueError: If a key is unknown or missing or a value breaks a rule; all faults are listed.
    """
    try:
        return TypeAdapter(kind).validate_python(table)
    except ValidationError as error:
        faults = [dict(fault) for fault in error.errors()]
    raise faulty(_lines(kind, faults, prefix))


def faulty(lines: Sequence[str]) -> ValueError:
    """The error that lists faults, a line each."""
    return ValueError("\n".join([_HEADING, *(f"  {line}" for line in lines)]))


def faults_of(error: ValueError) -> list[str]:
    """The faults that an error lists; the error's own text where it is no such list.

    Example:
        >>> faults_of(faulty(["a = 1: too small", "b = 2: too large"]))
        ['a = 1: too small', 'b = 2: too large']
    """
    heading, *lines = str(error).split("\n")
    return [line.strip() for line in lines] if heading == _HEADING else [str(error)]


def _lines(kind: type, faults: Sequence[Mapping[str, Any]], prefix: str) -> list[str]:
    """One line a key; what is wrong with a list only because of its items is left out."""
    by_place: dict[Place, list[Mapping[str, Any]]] = {}
    for fault in faults:
        by_place.setdefault(_place_of(kind, fault), []).append(fault)
    return [
        _line(kind, place, own, prefix)
        for place, own in by_place.items()
        if not any(other[: len(place)] == place and other != place for other in by_place)
    ]


def _place_of(kind: type, fault: Mapping[str, Any]) -> Place:
    """Where a fault is, without the tags that pydantic adds for the members of a union."""
    place: Place = ()
    for part in fault["loc"]:
        is_new = fault["type"] == "unexpected_keyword_argument" and part == fault["loc"][-1]
        if isinstance(part, int) or is_new or part in _known_keys(kind, place):
            place = (*place, part)
    return place


def _line(kind: type, place: Place, faults: Sequence[Mapping[str, Any]], prefix: str) -> str:
    key = ".".join([*([prefix] if prefix else []), *map(str, place)])
    first = faults[0]
    if first["type"] == "unexpected_keyword_argument":
        known = _known_keys(kind, place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, 1)
        hint = f" Did you mean `{near[0]}`?" if near else f" Known here: {', '.join(known)}."
        return f"{key} = {first['input']!r}: unknown key.{hint}"
    if first["type"] == "missing":
        return f"{key}: is required."
    if first["type"] == "value_error" and not place:
        return _message(first)  # a rule between keys: its message names them
    rules = " or ".join(dict.fromkeys(map(_message, faults)))
    return f"{key} = {first['input']!r}: {rules.removesuffix('.')}."


def _message(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    if fault["type"] == "dataclass_type":
        return "must be a table"
    text: str = fault["msg"]
    return text[0].lower() + text[1:]


def _known_keys(kind: type, place: Place) -> list[str]:
    """Names of the fields at a place inside nested settings; list indices are stepped over."""
    for part in place:
        if not isinstance(part, int):
            hint = get_type_hints(kind)[part]
            nested = [hint, *get_args(hint), *(a for h in get_args(hint) for a in get_args(h))]
            inner = [c for c in nested if isinstance(c, type) and is_dataclass(c)]
            if not inner:
                return []
            kind = inner[0]
    return [f.name for f in fields(kind)]
