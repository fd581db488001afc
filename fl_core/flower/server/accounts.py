"""From what came of a round's tasks to its records, and to what the allocator learns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from flwr.app import Message

from ....allocator.controller import HybridAllocator
from ....allocator.goal import Outcome
from ....allocator.strategy import Strategy
from ...records.records import ClientRecord, RoundRecord, WallRecord
from .enrol import Sizes, transfer_seconds
from .replies import PLAIN_STRATEGY, Refused, RoundModel, Taken, Task, payload_bytes, read_error
from .roster import Member

SKIP = Strategy.parse("skip")


@dataclass(eq=False)
class OpenRound:
    """A round that was planned and has not been accounted for.

    Args:
        number: Of the round.
        model: That was sent.
        sizes: What it takes to send it.
        tasks: What was asked, in the order of names.
        idle: Who of the cohort was asked nothing, and why if not by plan.
        planned_loss: What the allocation predicts.
        plan_seconds: What sampling and planning took.
        started: When messages were handed over, by the machine's clock.
    """

    number: int
    model: RoundModel
    sizes: Sizes
    tasks: list[Task] = field(default_factory=list)
    idle: list[tuple[Member, str | None]] = field(default_factory=list)
    planned_loss: float = 0.0
    plan_seconds: float = 0.0
    started: float = 0.0


@dataclass(eq=False)
class Answer:
    """What came of a task.

    Args:
        task: What was asked.
        result: What the reply says.
        seconds: From asking until the reply was here, or the round had closed.
        uplink_bytes: Of the reply.
        share: Of its weight in the round's.
    """

    task: Task
    result: Taken | Refused
    seconds: float
    uplink_bytes: int = 0
    share: float = 0.0

    @property
    def status(self) -> str:
        """Of `records.STATUSES`."""
        return "ok" if isinstance(self.result, Taken) else self.result.status

    def record(self, round_number: int, joules: float, loss_key: str) -> ClientRecord:
        """The line of `clients.jsonl`.

        Args:
            round_number: In which it is recorded; its own, or the one in which it came.
            joules: What it spent.
            loss_key: Name of the metric that is its training loss.
        """
        task, result = self.task, self.result
        is_late = round_number > task.round_number
        reason = result.reason if isinstance(result, Refused) else task.member.reason or None
        profile = task.member.profile
        told = profile.num_examples if profile else 0
        loss = result.metrics.get(loss_key) if isinstance(result, Taken) else None
        return ClientRecord(
            round=round_number,
            client=task.member.client,
            strategy=str(task.strategy),
            status=self.status,
            reason=reason,
            num_examples=round(result.weight) if isinstance(result, Taken) else told,
            seconds=self.seconds,
            uplink_bytes=self.uplink_bytes,
            downlink_bytes=0 if is_late else task.downlink_bytes,
            energy_joules=0.0 if is_late else joules,
            train_loss=float(loss) if isinstance(loss, int | float) else None,
            share=self.share,
            staleness=round_number - task.round_number,
        )


def late_result(reply: Message, task: Task) -> Refused:
    """What a reply is that came after its round had closed."""
    if reply.has_error():
        return read_error(reply)
    return Refused("refused", f"late: it answers round {task.round_number}, which had closed")


def match(
    tasks: Sequence[Task], replies: Iterable[Message]
) -> tuple[dict[Task, Message], list[tuple[Message, Task | None]]]:
    """Which reply answers which task, and those that answer none or one that has an answer.

    Of several the one made first counts, so that the order of arrival does not matter. An error
    that answers no task is its sender's, if that has no other answer: a mod of Flower that refuses
    what leaves a client answers the reply, not what was asked.
    """
    asked = {task.message.metadata.message_id: task for task in tasks}
    answers: dict[Task, Message] = {}
    strays: list[tuple[Message, Task | None]] = []
    for reply in sorted(replies, key=lambda r: (r.metadata.created_at, r.metadata.message_id)):
        task = asked.get(reply.metadata.reply_to_message_id)
        if task is None or task in answers:
            strays.append((reply, task))
        else:
            answers[task] = reply
    by_node = {t.message.metadata.dst_node_id: t for t in tasks if t not in answers}
    for reply, task in [*strays]:
        sender = by_node.get(reply.metadata.src_node_id)
        if task is None and reply.has_error() and sender is not None and sender not in answers:
            answers[sender] = reply
            strays.remove((reply, None))
    return answers, strays


def stray_record(
    round_number: int, reply: Message, task: Task | None, sender: Member
) -> ClientRecord:
    """The line of a reply that nobody asked for."""
    reason = "duplicate: another reply to the same message counts"
    if task is None:
        reason = "foreign: it answers no message that is open"
    member = sender if task is None else task.member
    return ClientRecord(
        round=round_number,
        client=member.client,
        strategy=str(PLAIN_STRATEGY if task is None else task.strategy),
        status="refused",
        reason=reason,
        num_examples=0,
        seconds=0.0,
        uplink_bytes=payload_bytes(reply),
        downlink_bytes=0,
        energy_joules=0.0,
        train_loss=None,
        share=0.0,
        staleness=0,
    )


def idle_record(round_number: int, member: Member, reason: str | None) -> ClientRecord:
    """The line of a client that was asked nothing."""
    return ClientRecord(
        round=round_number,
        client=member.client,
        strategy=str(SKIP),
        status="skipped",
        reason=reason,
        num_examples=member.profile.num_examples if member.profile else 0,
        seconds=0.0,
        uplink_bytes=0,
        downlink_bytes=0,
        energy_joules=0.0,
        train_loss=None,
        share=0.0,
        staleness=0,
    )


def outcome(answer: Answer, sizes: Sizes, allocator: HybridAllocator) -> Outcome | None:
    """What the allocator learns of an answer; nothing of a plain client.

    A client's own clock says how long it trained, since in a simulation clients wait for each
    other; transfers are added at the rates that it told. Nobody can claim more than passed. Of a
    reply that came but is not used no time is learned: it would read as one that was waited for.
    """
    task, result = answer.task, answer.result
    if task.decision is None or task.member.profile is None:
        return None
    seconds: float | None = answer.seconds
    if isinstance(result, Refused) and result.is_sound:
        seconds = None
    elif isinstance(result, Taken) and result.train_seconds is None:
        seconds = None  # a legacy round does not tell when who was done
    elif isinstance(result, Taken) and result.train_seconds is not None:
        column = allocator.menu.index(task.strategy)
        sending = transfer_seconds(task.member.profile, sizes, column)
        seconds = min(result.train_seconds, answer.seconds) + sending
    return Outcome(task.member.client, task.strategy, seconds, isinstance(result, Taken))


def joules(answer: Answer, allocator: HybridAllocator) -> float:
    """What a client spent on training, as predicted from its power; 0 where it is not known."""
    table = allocator.hardware.energy_joules
    if answer.task.decision is None or table is None:
        return 0.0
    column = allocator.menu.index(answer.task.strategy)
    spent = float(table[answer.task.member.client, column])
    return 0.0 if math.isnan(spent) else spent


def round_record(
    opened: OpenRound,
    clients: Sequence[ClientRecord],
    answers: Sequence[Answer],
    seconds: float,
    total_seconds: float,
) -> RoundRecord:
    """The line of `rounds.jsonl`.

    Args:
        opened: The round.
        clients: Its clients' lines.
        answers: What came of its tasks.
        seconds: From handing over its messages until it had closed.
        total_seconds: From the start of the run until then.
    """
    came = [a for a in answers if a.uplink_bytes]
    slowest = max(came, key=lambda a: a.seconds, default=None)
    waited = any(a.status in ("late", "dropped") for a in answers)
    return RoundRecord(
        round=opened.number,
        simulated_seconds=total_seconds,
        round_seconds=seconds,
        waiting_seconds=0.0,
        deployed_accuracy=None,
        float_accuracy=None,
        client_accuracy=None,
        worst_accuracy=None,
        uplink_bytes=sum(c.uplink_bytes for c in clients),
        downlink_bytes=sum(c.downlink_bytes for c in clients),
        energy_joules=math.fsum(c.energy_joules for c in clients),
        planned_loss=opened.planned_loss,
        bottleneck=None if waited or slowest is None else slowest.task.member.client,
        learning_rate=0.0,
        selected=len(opened.tasks) + len(opened.idle),
        used=sum(c.status == "ok" for c in clients),
    )


def wall_record(
    opened: OpenRound, answers: Sequence[Answer], seconds: float, server_seconds: float
) -> WallRecord:
    """The line of `wall.jsonl`; clients' seconds are what their own clocks say."""
    trained = {a.task: a.result.train_seconds or 0.0 for a in answers}
    return WallRecord(
        round=opened.number,
        plan_seconds=opened.plan_seconds,
        train_seconds=seconds,
        server_seconds=server_seconds,
        evaluate_seconds=0.0,
        save_seconds=0.0,
        client_seconds=tuple(trained.get(task, 0.0) for task in opened.tasks)
        + (0.0,) * len(opened.idle),
    )
