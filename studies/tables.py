"""Reads TOML files as nested tables, changes single keys of them, and merges them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

_DEMO = "demo"


def read_table(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Reads a TOML file and applies overrides.

    Args:
        path: The file.
        overrides: Texts such as `training.rounds=5`; a number steps into a list, from 0:
            `fleet.classes.0.slowdown=7`.

    Raises:
        ValueError: If the file cannot be read, or an override is not `key=value` or fits no place.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no valid TOML: {error}.") from None
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"an override must be `key=value`, but got {override!r}.")
        insert_(table, key.strip(), _read_value(text.strip()))
    return table


def read_config(place: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Reads a TOML file, or of the name `demo` the one that ships, and applies overrides.

    Raises:
        ValueError: As `read_table`.
    """
    if place != _DEMO:
        return read_table(Path(place), overrides)
    with resources.as_file(resources.files(__package__).joinpath("demo.toml")) as path:
        return read_table(path, overrides)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The base with changes, table by table; lists are replaced.

    Example:
        >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
        {'a': {'x': 1, 'y': 3}}
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def insert_(table: dict[str, Any], key: str, value: object) -> None:
    """Sets a dotted key of a nested table, in place; a number steps into a list.

    Raises:
        ValueError: If the key fits no place.

    Example:
        >>> table = {"fleet": {"classes": [{"slowdown": 1}]}}
        >>> insert_(table, "fleet.classes.0.slowdown", 7)
        >>> table
        {'fleet': {'classes': [{'slowdown': 7}]}}
    """
    path = [part.strip() for part in key.split(".")]
    if not all(path):
        raise ValueError(f"`{key}` cannot be set: every part between its dots must be a name.")
    place: Any = table
    for part in path[:-1]:
        step = _step(place, part, key)
        if isinstance(place, dict):
            place.setdefault(step, {})
        place = place[step]
    place[_step(place, path[-1], key)] = value


def _step(place: object, part: str, key: str) -> str | int:
    """A name inside a table, an index inside a list."""
    if isinstance(place, dict):
        return part
    if not isinstance(place, list):
        raise ValueError(f"`{key}` cannot be set: what stands before {part!r} is no table.")
    if not (part.isascii() and part.isdigit()) or int(part) >= len(place):
        raise ValueError(
            f"`{key}` cannot be set: {part!r} must be an index into a list of {len(place)}, "
            "counted from 0."
        )
    return int(part)


def _read_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
