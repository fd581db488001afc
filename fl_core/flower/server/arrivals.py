"""What is there when a round closes, and what comes later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flwr.app import Message

from ...records.records import ClientRecord
from .accounts import Answer, OpenRound, late_result
from .grid import FleetGrid, LateReply
from .replies import Refused, Task, payload_bytes, read_reply


class Arrivals:
    """Makes answers of replies, and remembers the tasks that have none."""

    def __init__(self) -> None:
        self._overdue: dict[str, Task] = {}

    def answers(
        self,
        opened: OpenRound,
        replies: Mapping[Task, Message],
        seconds: float,
        fleet: FleetGrid | None,
    ) -> list[Answer]:
        """What came of every task; those without a reply are late, or lost with their node.

        Args:
            opened: The round.
            replies: To its tasks.
            seconds: How long it lasted.
            fleet: Knows when replies came, and which nodes are there; None where messages went
                another way.
        """
        arrived = fleet.seconds if fleet else {}
        is_complete = len(replies) == len(opened.tasks)
        here = set(fleet.inner.get_node_ids()) if fleet and not is_complete else set()
        answers = []
        for task in opened.tasks:
            name = task.message.metadata.message_id
            if task in replies:
                reply = replies[task]
                result = read_reply(reply, task, opened.model)
                took = min(arrived.get(name, seconds), seconds)
                answers.append(Answer(task, result, took, payload_bytes(reply)))
                continue
            self._overdue[name] = task
            refused = Refused("late", f"no reply when the round closed after {seconds:.3g} s")
            if task.message.metadata.dst_node_id not in here:
                refused = Refused("dropped", "no reply came, and its node has gone")
            answers.append(Answer(task, refused, seconds))
        return answers

    def busy(self, fleet: FleetGrid) -> dict[int, int]:
        """Nodes whose reply to an earlier round may still come, and that round."""
        self._overdue = {k: t for k, t in self._overdue.items() if fleet.is_awaited(k)}
        tasks = self._overdue.values()
        return {t.message.metadata.dst_node_id: t.round_number for t in tasks}

    def late_lines(self, late: Sequence[LateReply], round_number: int) -> list[ClientRecord]:
        """Lines of replies to earlier rounds, which do not count.

        Args:
            late: Whatever came late.
            round_number: In which it came.
        """
        lines = []
        for one in late:
            task = self._overdue.pop(one.message.metadata.reply_to_message_id, None)
            if task is not None:
                result = late_result(one.message, task)
                answer = Answer(task, result, one.seconds, payload_bytes(one.message))
                lines.append(answer.record(round_number, 0.0, ""))
        return lines
