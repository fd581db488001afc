"""The end of a round: replies become answers, those that count go to the inner strategy."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from ....allocator.errors import DivergedError
from ...server.inbox import ArrivalStatus
from ..messages.orders import RECORD
from .accounts import Answer
from .metrics import common_metrics, has_metrics, only_metrics, unlike
from .own import ClientUpdate, ServerStrategy
from .replies import RoundModel, Taken

Aggregate = tuple[ArrayRecord | None, MetricRecord | None]


def hand_on(
    inner: Strategy, number: int, model: RoundModel, answers: Sequence[Answer]
) -> Aggregate:
    """Gives the inner strategy what counts, and settles shares and refusals.

    Args:
        inner: The strategy.
        number: Of the round.
        model: That was sent.
        answers: Of the round, in the order of names; those that turn out not to count are changed.

    Returns:
        The new model, of the names, shapes and types of the old; None if it stays. Metrics.

    Raises:
        ValueError: If the inner strategy gives another model.
    """
    contents = _agreed(model, answers)
    if not contents:
        return None, None
    total = sum(taken.weight for _, taken, _ in contents)
    for answer, taken, _ in contents:
        answer.share = taken.weight / total
    if isinstance(inner, ServerStrategy):
        return _combine(inner, number, model, contents)
    arrays, metrics = inner.aggregate_train(
        number, [_reply(taken, content) for _, taken, content in contents]
    )
    reason = "the inner strategy gave no model"
    if arrays is not None:
        arrays, reason = _like(arrays, model), "the inner strategy's model is not finite"
    if arrays is None:
        _stay(contents, reason)
    return arrays, metrics


_Contents = list[tuple[Answer, Taken, RecordDict]]


def _agreed(model: RoundModel, answers: Sequence[Answer]) -> _Contents:
    """The answers that count, each as one record of arrays and one of equal metrics."""
    taken = [(a, a.result) for a in answers if isinstance(a.result, Taken)]
    if not taken:
        return []
    form = common_metrics([result.metrics for _, result in taken])
    names = Counter(result.metrics_key for _, result in taken)
    name = max(names, key=lambda key: (names[key], key))
    contents: _Contents = []
    for answer, result in taken:
        if not has_metrics(result.metrics, form):
            answer.result = result.refused(f"malformed: {unlike(result.metrics, form)}")
            continue
        content = RecordDict(
            {model.key: ArrayRecord({n: Array(v) for n, v in result.values.items()})}
        )
        if name:
            content[name] = only_metrics(result.metrics, form)
        for key, record in result.reply.content.config_records.items():
            if key not in (RECORD, model.key, name):
                content[key] = record
        contents.append((answer, result, content))
    return contents


def _reply(taken: Taken, content: RecordDict) -> Message:
    """The reply with other content; the one that came stays as it is."""
    reply = copy.copy(taken.reply)
    reply.content = content
    return reply


def _combine(
    inner: ServerStrategy, number: int, model: RoundModel, contents: _Contents
) -> Aggregate:
    """By fedhq's own server, from the payloads themselves."""
    updates = [
        ClientUpdate(
            values=taken.values,
            num_examples=taken.update.num_examples if taken.update else round(taken.weight),
            content=content,
            payload=taken.payload,
            client=answer.task.member.client,
            wire_bits=answer.task.strategy.wire_bits,
        )
        for answer, taken, content in contents
    ]
    try:
        arrays, metrics, receipts = inner.aggregate_updates(number, model.arrays, updates)
    except DivergedError as error:
        _stay(contents, str(error))
        return None, None
    for (answer, taken, _), receipt in zip(contents, receipts, strict=True):
        answer.share = receipt.share
        if receipt.status is not ArrivalStatus.OK:
            answer.result = taken.refused(f"{receipt.status}: {receipt.detail}")
    if arrays is None:
        _stay(contents, "no update weighs anything")
    return arrays, metrics


def _stay(contents: _Contents, reason: str) -> None:
    for answer, taken, _ in contents:
        answer.share = 0.0
        if answer.result is taken:
            answer.result = taken.refused(f"the weights stay: {reason}")


def _like(arrays: ArrayRecord, model: RoundModel) -> ArrayRecord | None:
    """A model in the names' order and the types of the old one; None if it is not finite."""
    new: dict[str, NDArray[Any]] = {name: array.numpy() for name, array in arrays.items()}
    forms = {name: values.shape for name, values in new.items()}
    expected = {name: values.shape for name, values in model.values.items()}
    if forms != expected:
        wrong = sorted(k for k in {*forms, *expected} if forms.get(k) != expected.get(k))
        raise ValueError(
            f"`the model keeps its tensors` must hold, but the inner strategy gave {wrong[0]!r} "
            f"the shape {forms.get(wrong[0])}, and it was {expected.get(wrong[0])}."
        )
    if not all(np.isfinite(v).all() for v in new.values() if v.dtype.kind == "f"):
        return None
    if [(n, v.dtype) for n, v in new.items()] == [(n, v.dtype) for n, v in model.values.items()]:
        return arrays
    return ArrayRecord(
        {name: Array(_as_type(new[name], old.dtype)) for name, old in model.values.items()}
    )


def _as_type(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Counters that were averaged are whole again."""
    whole = np.rint(values) if dtype.kind in "iu" and values.dtype.kind == "f" else values
    return np.asarray(whole.astype(dtype, copy=False))
