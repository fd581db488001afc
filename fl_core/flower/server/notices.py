"""What whoever runs a server reads in its log: why replies do not count, who is planned no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from logging import INFO, WARNING

from flwr.supercore import log

from ...records.records import ClientRecord, RoundRecord
from .roster import Member

_MOST_REASONS = 10
"""Of a round; clients write some of them, and all are in the records."""

_PLAIN = (
    "fedhq: plain clients get and send floats, and are never planned. If that is not meant, make "
    "their app with `register_profile(ClientApp(mods=[quant_mod]))`."
)


class Notices:
    """Says a thing once: of a client when it becomes plain, of a round each reason."""

    def __init__(self) -> None:
        self._said: dict[int, str] = {}

    def of_members(self, members: Iterable[Member]) -> None:
        """Warns of those that are plain, and were not before or for another reason.

        Args:
            members: Who is connected.
        """
        fresh: list[str] = []
        for member in members:
            if member.profile is None and self._said.get(member.client) != member.reason:
                self._said[member.client] = member.reason
                fresh.append(f"plain: {member.reason}")
        for text in _told(fresh):
            log(WARNING, "fedhq: %s", text)
        if fresh:
            log(WARNING, _PLAIN)

    def of_round(self, record: RoundRecord, lines: Sequence[ClientRecord], asked: int) -> None:
        """Says how many replies count, and warns of every reason why others do not.

        Args:
            record: Of the round.
            lines: Of its clients.
            asked: Clients that were asked.
        """
        log(INFO, "fedhq: %d of %d replies count", record.used, asked)
        bad = [f"{c.status}: {c.reason}" for c in lines if c.status not in ("ok", "skipped")]
        for text in _told(bad):
            log(WARNING, "fedhq: round %d: %s", record.round, text)


def _told(reasons: Sequence[str]) -> Iterator[str]:
    """Each reason once, after the number of clients: the commonest first, and not too many."""
    counted = Counter(reasons).most_common()
    for reason, count in counted[:_MOST_REASONS]:
        yield f"{count} client{'s' * (count > 1)} {reason}"
    if len(counted) > _MOST_REASONS:
        yield f"and {len(counted) - _MOST_REASONS} other reasons: the records have them all"
