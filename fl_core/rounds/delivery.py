"""What has arrived when a round closes goes to the server; what is still on its way is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...allocator.strategy import Strategy
from ..federation import Federation
from ..records.records import ClientRecord
from ..server.inbox import Arrival, ArrivalStatus
from ..server.server import Applied, Receipt, Server
from ..wire.pending import Pending
from .timeline import Timeline
from .visit import Visit


@dataclass(frozen=True)
class Delivery:
    """What came of a round's payloads.

    Args:
        usable: Updates that the server could use, whether the weights moved or not.
        stale: Records of updates of earlier rounds that arrived in this one.
        pending: Updates that are still on their way.
    """

    usable: int
    stale: list[ClientRecord]
    pending: list[Pending]


def deliver(
    number: int,
    start: float,
    visits: Sequence[Visit],
    timeline: Timeline,
    pending: Sequence[Pending],
    server: Server,
    federation: Federation,
) -> Delivery:
    """Hands the server what has arrived when the round closes, and settles the visits.

    Args:
        number: Of the round.
        start: Simulated time at which it began.
        visits: Of its cohort, with their payloads.
        timeline: When it closes.
        pending: Updates of earlier rounds that are on their way.
        server: Its weights move if the quorum is met.
        federation: Who holds how many examples, and the quorum.
    """
    closes = start + timeline.seconds
    still = [p for p in pending if p.arrives_at > closes]
    arrived = [p for p in pending if p.arrives_at <= closes]
    senders: list[Visit | Pending] = [*arrived]
    arrivals = [Arrival(p.client, p.sent_round, p.payload, _bits(p.strategy)) for p in arrived]
    for visit in visits:
        if visit.payloads and timeline.is_late(visit.client):
            still += _postpone(number, start, visit)
            continue
        senders += [visit] * len(visit.payloads)
        bits = visit.strategy.wire_bits
        arrivals += [Arrival(visit.client, number, payload, bits) for payload in visit.payloads]
    applied = server.apply(number, arrivals, federation.participation.quorum)
    stale = []
    for sender, receipt in zip(senders, applied.receipts, strict=True):
        if isinstance(sender, Pending):
            num_examples = int(federation.num_examples[sender.client])
            stale.append(_stale_record(number, sender, receipt, applied, num_examples))
        elif sender.status != "ok":
            _settle(sender, receipt, applied)
    return Delivery(applied.num_used, stale, still)


def _bits(strategy: str) -> int:
    return Strategy.parse(strategy).wire_bits


def _postpone(number: int, start: float, visit: Visit) -> list[Pending]:
    assert visit.fate is not None
    visit.end("late", "it is taken by the round in which it arrives")
    seconds = visit.fate.seconds
    return [
        Pending(visit.client, number, str(visit.strategy), start + seconds, seconds, payload)
        for payload in visit.payloads
    ]


def _settle(visit: Visit, receipt: Receipt, applied: Applied) -> None:
    """The first payload that is taken counts, else the first reason."""
    reason = _why_not(receipt, applied)
    if reason is None:
        visit.share = receipt.share
        visit.end("ok")
    elif visit.status != "refused":
        visit.end("refused", reason)


def _why_not(receipt: Receipt, applied: Applied) -> str | None:
    """Why an arrival moved no weight; None if it did."""
    if receipt.status is not ArrivalStatus.OK:
        return f"{receipt.status}: {receipt.detail}"
    if not applied.changed:
        return f"the weights stay: {applied.num_used} usable updates are too few"
    return None


def _stale_record(
    number: int, pending: Pending, receipt: Receipt, applied: Applied, num_examples: int
) -> ClientRecord:
    reason = _why_not(receipt, applied)
    return ClientRecord(
        round=number,
        client=pending.client,
        strategy=pending.strategy,
        status="refused" if reason else "stale",
        reason=reason,
        num_examples=num_examples,
        seconds=pending.seconds,
        uplink_bytes=0,
        downlink_bytes=0,
        energy_joules=0.0,
        train_loss=None,
        share=0.0 if reason else receipt.share,
        staleness=number - pending.sent_round,
    )
