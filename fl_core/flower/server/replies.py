"""A client's reply: whose it is, what is wrong with it, what it says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
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
from ..messages.packing import coded_names, unpack_update
from .roster import AWAY_CODES, Member, short

Values = Mapping[str, NDArray[Any]]
PLAIN_STRATEGY = Strategy.parse("fp32")
"""What a plain client does."""


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
    """

    arrays: ArrayRecord
    values: Values
    key: str
    names: tuple[str, ...]
    weight_key: str | None
    limit: float

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
        greatest = max(float(np.abs(values[name]).max(initial=0)) for name in names)
        limit = GREATEST_FACTOR * max(1.0, greatest)
        return cls(arrays, values, key, names, weight_key, limit)


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
    if code in AWAY_CODES:
        return Refused("dropped", reason)
    return Refused("failed", reason, CANNOT in text)


def read_metrics(reply: Message, weight_key: str | None) -> tuple[str, MetricRecord, float]:
    """Name of the one record of metrics, the record, and the weight.

    Raises:
        WireError: If there are more or none, a value is not finite, or the weight is no number
            above 0.
    """
    records = reply.content.metric_records
    if weight_key is None and not records:
        return "", MetricRecord(), 1.0
    require(len(records) == 1, "a reply has one MetricRecord", sorted(records)[:5])
    ((key, metrics),) = records.items()
    for name, value in metrics.items():
        numbers = value if isinstance(value, list) else [value]
        require(all(map(math.isfinite, numbers)), f"metric {name!r} is finite", short(str(value)))
    if weight_key is None:
        return key, metrics, 1.0
    weight = metrics.get(weight_key)
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    require(is_number, f"metric {weight_key!r} is a number", short(str(weight)))
    assert isinstance(weight, int | float)
    require(weight > 0, f"metric {weight_key!r} > 0", weight)
    return key, metrics, float(weight)


def common_metrics(replies: Sequence[MetricRecord]) -> frozenset[tuple[str, int]]:
    """Names, and lengths of lists, of the metrics that most replies have; see `has_metrics`.

    Flower's strategies end the run where they differ; so one client must not decide alone. Of
    equally many the fewer metrics, which more replies have.
    """
    forms = Counter(_form(metrics) for metrics in replies)
    return max(forms, key=lambda form: (forms[form], -len(form), sorted(form)))


def has_metrics(metrics: MetricRecord, form: frozenset[tuple[str, int]]) -> bool:
    """Whether it has all metrics of a form."""
    return form <= _form(metrics)


def only_metrics(metrics: MetricRecord, form: frozenset[tuple[str, int]]) -> MetricRecord:
    """The metrics of a form, sorted by name."""
    return MetricRecord({name: metrics[name] for name in sorted(name for name, _ in form)})


def _form(metrics: MetricRecord) -> frozenset[tuple[str, int]]:
    return frozenset(
        (name, len(value) if isinstance(value, list) else -1) for name, value in metrics.items()
    )


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
                "wrong_bits: it sent its model as it is. Put `quant_mod` first into the mods of "
                "its ClientApp, or let it tell no profile.",
            )
        seconds = report.seconds
        payload, update, as_it_is = unpack_update(arrays, model.arrays, decision)
        if isinstance(metrics.get(model.weight_key or ""), int):
            require(update.num_examples == weight, f"examples = {weight:g}", update.num_examples)
        _check_greatest(update.greatest, model)
        values = _moved(update, as_it_is, model)
    return Taken(task, reply, values, update, payload, metrics_key, metrics, weight, seconds)


def _check_greatest(greatest: float, model: RoundModel) -> None:
    require(greatest <= model.limit, f"values <= {model.limit:.4g}", f"{greatest:.4g}")


def _moved(update: Update, as_it_is: Values, model: RoundModel) -> Values:
    """The server's own weights, moved by an update."""
    moved: dict[str, NDArray[Any]] = {}
    for name, old in model.values.items():
        if name in as_it_is:
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
            _check_greatest(float(np.abs(new - old).max(initial=0)), model)
        values[name] = new
    return values
