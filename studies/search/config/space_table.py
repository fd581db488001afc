"""Reads `[search.space]`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from ...faults import faults_of, faulty, validate
from .space import Choices, Range, Space

_ENDS = {f.name for kind in (Range, Choices) for f in fields(kind)}
_EMPTY = (
    "search.space: must name at least one key of the configuration, for instance "
    "allocation.pick_loss = { low = 0.001, high = 0.3, log = true }."
)


def read_space(given: object) -> tuple[Space, list[str]]:
    """Reads ranges and choices.

    Args:
        given: A table whose keys are dotted, or nested, or both: an override of one end of a dotted
            key nests.

    Returns:
        What could be read, and the faults of the rest, a line each.

    Example:
        >>> read_space({"a.b": {"low": 1, "high": 9}, "a": {"b": {"high": 5}}})
        ({'a.b': Range(low=1, high=5, log=False, step=None)}, [])
    """
    leaves: dict[str, object] = {}
    for key, leaf in _leaves("", given if isinstance(given, Mapping) else {}):
        old = leaves.get(key)
        if isinstance(old, Mapping) and isinstance(leaf, Mapping):
            leaf = {**old, **leaf}
        leaves[key] = leaf
    space: dict[str, Range | Choices] = {}
    faults = [] if leaves else [_EMPTY]
    for key, leaf in leaves.items():
        try:
            space[key] = _values(leaf, f"search.space.{key}")
        except ValueError as error:
            faults += faults_of(error)
    return space, faults


def _values(leaf: object, place: str) -> Range | Choices:
    try:
        if isinstance(leaf, Mapping) and "choices" in leaf:
            return validate(Choices, leaf, place)
        return validate(Range, leaf, place)
    except ValueError as error:  # a rule between ends does not know whose they are
        raise faulty(
            [f if f.startswith(place) else f"{place}: {f}" for f in faults_of(error)]
        ) from None


def _leaves(key: str, given: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """What stands at the ends of nested tables, by dotted key."""
    for name, inner in given.items():
        place = f"{key}.{name}" if key else name
        if isinstance(inner, Mapping) and inner and not _ENDS & inner.keys():
            yield from _leaves(place, inner)
        else:
            yield place, inner
