"""What a run trains, and the key that runs that train alike share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any

from ...allocator import Method, Strategy
from ...fl_core.settings import FederationSettings

_TRAINS = 1  # raised where fedhq comes to train otherwise, so that older runs do not count
_DIGITS = 16
_CLOCK_ONLY = ("fleet", "menu", "profile")


@dataclass(frozen=True)
class RunSpec:
    """A federation and what its clients do in every round; the clock has no part in it.

    Two allocators that decide alike are one run, whatever devices, step times or prices led them
    there. So a run has no deadline, and its clients are always online.

    Args:
        settings: The federation; its fleet, menu and profile do not matter.
        plan: Strategies of the clients: one row for all rounds, or a row a round.
        repeat: Another draw of weights, batches and rounding on the same clients with the same
            data.

    Raises:
        ValueError: If the rows are neither one nor as many as the rounds, or differ in length, or a
            setting makes the clock matter.

    Example:
        >>> from .tasks import task_settings
        >>> settings = task_settings("digits-mlp", alpha=0.3, bits=2, seed=0)
        >>> once, always = RunSpec(settings, (("ptq-w2a2",) * 20,)), (("fp32-u4",) * 20,) * 20
        >>> once.key == RunSpec(settings, always).key  # float training, four bits on the wire
        True
    """

    settings: FederationSettings
    plan: tuple[tuple[str, ...], ...]
    repeat: int = 0

    def __post_init__(self) -> None:
        rounds, rows = self.settings.training.rounds, len(self.plan)
        if rows not in (1, rounds) or len({len(row) for row in self.plan}) != 1:
            raise ValueError(
                f"`plan` must have one row of strategies or {rounds}, one a round, all of one "
                f"length, but has {rows} of {sorted({len(row) for row in self.plan})}."
            )
        part = self.settings.participation
        if part.deadline_seconds is not None or self.settings.fleet.availability is not None:
            raise ValueError(
                "a run that studies share must not depend on the clock, but its settings have a "
                "deadline or availability. Leave them out."
            )

    def row(self, round_number: int) -> tuple[str, ...]:
        """`(clients,)` strategies of a round, counted from 1."""
        return self.plan[0 if len(self.plan) == 1 else round_number - 1]

    @property
    def strategies(self) -> tuple[str, ...]:
        """All strategies of the plan, each once, in order of their text."""
        return tuple(sorted({text for row in self.plan for text in row}))

    @cached_property
    def key(self) -> str:
        """Digest of all that matters to what is trained."""
        told = _told(self.settings)
        for name in _CLOCK_ONLY:
            told.pop(name, None)
        text = json.dumps([_TRAINS, told, _runs(self.plan), self.repeat], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _told(settings: Any) -> dict[str, Any]:
    """What settings say beyond their defaults: a setting to come changes no key."""
    told = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value != field.default:
            told[field.name] = _told(value) if is_dataclass(value) else value
    return told


def _runs(plan: Sequence[Sequence[str]]) -> list[list[object]]:
    """The rows as `[last round, what trains]`, equal neighbours once; a constant plan has one."""
    rows: list[list[object]] = []
    for number, row in enumerate(plan, start=1):
        trains = [_trains(Strategy.parse(text)) for text in row]
        if rows and rows[-1][1] == trains:
            rows[-1][0] = number
        else:
            rows.append([number, trains])
    if len(rows) == 1:
        rows[0][0] = 0
    return rows


def _trains(strategy: Strategy) -> str:
    """What a strategy makes of a client; ptq and fp32 train alike but for the wire."""
    if strategy.method in (Method.FP32, Method.PTQ):
        return f"float-u{strategy.wire_bits}"
    return str(strategy)
