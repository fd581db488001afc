"""Writes a table as TOML, which `tables` reads: a line a value, its key dotted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(table: Mapping[str, Any]) -> str:
    """A table as TOML; what is None is left out, as TOML has no word for it.

    Args:
        table: Of texts, numbers, truths, lists and tables of these.

    Raises:
        ValueError: If it holds anything else.

    Example:
        >>> print(toml_text({"menu": ["fp32"], "data": {"name": "digits", "path": None}}), end="")
        menu = ["fp32"]
        data.name = "digits"
    """
    return "".join(f"{key} = {value}\n" for key, value in _lines(table))


def _lines(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        key = before + (name if _BARE.fullmatch(name) else json.dumps(name))
        if isinstance(value, Mapping) and value:
            yield from _lines(value, f"{key}.")
        elif value is not None:
            yield key, _value(value)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key} = {text}" for key, text in _lines(value))
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(inner) for inner in value if inner is not None) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)  # inf and nan are words of TOML, too
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    raise ValueError(f"TOML has no place for {value!r}.")
