"""A client's reply: whose it is, what is wrong with it, what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord
from numpy.typing import NDArray

from ....allocator.errors import WireError
from ....allocator.strategy import Strategy
from ...server.inbox import GREATEST_FACTOR
from ...wire.codec import Update
from ...wire.header import require
from ..messages.npy import array_form, read_array
from ..messages.orders import CANNOT, RECORD, Decision, Report
from ..messages.packing import VARIANCE, coded_names, unpack_update
from ..messages.tensor_list import TENSORS
from .metrics import MOST_EXAMPLES, check_count, read_metrics
from .roster import AWAY_CODES, Member, short

Values = Mapping[str, NDArray[Any]]
PLAIN_STRATEGY = Strategy.parse("fp32")
"""What a plain client does."""

_MEND = "Put `quant_mod` first into the mods of its ClientApp, or let it tell no profile."


@dataclass(frozen=True, eq=False)
class RoundModel:
    """The model of a round.

    Args:
        arrays: As the caller gave it.
        values: The same, read.
        key: Name of its record in messages.
        names: `(tensors,)` those that are coded.
        weight_key: Name of the metric that weighs a reply; None if the strategy names none.
        limit: No training changes a value by more; beyond it a reply is refused.
        statistic_limit: No statistic that is not coded is greater. Variances are of squared units,
            and inputs may be bytes, so that it is a thousand squares of the other.
    """

    arrays: ArrayRecord
    values: Values
    key: str
    names: tuple[str, ...]
    weight_key: str | None
    limit: float
    statistic_limit: float

    @classmethod
    def of(cls, arrays: ArrayRecord, key: str, weight_key: str | None) -> RoundModel:
        """Reads a model.

        Raises:
            ValueError: If no tensor of it can be coded.
            WireError: If an array is none.
        """
        names = coded_names(arrays)
        if not names:
            raise ValueError(
                "`the model has a floating-point tensor` must hold, but its arrays "
                f"{list(arrays)[:5]} have none. What is no network, use Flower's strategy without "
                "fedhq."
            )
        values = {name: read_array(name, arrays[name]) for name in arrays}
        limit = GREATEST_FACTOR * max(1.0, *(_greatest(values[name]) for name in names))
        others = [v for name, v in values.items() if name not in names and v.dtype.kind in "fc"]
        statistic_limit = GREATEST_FACTOR * max([limit**2, *map(_greatest, others)])
        return cls(arrays, values, key, names, weight_key, limit, statistic_limit)


@dataclass(frozen=True, eq=False)
class Task:
    """What a client was asked in a round.

    Args:
        member: The client.
        round_number: The round.
        message: What it was sent.
        decision: What was decided; None of a plain client.
        downlink_bytes: Of the model that it was sent.
    """

    member: Member
    round_number: int
    message: Message
    decision: Decision | None
    downlink_bytes: int

    @property
    def strategy(self) -> Strategy:
        """What it was told to do."""
        return PLAIN_STRATEGY if self.decision is None else self.decision.strategy


@dataclass(frozen=True)
class Refused:
    """A reply that does not count.

    Args:
        status: Of `records.STATUSES`.
        reason: Why.
        cannot: Whether the client says that it cannot do what was decided.
        is_sound: Whether nothing was wrong with the reply alone: the round does not use it.
        train_seconds: As in `Taken`.
    """

    status: str
    reason: str
    cannot: bool = False
    is_sound: bool = False
    train_seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Taken:
    """A reply that counts.

    Args:
        task: What it answers.
        reply: As it came.
        values: The client's model, of the names, order, shapes and types of the server's.
        update: What it sent; None of a plain client.
        payload: The update's bytes; empty of a plain client.
        metrics_key: Name of its metrics; empty where there are none.
        metrics: Its metrics.
        weight: Its weight in a mean; 1 if the strategy knows none.
        train_seconds: What its own clock says; None where it says nothing.
    """

    task: Task
    reply: Message
    values: Values
    update: Update | None
    payload: bytes
    metrics_key: str
    metrics: MetricRecord
    weight: float
    train_seconds: float | None

    def refused(self, reason: str) -> Refused:
        """What it is if the round does not use it."""
        return Refused("refused", reason, is_sound=True, train_seconds=self.train_seconds)


def payload_bytes(message: Message) -> int:
    """Bytes of a message's arrays, without Flower's header of some 128 bytes an array."""
    if not message.has_content():
        return 0
    total = 0
    for arrays in message.content.array_records.values():
        for array in arrays.values():
            header = 10 + int.from_bytes(array.data[8:10], "little")
            total += max(len(array.data) - header, 0)
    return total


def read_reply(reply: Message, task: Task, model: RoundModel) -> Taken | Refused:
    """Reads a reply to a task; whatever it holds, nothing is raised.

    Args:
        reply: What came.
        task: What it answers.
        model: That was sent.
    """
    if reply.has_error():
        return read_error(reply)
    try:
        return _read(reply, task, model)
    except WireError as error:
        return Refused("refused", f"malformed: {error}")


def read_error(reply: Message) -> Refused:
    """What an error reply says."""
    code, text = reply.error.code, reply.error.reason or ""
    reason = f"code {code}: {short(text)}"
    if TENSORS in text:  # its app was handed a packed model
        reason += f" {_MEND}"
    if code in AWAY_CODES:
        return Refused("dropped", reason)
    return Refused("failed", reason, CANNOT in text)


def _read(reply: Message, task: Task, model: RoundModel) -> Taken | Refused:
    decision = task.decision
    records = reply.content.array_records
    require(len(records) == 1, "a reply has one ArrayRecord", sorted(records)[:5])
    (arrays,) = records.values()
    metrics_key, metrics, weight = read_metrics(reply, model.weight_key)
    if decision is None:
        values = _plain_values(arrays, model)
        update, payload, seconds = None, b"", None
    else:
        told = reply.content.config_records.get(RECORD)
        report = None if told is None else Report.from_record(told)
        if report is None or not report.is_packed:
            return Refused(
                "refused",
                f"wrong_bits: it sent its model as it is. {_MEND}",
            )
        seconds = report.seconds
        payload, update, as_it_is = unpack_update(arrays, model.arrays, decision)
        if model.weight_key is not None:
            check_count(update.num_examples, weight)
        _check_greatest(update.greatest, model)
        values = _moved(update, as_it_is, model)
    return Taken(task, reply, values, update, payload, metrics_key, metrics, weight, seconds)


def _check_greatest(greatest: float, model: RoundModel) -> None:
    require(greatest <= model.limit, f"values <= {model.limit:.4g}", f"{greatest:.4g}")


def _greatest(values: NDArray[Any]) -> float:
    return float(np.abs(values).max(initial=0))


def _check_as_it_is(name: str, new: NDArray[Any], model: RoundModel) -> None:
    """Statistics and counters stay where training can take them: one client must not spoil all."""
    if new.dtype.kind in "fc":
        greatest, limit = _greatest(new), model.statistic_limit
        require(greatest <= limit, f"values of {name!r} <= {limit:.4g}", f"{greatest:.4g}")
        if name.rpartition(".")[2] == VARIANCE:
            require(bool((new >= 0).all()), f"{name!r} >= 0", f"{new.min():.4g}")
    elif new.dtype.kind in "iu":
        step = _greatest(new.astype(np.float64) - model.values[name])
        require(step <= MOST_EXAMPLES, f"{name!r} moves by less than 2**32", f"{step:.4g}")


def _moved(update: Update, as_it_is: Values, model: RoundModel) -> Values:
    """The server's own weights, moved by an update."""
    moved: dict[str, NDArray[Any]] = {}
    for name, old in model.values.items():
        if name in as_it_is:
            _check_as_it_is(name, as_it_is[name], model)
            moved[name] = as_it_is[name]
            continue
        with np.errstate(over="ignore"):
            new = np.asarray(old + update.coded[name].decode()).astype(old.dtype, copy=False)
        require(bool(np.isfinite(new).all()), f"{name!r} stays finite", "an overflow")
        moved[name] = new
    return moved


def _plain_values(arrays: ArrayRecord, model: RoundModel) -> Values:
    """The model of a client without the mod, in the server's order."""
    wrong = sorted({*arrays} ^ {*model.values})
    require(not wrong, "a reply has the tensors of the model", wrong[:5])
    values: dict[str, NDArray[Any]] = {}
    for name, old in model.values.items():
        dtype, shape = array_form(name, arrays[name])
        require(shape == old.shape, f"shape of {name!r} = {old.shape}", shape)
        require(dtype.kind == old.dtype.kind, f"type of {name!r} is like {old.dtype}", dtype)
        with np.errstate(over="ignore"):
            new = read_array(name, arrays[name]).astype(old.dtype, copy=False)
        if old.dtype.kind == "f":
            require(bool(np.isfinite(new).all()), f"{name!r} is finite", "NaN or infinity")
        if name in model.names:
            _check_greatest(_greatest(new - old), model)
        else:
            _check_as_it_is(name, new, model)
        values[name] = new
    return values
