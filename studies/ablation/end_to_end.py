"""What solvers' allocations come to: the same short federation trained with each of them.

What is asked for, and what came of it; `training` trains.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import fields
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from ...fl_core.settings.fields import KNOWN_KEYS_ONLY, Count, Distinct, Seeds
from .contestants import check_name

END_TO_END_FILE = "end_to_end.jsonl"

_Solver = Annotated[str, AfterValidator(check_name)]


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class EndToEndSettings:
    """Which federations are trained.

    Args:
        solvers: Names of the study's solvers that decide, each in federations of its own, stopped
            by their work and not by the grid's time limits.
        config: A run's TOML, as `fedhq run` takes, or `digits` for the short one that ships. Its
            `[allocation]` says what the solvers minimise and must keep.
        seeds: Of the federations; solvers are paired by seed. One tells no winner.
        rounds: Of every run; as many as `config` says where None.
        workers: Runs at a time, each in a process of one thread.
    """

    solvers: Annotated[tuple[_Solver, ...], Field(min_length=1), Distinct] = (
        "exact",
        "dual",
        "greedy",
        "lp-rounding",
        "policy-search",
        "hardware-only",
        "uniform-qat",
        "uniform-ptq",
    )
    config: str = "digits"
    seeds: Seeds = (0, 1)
    rounds: Count | None = None
    workers: Count = 2


@plain_dataclass(frozen=True)
class EndToEnd:
    """What came of a federation whose allocations a solver made: a line of JSON.

    Args:
        solver: Its name in the study.
        settings: Its `repr`.
        solver_version: Of the library that solves, as in `Cell`.
        seed: Of the federation.
        run: Where its records are, in `RUNS_FOLDER`: rounds, clients, configuration.
        provenance: Key into `provenance.json` of the study: what trained it.
        message: Why it failed; empty if it did not.
        rounds: That were trained; 0 if it failed.
        round_seconds: Mean simulated time of a round; None if it failed, like those below.
        deployed_accuracy: Of the quantized model after the last round.
        predicted_loss: Mean over the rounds of what the program predicts.
        plan_seconds: Mean wall time of a round's planning, on the machine that trained it.
        decisions: Digest of what every client was told in every round.
        curve: `(round, simulated seconds, deployed accuracy)` of every round that was evaluated.
    """

    solver: str
    settings: str
    solver_version: str
    seed: int
    run: str
    provenance: str
    message: str = ""
    rounds: int = 0
    round_seconds: float | None = None
    deployed_accuracy: float | None = None
    predicted_loss: float | None = None
    plan_seconds: float | None = None
    decisions: str = ""
    curve: tuple[tuple[int, float, float], ...] = ()


def read_end_to_end(folder: Path) -> tuple[EndToEnd, ...]:
    """Reads what was written when a study's federations were trained; nothing where none were.

    Raises:
        ValueError: If a line is no such record.
    """
    path, records = folder / END_TO_END_FILE, []
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    names = [field.name for field in fields(EndToEnd)]
    for number, line in enumerate(lines, start=1):
        table = json.loads(line)
        if not isinstance(table, dict) or list(table) != names:
            raise ValueError(
                f"line {number} of {path}: must have the keys {names}. Remove the file; the study "
                "writes it anew."
            )
        curve = tuple((int(k), float(t), float(a)) for k, t, a in table["curve"])
        records.append(EndToEnd(**{**table, "curve": curve}))
    return tuple(records)


def grouped(
    records: Sequence[EndToEnd],
) -> list[tuple[tuple[str, ...], tuple[EndToEnd, ...]]]:
    """Who decided alike in every seed: the solvers, and the records of one of them.

    Args:
        records: Those of runs that failed do not count.
    """
    by_solver: dict[str, list[EndToEnd]] = {}
    for record in records:
        if not record.message:
            by_solver.setdefault(record.solver, []).append(record)
    alike: dict[tuple[tuple[int, str], ...], list[str]] = {}
    for solver, own in by_solver.items():
        did = tuple(sorted((record.seed, record.decisions) for record in own))
        alike.setdefault(did, []).append(solver)
    return [(tuple(solvers), tuple(by_solver[solvers[0]])) for solvers in alike.values()]
