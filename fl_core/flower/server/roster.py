"""Who is there: nodes, the clients that they are, and the names by which all is ordered."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from flwr.app import ConfigRecord, ConfigRecordValues, Message, RecordDict

from ....allocator.controller import HybridAllocator
from ....allocator.errors import WireError
from ..messages.orders import QUERY, RECORD, VERSION
from ..messages.profile import ClientProfile
from .enrol import Sizes, join, supported

PLAIN_CLIENTS = 1_000_000
"""Plain clients have numbers from here on, apart from those that the allocator plans."""

AWAY_CODES = (3, 4, 5)
"""Of Flower: message, reply or node are unavailable."""

_DIGITS = re.compile(r"(\d+)")

Exchange = Callable[[Sequence[Message], float | None], list[Message]]
"""Sends messages, waits some seconds, gives the replies."""


@dataclass(frozen=True)
class Member:
    """A client.

    Args:
        name: Its own, or of a plain one its node's.
        client: Its number: the allocator's, or one from `PLAIN_CLIENTS` on.
        profile: What it told; None of a plain client, which is never planned.
        reason: Why it is plain; empty otherwise.
    """

    name: str
    client: int
    profile: ClientProfile | None = None
    reason: str = ""

    @property
    def order(self) -> tuple[bool, tuple[str | tuple[int, str], ...], str]:
        """What members are sorted by: planned ones first, each by name."""
        return self.profile is None, natural_order(self.name), self.name


def natural_order(name: str) -> tuple[str | tuple[int, str], ...]:
    """A key that sorts numbers in names by their size.

    Example:
        >>> sorted(["site-10", "site-9", "10", "9"], key=natural_order)
        ['9', '10', 'site-9', 'site-10']
    """
    parts = _DIGITS.split(name)
    for place in range(1, len(parts), 2):
        parts[place] = parts[place].lstrip("0")
    return tuple((len(part), part) if place % 2 else part for place, part in enumerate(parts))


class Roster:
    """All clients that were ever met; each is asked for its profile once.

    A client that comes back as another node, by its name, goes on with its number: as soon as
    Flower no longer lists the node that it was, for until then they are two of one name.

    Args:
        allocator: Clients with a profile join it, those of one call in the order of their names.
        profile_seconds: How long they have to answer. One that answers later joins then.

    Raises:
        ValueError: If the allocator is none or has clients already, or the time is not above 0.
    """

    def __init__(self, allocator: HybridAllocator, profile_seconds: float) -> None:
        if not isinstance(allocator, HybridAllocator):
            raise ValueError(
                f"`allocator` must be a HybridAllocator, but got {type(allocator).__name__}. Make "
                "it with `HybridAllocator.open`."
            )
        if allocator.num_clients:
            raise ValueError(
                "`allocator` must be of a fleet that nobody knows yet, but has "
                f"{allocator.num_clients} clients: no node could be told from another. Make it "
                "with `HybridAllocator.open`."
            )
        if not profile_seconds > 0:
            raise ValueError(f"`profile_seconds > 0` must hold, but got {profile_seconds}.")
        self._allocator = allocator
        self._seconds = profile_seconds
        self._members: dict[int, Member] = {}
        self._nodes: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._again: dict[int, int] = {}
        self._plain: dict[int, int] = {}
        self._twins: dict[int, ClientProfile] = {}

    def member(self, node: int) -> Member:
        """Who a node is; one that was never met is plain, and is asked when it is met."""
        return self._members.get(node) or self._plain_member(
            node, "it was never asked for a profile"
        )

    @property
    def has_met(self) -> bool:
        """Whether anybody was met."""
        return bool(self._members)

    def retire(self, node: int, reason: str) -> None:
        """Makes a client plain."""
        self._set_plain(node, reason)

    def ordered(self, nodes: Iterable[int]) -> list[int]:
        """Nodes in the order of their clients' names."""
        return sorted(nodes, key=lambda node: self.member(node).order)

    def meet(
        self, nodes: Sequence[int], round_number: int, sizes: Sizes, exchange: Exchange
    ) -> list[int]:
        """Asks those that are new, and orders all.

        Args:
            nodes: That are connected.
            round_number: A node that could not be reached in an earlier round is asked again.
            sizes: What the model sends.
            exchange: Sends the question and brings the answers.
        """
        new = [
            n
            for n in nodes
            if n not in self._members or self._again.get(n, round_number) < round_number
        ]
        if new:
            questions = {node: self._question(node) for node in sorted(new)}
            answers = exchange([*questions.values()], self._seconds)
            self._asked |= {q.metadata.message_id: node for node, q in questions.items()}
            for node in new:
                self._again.pop(node, None)
            self.hear(answers, nodes, round_number, sizes)
            for node in sorted(set(new) - self._members.keys()):
                self._set_plain(node, f"it told no profile within {self._seconds:g} s")
        elif self._twins:
            self._enrol({}, set(nodes), sizes)
        return self.ordered(nodes)

    def hear(
        self, answers: Iterable[Message], nodes: Iterable[int], round_number: int, sizes: Sizes
    ) -> None:
        """Takes in profiles; answers to other questions are left alone.

        Args:
            answers: Replies.
            nodes: That are connected.
            round_number: The round.
            sizes: What the model sends.
        """
        told: dict[int, ClientProfile] = {}
        for answer in answers:
            node = self._asked.pop(answer.metadata.reply_to_message_id, None)
            if node is None:
                continue
            profile = self._read(node, answer)
            if isinstance(profile, str):
                self._set_plain(node, profile)
                if answer.has_error() and answer.error.code in AWAY_CODES:
                    self._again[node] = round_number
            else:
                told[node] = profile
        self._enrol(told, set(nodes), sizes)

    def _question(self, node: int) -> Message:
        allocator = self._allocator
        asked: dict[str, ConfigRecordValues] = {
            "version": VERSION,
            "menu": [str(strategy) for strategy in allocator.menu],
            "deployed": str(allocator.deployed),
        }
        return Message(RecordDict({RECORD: ConfigRecord(asked)}), node, QUERY)

    def _read(self, node: int, answer: Message) -> ClientProfile | str:
        """The profile of an answer, or why there is none."""
        if answer.has_error():
            return f"it told no profile: {short(answer.error.reason)}"
        record = answer.content.config_records.get(RECORD)
        if record is None:
            return f"its answer has no record {RECORD!r}"
        try:
            profile = ClientProfile.from_record(record)
        except WireError as error:
            return f"its profile cannot be read: {error}"
        menu = self._allocator.menu
        if not any(
            can and not s.is_skip for can, s in zip(supported(profile, menu), menu, strict=True)
        ):
            return f"it can do nothing of the menu {[str(s) for s in menu]}"
        return profile

    def _enrol(self, told: dict[int, ClientProfile], connected: set[int], sizes: Sizes) -> None:
        """Profiles become members, in the order of names; nobody shares a name.

        Twins keep what they told until one of them is alone.
        """
        told = {node: self._twins.pop(node) for node in connected & self._twins.keys()} | told
        times = Counter(profile.name for profile in told.values())
        fresh: list[tuple[int, ClientProfile]] = []
        for node, profile in sorted(told.items(), key=lambda item: natural_order(item[1].name)):
            holder = self._nodes.get(profile.name)
            if times[profile.name] > 1 or (holder in connected and holder != node):
                self._set_twin(node, profile)
            elif holder is not None:
                self._members[node] = self._members[holder]
                self._nodes[profile.name] = node
                if holder != node:  # should it come back
                    self._set_twin(holder, profile)
            else:
                fresh.append((node, profile))
        if not fresh:
            return
        clients = join(self._allocator, [profile for _, profile in fresh], sizes)
        for client, (node, profile) in zip(clients, fresh, strict=True):
            if isinstance(client, str):
                self._set_plain(node, f"it cannot be planned: {short(client)}")
                continue
            self._members[node] = Member(profile.name, client, profile)
            self._nodes[profile.name] = node

    def _set_twin(self, node: int, profile: ClientProfile) -> None:
        self._twins[node] = profile
        self._set_plain(node, f"another node is named {profile.name!r}, too: give each its own")

    def _set_plain(self, node: int, reason: str) -> None:
        self._members[node] = self._plain_member(node, reason)

    def _plain_member(self, node: int, reason: str) -> Member:
        number = self._plain.setdefault(node, PLAIN_CLIENTS + len(self._plain))
        return Member(f"node {node}", number, None, reason)


def short(text: str | None) -> str:
    """A reason that others wrote, as one short line."""
    return " ".join((text or "no reason given").split())[:_LONGEST_REASON]


_LONGEST_REASON = 300
