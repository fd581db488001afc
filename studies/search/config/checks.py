"""What must hold between a search's space and the configuration that it varies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ...config import AllocationSettings
from ...faults import faults_of
from .space import ARM, BITS, CLIENTS, WIRE_BITS, Choices, Params, Range, Space, is_client

_PROGRAMS = ("exact", "dual", "milp", "cvx")
_RULES = ("random", "hardware-only", "data-only", "coarse")
_READERS = {
    "pick_loss": ("fedhq",),
    "tradeoff": (*_PROGRAMS, "coarse"),
    "share": ("random", "data-only"),
    "strategy": ("uniform", *_RULES),
    "otherwise": _RULES,
}
_UNKNOWN_TO_MODEL = (
    "the model predicts one round from devices and labels, and knows nothing of it: its loss would "
    'not change. Take evaluate = "training", or search allocation keys, menu or wire_bits'
)

_RESERVED = (
    "is a name of fedhq's own, of trials in which everybody does the same (arm) and of single "
    "clients. Search allocation.strategy, or `clients` for all of them"
)

Parse = Callable[[Params], AllocationSettings]
"""Reads the configuration with a trial's values in it."""


def known_to_model(key: str) -> bool:
    """Whether the model's prediction depends on a key, in loss as in time.

    Example:
        >>> known_to_model("allocation.pick_loss"), known_to_model("training.learning_rate")
        (True, False)
    """
    allocation = key.startswith("allocation.") and key != "allocation.carry"
    return allocation or key in ("menu", WIRE_BITS, CLIENTS)


def readers(name: str) -> tuple[str, ...]:
    """The solvers that read a key of the allocation; of a limit, those that solve a program.

    Example:
        >>> readers("pick_loss"), readers("max_loss")
        (('fedhq',), ('exact', 'dual', 'milp', 'cvx'))
    """
    return _READERS.get(name, _PROGRAMS)


def check_space(
    space: Space, parse: Parse, menu: Sequence[str], *, modelled: bool, table: bool
) -> Iterator[str]:
    """The faults of a space, a line each.

    Args:
        space: What is to be varied.
        parse: Reads the configuration with values in it, and raises where they break its rules.
        menu: Strategies on offer, which categories of clients must be of.
        modelled: Whether trials are evaluated in the model.
        table: Whether a table stands in place of a federation.
    """
    for key, values in space.items():
        place = f"search.space.{key}"
        if key == "seed":
            yield f"{place}: the seeds of a search are search.seeds; every trial has all of them."
        elif key == ARM or is_client(key):
            yield f"{place}: {_RESERVED}."
        elif table and not (key == CLIENTS or key.startswith("allocation.")):
            yield f"{place}: of a table of clients only allocation keys can be searched."
        elif modelled and not known_to_model(key):
            yield f"{place}: {_UNKNOWN_TO_MODEL}."
        elif key == CLIENTS:
            yield from _client_faults(space, values, menu)
        else:
            yield from (f"{place}: {line}" for line in _value_faults(key, values, parse))


def check_readers(space: Space, base: AllocationSettings) -> Iterator[str]:
    """The faults of a space whose keys nobody reads, or whose solvers lack a goal.

    Args:
        space: Of which each value by itself is right.
        base: The allocation where the space does not change it.
    """
    solvers = _possible(space, "solver", base.solver)
    for name, readers in _READERS.items():
        key = f"allocation.{name}"
        if key in space and not set(readers) & set(solvers):
            yield (
                f"search.space.{key}: is read by {' and '.join(readers)} only, but allocation."
                f"solver is {' or '.join(solvers)}: nothing would change. Change the solver."
            )
    limits = [
        f"allocation.{n}" for n in ("deadline_seconds", "max_loss") if _is_set(space, base, n)
    ]
    needy = [s for s in solvers if s in (*_PROGRAMS, "coarse")]
    if needy and not _is_set(space, base, "tradeoff") and len(limits) != 1:
        given = " and ".join(limits) or "none of them"
        yield (
            f"allocation.solver = {needy[0]!r}: must be told what to minimise, by "
            "allocation.tradeoff or one of allocation.deadline_seconds and allocation.max_loss, "
            f"in [allocation] or in the space, but there is {given}. Or take solver = 'fedhq'."
        )


def resolved_range(key: str, values: Range | Choices, parse: Parse) -> Range | Choices:
    """A range whose ends are whole only where the key takes nothing else.

    Example:
        >>> resolved_range("x", Range(1, 3), lambda params: AllocationSettings())
        Range(low=1.0, high=3.0, log=False, step=None)
    """
    if isinstance(values, Choices) or not values.is_whole or values.step is not None:
        return values
    try:
        parse({key: values.low + 0.5})
    except ValueError:
        return values
    return replace(values, low=float(values.low), high=float(values.high))


def _value_faults(key: str, values: Range | Choices, parse: Parse) -> Iterator[str]:
    tried: list[tuple[str, Any]]
    if isinstance(values, Range):
        tried = [(f"{name} = {value}", value) for name, value in values.ends().items()]
        if values.step is not None and not values.is_whole:
            tried.append((f"low + step = {values.low + values.step}", values.low + values.step))
    else:
        tried = [(f"choice {value!r}", value) for value in values.choices]
    for name, value in tried:
        try:
            parse({key: value})
        except ValueError as error:
            yield f"{name} breaks a rule: {' '.join(faults_of(error))}"


def _client_faults(space: Space, values: Range | Choices, menu: Sequence[str]) -> Iterator[str]:
    if isinstance(values, Range) or not set(values.choices) <= set(menu):
        yield f"search.space.{CLIENTS}: must have choices of the menu {list(menu)}."
    others = [k for k in space if k.startswith("allocation.") or k in ("menu", BITS, WIRE_BITS)]
    if others:
        yield f"search.space.{CLIENTS}: nothing else decides then: leave out {', '.join(others)}."


def _possible(space: Space, name: str, base: str) -> list[str]:
    values = space.get(f"allocation.{name}")
    return [str(c) for c in values.choices] if isinstance(values, Choices) else [base]


def _is_set(space: Space, base: AllocationSettings, name: str) -> bool:
    return f"allocation.{name}" in space or getattr(base, name) is not None
