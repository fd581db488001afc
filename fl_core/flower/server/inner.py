"""The strategy inside: its names of records, its sampling, its configuration."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp.strategy import Strategy

from ...seeds import Purpose, generator
from ..messages.orders import RECORD

_MOST_WRAPPERS = 10
_Value = TypeVar("_Value")


def check_inner(inner: object, kind: type, outer: type, other: str) -> None:
    """Whether a strategy can stand inside ours.

    Args:
        inner: What was given for it.
        kind: Flower's class of those that can.
        outer: Ours, which cannot.
        other: Name of ours for the strategies of Flower's other API.

    Raises:
        ValueError: If it cannot.
    """
    if isinstance(inner, kind) and not isinstance(inner, outer):
        return
    name = type(inner).__name__
    api = kind.__module__.rpartition(".")[0]
    mend = f"Give a strategy of `{api}` first, and the allocator second."
    if isinstance(inner, type):
        name, mend = f"the class {inner.__name__}", f"Give `{inner.__name__}(...)`."
    elif isinstance(inner, outer):
        mend = "It cannot be nested: give the strategy inside it."
    elif any(base.__module__.startswith("flwr.server") for base in type(inner).__mro__):
        mend = f"Use `{other}` for this one, which is of Flower's other API."
    raise ValueError(f"`inner` must be a strategy of `{api}`, but got {name}. {mend}")


def setting_of(strategy: Strategy, name: str) -> str | None:
    """A text attribute of a strategy, or of the one that it wraps; None where neither has it.

    Example:
        >>> from flwr.serverapp.strategy import FedAvg
        >>> setting_of(FedAvg(weighted_by_key="n"), "weighted_by_key")
        'n'
    """
    return _attribute(strategy, name, str)


def number_of(strategy: Strategy, name: str, default: int) -> int:
    """The same for a whole number."""
    found = _attribute(strategy, name, int)
    return default if found is None else found


def _attribute(strategy: Strategy, name: str, kind: type[_Value]) -> _Value | None:
    inner: object = strategy
    for _ in range(_MOST_WRAPPERS):
        value = getattr(inner, name, None)
        if isinstance(value, kind):
            return value
        inner = getattr(inner, "strategy", None)
    return None


def model_key(messages: Sequence[Message], arrays: ArrayRecord) -> str:
    """Name of the record that holds the model, as the strategy writes it.

    Raises:
        ValueError: If no record does, or a name of ours is taken.
    """
    records = messages[0].content
    if RECORD in records:
        raise ValueError(
            f"a strategy's messages must not hold a record named {RECORD!r}: it is fedhq's. Give "
            "the record of the strategy another name."
        )
    found = [key for key, record in records.array_records.items() if record is arrays]
    found = found or [
        key for key, record in records.array_records.items() if [*record] == [*arrays]
    ]
    if not found:
        raise ValueError(
            "`a strategy's messages hold the model` must hold, but their records of arrays are "
            f"{sorted(records.array_records)[:5]}. Send all tensors, in their order."
        )
    return found[0]


@contextmanager
def seeded(seed: int, *place: int) -> Iterator[None]:
    """Has Python's `random`, by which Flower samples nodes, draw by a seed; undone afterwards.

    Args:
        seed: Root of the federation's randomness.
        place: What it is for.
    """
    before = random.getstate()
    random.seed(int(generator(seed, Purpose.COHORT, *place).integers(2**63)))
    try:
        yield
    finally:
        random.setstate(before)


class OwnConfig:
    """A configuration that a strategy may write to, while its caller's never changes.

    What the strategy writes stays for the next round, as it would in the caller's.
    """

    def __init__(self) -> None:
        self._seen: dict[str, object] | None = None
        self._own = ConfigRecord()

    def of(self, config: ConfigRecord) -> ConfigRecord:
        """The copy of a configuration; a new one where the caller's has other values than before.

        Example:
            >>> own, config = OwnConfig(), ConfigRecord({"lr": 0.5})
            >>> own.of(config)["lr"] = 0.25
            >>> own.of(config)["lr"], config["lr"]
            (0.25, 0.5)
        """
        values = copied(config)
        if self._seen != values:
            self._seen, self._own = dict(values), copied(config)
        return self._own


def copied(config: ConfigRecord) -> ConfigRecord:
    """A copy that shares no list."""
    return ConfigRecord({k: [*v] if isinstance(v, list) else v for k, v in config.items()})
