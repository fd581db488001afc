"""The start of a round: who of the inner strategy's cohort does what, each in its own message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging import WARNING

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.supercore import log

from ....allocator.controller import HybridAllocator
from ...settings import QuantizationSettings
from ...wire.header import WIRE_BITS
from ..messages.fields import MOST_INT
from ..messages.orders import RECORD, Decision
from ..messages.packing import pack_model
from .accounts import OpenRound
from .inner import copied
from .replies import Task, payload_bytes
from .roster import Member, Roster

Asked = tuple[Message, Member]
"""The inner strategy's message, and whom it is for."""


@dataclass(frozen=True)
class Wire:
    """What all decisions share.

    Args:
        downlink_bits: Bits per element of the model.
        quantization: How QAT quantizes.
        seed: Root of the federation's randomness.

    Raises:
        ValueError: If bits or seed are out of range.
    """

    downlink_bits: int
    quantization: QuantizationSettings
    seed: int

    def __post_init__(self) -> None:
        if self.downlink_bits not in WIRE_BITS:
            raise ValueError(
                f"`downlink_bits` must be one of {WIRE_BITS}, but got {self.downlink_bits}."
            )
        if not 0 <= self.seed <= MOST_INT:
            raise ValueError(f"`0 <= seed <= {MOST_INT}` must hold, but got {self.seed}.")


def asked_members(messages: Sequence[Message], roster: Roster) -> list[Asked]:
    """Whom the inner strategy asks, in the order of names.

    Raises:
        ValueError: If two messages go to one node.
    """
    by_node = {m.metadata.dst_node_id: m for m in messages}
    if len(by_node) < len(messages):
        raise ValueError(
            "a strategy must send a node one message a round, but sends "
            f"{len(messages)} to {len(by_node)} nodes. Send them in rounds of their own."
        )
    return [(by_node[node], roster.member(node)) for node in roster.ordered(by_node)]


def plan(
    opened: OpenRound,
    asked: Sequence[Asked],
    busy: Mapping[int, int],
    allocator: HybridAllocator,
    wire: Wire,
) -> None:
    """Fills a round with tasks, and with clients that are idle.

    Args:
        opened: The round.
        asked: Whom the inner strategy asks.
        busy: Nodes whose reply to an earlier round may still come, and that round: they are left
            alone, unless nobody else is there, since rounds without anybody would rush by.
        allocator: Decides.
        wire: What all decisions share.
    """
    if {message.metadata.dst_node_id for message, _ in asked} <= busy.keys():
        busy = {}
    cohort: dict[int, Asked] = {}
    for message, member in asked:
        node = message.metadata.dst_node_id
        if node in busy:
            opened.idle.append((member, f"it is still at work on round {busy[node]}"))
        elif member.profile is None:
            sent = payload_bytes(message)
            opened.tasks.append(Task(member, opened.number, message, None, sent))
        else:
            cohort[member.client] = (message, member)
    if cohort:
        _decide(opened, cohort, allocator, wire)
    opened.tasks.sort(key=lambda task: task.member.order)


def _decide(
    opened: OpenRound, cohort: Mapping[int, Asked], allocator: HybridAllocator, wire: Wire
) -> None:
    """Plans those who can be planned; the model is packed once for all of them."""
    clients = sorted(cohort)
    allocation = allocator.plan(opened.number, clients)
    opened.planned_loss = allocation.loss
    if allocator.note:
        log(WARNING, "fedhq: round %d: %s", opened.number, allocator.note)
    model, packed = opened.model, None
    for place, client in enumerate(clients):
        message, member = cohort[client]
        strategy = allocation.strategy(place)
        if strategy.is_skip:
            opened.idle.append((member, None))
            continue
        packed = packed or pack_model(
            model.arrays, model.names, wire.downlink_bits, opened.number, wire.seed
        )
        decision = Decision(
            strategy=strategy,
            deployed=allocator.deployed,
            round_number=opened.number,
            client=client,
            seed=wire.seed,
            arrays_key=model.key,
            downlink_bits=wire.downlink_bits,
            names=model.names,
            quantization=wire.quantization,
            examples_key=model.weight_key or "num-examples",
        )
        own = _own_message(message, model.key, packed, decision)
        sent = payload_bytes(own)
        opened.tasks.append(Task(member, opened.number, own, decision, sent))


def _own_message(message: Message, key: str, packed: ArrayRecord, decision: Decision) -> Message:
    """A client's own message: nothing of it that can be written to is shared with another's."""
    content = RecordDict()
    for name, record in message.content.items():
        content[name] = copied(record) if isinstance(record, ConfigRecord) else record
    content[key] = packed
    content[RECORD] = ConfigRecord(dict(decision.to_record()))
    about = message.metadata
    return Message(
        content,
        about.dst_node_id,
        about.message_type,
        ttl=about.ttl,
        group_id=about.group_id or str(decision.round_number),
    )
