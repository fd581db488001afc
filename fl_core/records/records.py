"""The records of a run: three append-only files of JSON lines in its folder.

One line is one record, a JSON object whose keys are the fields of the dataclasses below in their
order, and ends in a newline. `null` stands for None; NaN and infinity do not occur. Floats are
written with the fewest digits that read back to the same float, so equal records are equal bytes.

    file           one line per       record
    rounds.jsonl   round              RoundRecord
    clients.jsonl  client and round   ClientRecord, all clients of a round together
    wall.jsonl     round              WallRecord

Wall-clock times lie apart, so that the other two are byte-identical between equal runs. `recorder`
writes and reads the files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from numbers import Integral, Real
from typing import Any

STATUSES = ("ok", "skipped", "failed", "dropped", "late", "stale", "refused")
"""What became of a client in a round:

- `ok`: its update moved the weights;
- `skipped`: it was told to;
- `failed`: its training broke down or gave no finite update;
- `dropped`: its connection was lost, or nothing arrived;
- `late`: its update arrived after the round had closed;
- `stale`: an update of an earlier round arrived and moved the weights;
- `refused`: the server did not take its update.

`reason` says more of the last five."""


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """What a round gave.

    Args:
        round: Number of the round.
        simulated_seconds: Simulated time from the start to the end of this round.
        round_seconds: Simulated time of this round.
        waiting_seconds: Simulated time before it, when nobody was online.
        deployed_accuracy: Of the quantized model after this round; None if not evaluated.
        float_accuracy: Of the float model after this round; None if not evaluated.
        client_accuracy: Mean over clients of the deployed accuracy on their own test examples; None
            if not evaluated or if they have none.
        worst_accuracy: The same over the worst tenth of the clients.
        uplink_bytes: What all clients sent.
        downlink_bytes: What all clients received.
        energy_joules: What all clients spent on computing.
        planned_loss: Loss that the allocation predicts, as a fraction of accuracy.
        bottleneck: Client that everybody waited for; None if the deadline closed the round.
        learning_rate: Of the clients' training.
        selected: Clients of the cohort.
        used: Updates that moved the weights.

    Raises:
        ValueError: If a value has another type, or is NaN or infinite.
    """

    round: int
    simulated_seconds: float
    round_seconds: float
    waiting_seconds: float
    deployed_accuracy: float | None
    float_accuracy: float | None
    client_accuracy: float | None
    worst_accuracy: float | None
    uplink_bytes: int
    downlink_bytes: int
    energy_joules: float
    planned_loss: float
    bottleneck: int | None
    learning_rate: float
    selected: int
    used: int

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True, kw_only=True)
class ClientRecord:
    """What a client did in a round.

    Args:
        round: Number of the round.
        client: Client id.
        strategy: As text, for instance `qat-w2a2`.
        status: One of `STATUSES`.
        reason: Why, where that is not plain; else None.
        num_examples: Examples that it holds.
        seconds: Simulated time from receiving to having sent, or until it was lost; 0 if skipped.
        uplink_bytes: What it sent.
        downlink_bytes: What it received.
        energy_joules: What it spent on computing; 0 where its power is not known.
        train_loss: Mean loss of its training; None if it did not train, or diverged.
        share: Share of its update in the change of the weights.
        staleness: Rounds since the model from which its update started was sent.
    """

    round: int
    client: int
    strategy: str
    status: str
    reason: str | None
    num_examples: int
    seconds: float
    uplink_bytes: int
    downlink_bytes: int
    energy_joules: float
    train_loss: float | None
    share: float
    staleness: int

    def __post_init__(self) -> None:
        _check_fields(self)
        if self.status not in STATUSES:
            raise ValueError(f"`status` must be one of {STATUSES}, but got {self.status!r}.")


@dataclass(frozen=True, kw_only=True)
class WallRecord:
    """Wall-clock times of a round, of the machine that ran it.

    Args:
        round: Number of the round.
        plan_seconds: Sampling and planning.
        train_seconds: Training.
        server_seconds: Rounding, packing, sending, checks, aggregation.
        evaluate_seconds: Evaluation.
        save_seconds: Recording and saving of the round before; 0 in the first after each start,
            and not told of the last.
        client_seconds: Training of each client of the cohort, in its order; 0 if it did not.
    """

    round: int
    plan_seconds: float
    train_seconds: float
    server_seconds: float
    evaluate_seconds: float
    save_seconds: float
    client_seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_fields(self)


Record = RoundRecord | ClientRecord | WallRecord


def _check_fields(record: Record) -> None:
    """Checks types and gives every number its plain Python type, so that bytes do not vary."""
    cls: Any = type(record)
    for name, kind in _kinds(cls):
        value = getattr(record, name)
        if (type(value), kind) in _AS_IT_SHOULD_BE and (kind == "str" or 0 <= value < math.inf):
            continue  # most are, and there are thousands
        if kind == "tuple[float, ...]":
            plain: Any = tuple(_plain(name, "float", item) for item in value)
        else:
            plain = _plain(name, kind, value)
        object.__setattr__(record, name, plain)


_AS_IT_SHOULD_BE = {(str, "str"), (int, "int"), (float, "float"), (float, "float | None")}


@cache
def _kinds(kind: type[Any]) -> tuple[tuple[str, str], ...]:
    """Name and type of every field."""
    return tuple((field.name, str(field.type)) for field in fields(kind))


def _plain(name: str, kind: str, value: Any) -> int | float | str | None:
    plain: int | float | None = None
    if isinstance(value, Integral) and kind.startswith("int"):
        plain = int(value)
    elif isinstance(value, Real) and kind.startswith("float"):
        plain = float(value)
    if plain is not None and not isinstance(value, bool):
        if not math.isfinite(plain) or (isinstance(plain, int) and plain < 0):
            raise ValueError(f"`{name}` must be finite, and >= 0 if an int, but got {value}.")
        return plain
    if isinstance(value, str) and kind.startswith("str"):
        return value
    if value is None and kind.endswith("| None"):
        return None
    raise ValueError(f"`{name}` must be of type {kind}, but got {value!r}.")
