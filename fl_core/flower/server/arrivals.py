"""What is there when a round closes, and what comes later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flwr.app import Message

from ...records.records import ClientRecord
from .accounts import Answer, OpenRound, late_result
from .grid import FleetGrid, LateReply
from .replies import Order, Refused, payload_bytes, read_reply


class Arrivals:
    """Makes answers of replies, and remembers the orders that have none."""

    def __init__(self) -> None:
        self._overdue: dict[str, Order] = {}

    def answers(
        self,
        opened: OpenRound,
        replies: Mapping[Order, Message],
        seconds: float,
        fleet: FleetGrid | None,
    ) -> list[Answer]:
        """What came of every order; those without a reply are late, or lost with their node.

        Args:
            opened: The round.
            replies: To its orders.
            seconds: How long it lasted.
            fleet: Knows when replies came, and which nodes are there; None where messages went
                another way.
        """
        arrived = fleet.seconds if fleet else {}
        is_complete = len(replies) == len(opened.orders)
        here = set(fleet.inner.get_node_ids()) if fleet and not is_complete else set()
        answers = []
        for order in opened.orders:
            name = order.message.metadata.message_id
            if order in replies:
                reply = replies[order]
                result = read_reply(reply, order, opened.model)
                took = min(arrived.get(name, seconds), seconds)
                answers.append(Answer(order, result, took, payload_bytes(reply)))
                continue
            self._overdue[name] = order
            refused = Refused("late", f"no reply when the round closed after {seconds:.3g} s")
            if order.message.metadata.dst_node_id not in here:
                refused = Refused("dropped", "no reply came, and its node has gone")
            answers.append(Answer(order, refused, seconds))
        return answers

    def busy(self, fleet: FleetGrid) -> dict[int, int]:
        """Nodes whose reply to an earlier round may still come, and that round."""
        self._overdue = {k: o for k, o in self._overdue.items() if fleet.is_awaited(k)}
        orders = self._overdue.values()
        return {o.message.metadata.dst_node_id: o.round_number for o in orders}

    def late_lines(self, late: Sequence[LateReply], round_number: int) -> list[ClientRecord]:
        """Lines of replies to earlier rounds, which do not count.

        Args:
            late: Whatever came late.
            round_number: In which it came.
        """
        lines = []
        for one in late:
            order = self._overdue.pop(one.message.metadata.reply_to_message_id, None)
            if order is not None:
                result = late_result(one.message, order)
                answer = Answer(order, result, one.seconds, payload_bytes(one.message))
                lines.append(answer.record(round_number, 0.0, ""))
        return lines
