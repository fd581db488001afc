"""What an ablation measures of one solver on one problem within one limit: a line of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .kinds import Kind

CELLS_FILE = "cells.jsonl"


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Args:
        family: Of the problem: one of `FAMILIES`, `recorded`, ...
        problem: The problem's own name, unique in the study: family, size, seed.
        clients: How many.
        strategies: How many.
        seed: Of the problem.
        solver: Its name in the study.
        kind: What kind of solver it is.
        settings: Its `repr`, all settings told.
        solver_version: Of the library that solves, for instance `highspy 1.16.0`; fedhq's own else.
        time_limit_seconds: What it was given.
        outcome: `optimal`, `feasible`, `infeasible`, `unknown` (as `Status`), or `refused` (it
            cannot express a term), `wrong` (an answer that broke its promise), `crashed`,
            `timeout` (it did not end and was ended), `not tried` (its time was in vain with fewer
            clients of the same family), `missing` (its library is not installed).
        objective: Of its allocation; None without one.
        bound: What it proves; None where nothing.
        gap: `Solution.gap`; None where infinite.
        round_seconds: Of its allocation.
        loss: Of its allocation.
        seconds: By phase: `build` (the library's model), `compile` (canonical form), `solve`, and
            `total` of the whole call; apart from it `start` (of a process that some need).
        peak_bytes: By how much the process's resident memory rose at most; None where unknown.
        verified: Whether `solve` checked its allocation and found every limit kept; None without.
        choice: What each client does, a digit (base 36) a client; empty beyond 2 000 clients.
        message: What limited it, why it refused or crashed.
        workers: How many processes measured at a time.
        provenance: Key into `provenance.json` of the study.
    """

    family: str
    problem: str
    clients: int
    strategies: int
    seed: int
    solver: str
    kind: Kind
    settings: str
    solver_version: str
    time_limit_seconds: float
    outcome: str
    objective: float | None
    bound: float | None
    gap: float | None
    round_seconds: float | None
    loss: float | None
    seconds: Mapping[str, float]
    peak_bytes: int | None
    verified: bool | None
    choice: str
    message: str
    workers: int
    provenance: str

    @property
    def key(self) -> tuple[str, str, float]:
        """What makes it one of its study: problem, solver, limit."""
        return self.problem, self.solver, self.time_limit_seconds


def cell_to_json(cell: Cell) -> dict[str, Any]:
    """The cell as JSON values."""
    return asdict(cell)


def cell_from_json(table: object) -> Cell:
    """The cell that `cell_to_json` wrote.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(table, dict) or set(table) != _FIELDS:
        raise ValueError("its fields are not those of a cell")
    return Cell(**{**table, "kind": Kind(table["kind"])})


_FIELDS = frozenset(f.name for f in fields(Cell))
