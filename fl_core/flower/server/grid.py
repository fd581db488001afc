"""A grid around Flower's: nodes in a stable order, rounds with a deadline, late replies noticed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

_LEAST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 1.0
_PAUSE_SHARE = 0.01
"""Of the time that was waited so far: looking seldom never lengthens a round by more."""


@dataclass(frozen=True, eq=False)
class LateReply:
    """A reply that came after its round had closed.

    Args:
        message: The reply.
        seconds: From sending its message until it was noticed.
    """

    message: Message
    seconds: float


class FleetGrid(Grid):
    """Flower's grid with an eye on the clock.

    It asks for replies in short intervals, and goes on asking for those that a deadline cut off.

    Args:
        grid: Flower's.
        meet: Brings node ids in order; it may ask the new ones, through this grid.
        deadline_seconds: After which a round of training closes; only the caller's time limit
            where None.
    """

    def __init__(
        self,
        grid: Grid,
        meet: Callable[[FleetGrid, Sequence[int]], list[int]],
        deadline_seconds: float | None = None,
    ) -> None:
        self.inner = grid
        self._meet = meet
        self._deadline = deadline_seconds
        self._sent_at: dict[str, float] = {}
        self._overdue: set[str] = set()
        self._late: list[LateReply] = []
        self._asked: dict[int, str] = {}
        self.seconds: dict[str, float] = {}
        """From sending a message, by its id, until its reply was here; of the last exchange."""

    def set_run(self, run: Run) -> None:
        """As Flower's."""
        self.inner.set_run(run)

    @property
    def run(self) -> Run:
        """As Flower's."""
        return self.inner.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """As Flower's."""
        return self.inner.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """As Flower's, in the order of Flower's."""
        return self.inner.get_nodes()

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are connected, in the order of their names."""
        return self._meet(self, list(self.inner.get_node_ids()))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As Flower's; without a place for those that could not be sent."""
        now = time.monotonic()  # the first may be at work before the last is sent
        sent = [name for name in self.inner.push_messages(list(messages)) if name]
        self._sent_at.update(dict.fromkeys(sent, now))
        return sent

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """As Flower's."""
        return self.inner.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Sends, and waits for all replies, the time limit, or if it trains the deadline."""
        asked = list(messages)
        limits = [timeout]
        if any(m.metadata.message_type.partition(".")[0] == "train" for m in asked):
            limits.append(self._deadline)
        return self.exchange(asked, min((s for s in limits if s is not None), default=None))

    def exchange(self, messages: Sequence[Message], seconds: float | None) -> list[Message]:
        """Sends messages and waits for their replies, no longer than some seconds.

        Args:
            messages: To send.
            seconds: How long to wait; without end where None.

        Returns:
            The replies, as they came. Those that come later are `take_late`'s.
        """
        start = time.monotonic()
        self.seconds = {}
        waiting = set(self.push_messages(messages)) if messages else set()
        self._asked = {m.metadata.dst_node_id: m.metadata.message_id for m in messages}
        replies: list[Message] = []
        while waiting:
            replies += self._collect(waiting)
            waited = time.monotonic() - start
            left = float("inf") if seconds is None else seconds - waited
            if not waiting or left <= 0:
                break
            pause = max(_LEAST_PAUSE_SECONDS, min(_PAUSE_SHARE * waited, _LONGEST_PAUSE_SECONDS))
            time.sleep(min(pause, left))
        self._overdue |= waiting
        return replies

    def take_late(self) -> list[LateReply]:
        """What has come of earlier exchanges; does not wait."""
        if self._overdue:
            self._collect(set())
        late, self._late = self._late, []
        return late

    def is_awaited(self, message_id: str) -> bool:
        """Whether a message was sent, and its reply may still come."""
        return message_id in self._overdue

    def _collect(self, waiting: set[str]) -> list[Message]:
        """What is there: replies to those that wait, which then no longer do; late ones aside."""
        replies = []
        for reply in self.pull_messages(waiting | self._overdue):
            name = reply.metadata.reply_to_message_id
            if reply.has_error() and name not in waiting | self._overdue:
                # a mod's error, which answers its client's reply: nothing else will come
                name = self._asked.get(reply.metadata.src_node_id, name)
            seconds = time.monotonic() - self._sent_at.pop(name, time.monotonic())
            if name in self._overdue:
                self._overdue.discard(name)
                self._late.append(LateReply(reply, seconds))
                continue
            waiting.discard(name)
            self.seconds.setdefault(name, seconds)
            replies.append(reply)
        return replies
