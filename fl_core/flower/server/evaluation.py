"""Replies to a round of evaluation that Flower's strategies can combine; what the user measures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from logging import WARNING

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.supercore import log

from ....allocator.errors import WireError
from ....allocator.goal import ServerAccuracy
from ...wire.header import require
from .metrics import common_metrics, has_metrics, only_metrics, read_metrics, unlike
from .roster import short


def sound_evaluations(
    replies: Iterable[Message], nodes: Mapping[str, int], weight_key: str | None
) -> dict[int, Message]:
    """By node, copies of the replies with one record of metrics, the same ones in all.

    What cannot count is logged and left out.

    Args:
        replies: What came.
        nodes: Who was asked, by the id of the message.
        weight_key: Name of the metric that weighs a reply; None if the strategy names none.
    """
    read: dict[int, tuple[Message, str, MetricRecord]] = {}
    for reply in sorted(replies, key=lambda r: (r.metadata.created_at, r.metadata.message_id)):
        node = nodes.get(reply.metadata.reply_to_message_id)
        try:
            error = short(reply.error.reason) if reply.has_error() else ""
            require(not error, "it is no error", error)
            require(node is not None and node not in read, "it answers an open message", node)
            assert node is not None
            read[node] = (reply, *read_metrics(reply, weight_key)[:2])
        except WireError as broken:
            log(WARNING, "the evaluation of node %s does not count: %s", node, broken)
    if not read:
        return {}
    form = common_metrics([metrics for _, _, metrics in read.values()])
    name = min(key for _, key, _ in read.values())
    sound = {}
    for node, (reply, _, metrics) in read.items():
        if not has_metrics(metrics, form):
            why = unlike(metrics, form)
            log(WARNING, "the evaluation of node %s does not count: %s", node, why)
            continue
        sound[node] = copy.copy(reply)
        content = RecordDict()
        for key, record in reply.content.items():
            if not isinstance(record, MetricRecord):
                content[key] = record
        if name:
            content[name] = only_metrics(metrics, form)
        sound[node].content = content
    return sound


def measured_of(
    measure: Callable[[ArrayRecord], ServerAccuracy | None] | None,
    arrays: ArrayRecord | None,
    number: int,
) -> ServerAccuracy | None:
    """What the user's own function measures of a round's model.

    None where there is no model or function, and with a warning where the function fails: its
    failure must not lose a round that clients have trained.

    Args:
        measure: The function.
        arrays: The new model.
        number: Of the round.
    """
    if measure is None or arrays is None:
        return None
    try:
        found = measure(arrays)
    except Exception as error:  # whatever the user's function raises
        why = f"it raised {short(repr(error))}"
    else:
        if found is None or isinstance(found, ServerAccuracy):
            return found
        why = f"it must return a `ServerAccuracy` or None, but gave a {type(found).__name__}"
    log(WARNING, "fedhq: round %d counts as not measured by `measure`: %s", number, why)
    return None
