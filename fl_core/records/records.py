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
from numbers import Integral, Real
from types import NoneType

STATUSES = ("ok", "skipped", "failed")
"""What became of a client in a round; `failed`: it trained, but gave no usable update."""


@dataclass(frozen=True)
class RoundRecord:
    """What a round gave.

    Args:
        round: Number of the round.
        simulated_seconds: Simulated time from the start to the end of this round.
        round_seconds: Simulated time of this round.
        deployed_accuracy: Of the quantized model after this round; None if not evaluated.
        float_accuracy: Of the float model after this round; None if not evaluated.
        uplink_bytes: What all clients sent.
        downlink_bytes: What all clients received.
        planned_loss: Loss that the allocation predicts, as a fraction of accuracy.
        bottleneck: Client that everybody waited for; None if there is none.
        learning_rate: Of the clients' training.

    Raises:
        ValueError: If a value has another type, or is NaN or infinite.

    Example:
        >>> RoundRecord(1, 2, 2.0, None, None, 10, 20, 0.5, 3, 0.1).simulated_seconds
        2.0
    """

    round: int
    simulated_seconds: float
    round_seconds: float
    deployed_accuracy: float | None
    float_accuracy: float | None
    uplink_bytes: int
    downlink_bytes: int
    planned_loss: float
    bottleneck: int | None
    learning_rate: float

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True)
class ClientRecord:
    """What a client did in a round.

    Args:
        round: Number of the round.
        client: Client id.
        strategy: As text, for instance `qat-w2a2`.
        num_examples: Examples that it holds.
        seconds: Simulated time from receiving to having sent; 0 if skipped.
        uplink_bytes: What it sent.
        downlink_bytes: What it received.
        train_loss: Mean loss of its training; None if it did not train.
        status: One of `STATUSES`.
    """

    round: int
    client: int
    strategy: str
    num_examples: int
    seconds: float
    uplink_bytes: int
    downlink_bytes: int
    train_loss: float | None
    status: str

    def __post_init__(self) -> None:
        _check_fields(self)
        if self.status not in STATUSES:
            raise ValueError(f"`status` must be one of {STATUSES}, but got {self.status!r}.")


@dataclass(frozen=True)
class WallRecord:
    """Wall-clock times of a round, of the machine that ran it.

    Args:
        round: Number of the round.
        plan_seconds: Planning.
        train_seconds: Training, sending, aggregation.
        evaluate_seconds: Evaluation.
    """

    round: int
    plan_seconds: float
    train_seconds: float
    evaluate_seconds: float

    def __post_init__(self) -> None:
        _check_fields(self)


Record = RoundRecord | ClientRecord | WallRecord


def _check_fields(record: Record) -> None:
    """Checks types and gives every number its plain Python type, so that bytes do not vary."""
    for field in fields(record):
        name, kind, value = field.name, str(field.type), getattr(record, field.name)
        plain: int | float | None = None
        if isinstance(value, Integral) and kind.startswith("int"):
            plain = int(value)
        elif isinstance(value, Real) and kind.startswith("float"):
            plain = float(value)
        if plain is not None and not isinstance(value, bool):
            if not math.isfinite(plain) or (isinstance(plain, int) and plain < 0):
                raise ValueError(f"`{name}` must be finite, and >= 0 if an int, but got {value}.")
            object.__setattr__(record, name, plain)
        elif not isinstance(value, str if kind == "str" else NoneType) or kind in ("int", "float"):
            raise ValueError(f"`{name}` must be of type {kind}, but got {value!r}.")
