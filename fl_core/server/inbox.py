"""The inbox: what arrives becomes an update or a reason, and nothing counts twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from ...allocator.errors import WireError
from ..weights import Weights
from ..wire.codec import Update, decode_update

GREATEST_FACTOR = 1000.0
"""Values beyond so many times the greatest weight, or 1, are refused: no training sends them."""


class ArrivalStatus(StrEnum):
    """What became of what arrived."""

    OK = "ok"
    MALFORMED = "malformed"  # no whole, undamaged update of this model
    FOREIGN = "foreign"  # names another sender, or one that the fleet does not have
    DUPLICATE = "duplicate"  # came with another of the same client and round
    REPLAYED = "replayed"  # was taken before
    STALE = "stale"  # started from too old a model
    FUTURE = "future"  # of a round that is still to come
    WRONG_ROUND = "wrong_round"  # names another round than that whose model the client was sent
    WRONG_EXAMPLES = "wrong_examples"  # claims other examples than the server knows of
    WRONG_BITS = "wrong_bits"  # was rounded to another width than the client was told
    TOO_LARGE = "too_large"  # values, or a norm, beyond the limit


@dataclass(frozen=True)
class Arrival:
    """Bytes that came over a client's connection.

    Args:
        client: Whose connection.
        sent_round: Round whose model the server last sent there.
        payload: What `encode_update` gives, or any bytes.
        wire_bits: What the client was told to round to; None where any width will do.
    """

    client: int
    sent_round: int
    payload: bytes
    wire_bits: int | None = None


@dataclass(frozen=True, eq=False)
class Opened:
    """What an arrival turned out to be.

    Args:
        status: Ok, or why it is refused.
        detail: The rule that it breaks, what was found and the mend; empty if it is ok.
        update: What was sent, if it is ok.
    """

    status: ArrivalStatus
    detail: str = ""
    update: Update | None = None


_Broken = tuple[ArrivalStatus, str, object, str]
"""Why an update is refused: status, rule, what was found, mend."""


class Inbox:
    """Reads arrivals and remembers whose updates of which rounds were taken.

    It remembers as far back as updates may be stale: what is older is refused for that.

    Args:
        num_examples: `(clients,)` examples that each client is known to hold.
        max_staleness: Rounds that may lie between an update's round and the current one.

    Example:
        >>> import numpy as np
        >>> inbox = Inbox([100], max_staleness=0)
        >>> opened, = inbox.open(1, [Arrival(0, 1, b"?")], {"w": np.zeros(2, np.float32)})
        >>> str(opened.status), opened.update
        ('malformed', None)
    """

    def __init__(self, num_examples: Iterable[int], max_staleness: int) -> None:
        self._num_examples = tuple(int(count) for count in num_examples)
        self._max_staleness = max_staleness
        self._taken: frozenset[tuple[int, int]] = frozenset()

    @property
    def taken(self) -> list[tuple[int, int]]:
        """Round and client of all that it remembers, sorted."""
        return sorted(self._taken)

    def open(
        self, round_number: int, arrivals: Sequence[Arrival], template: Weights
    ) -> list[Opened]:
        """Reads what arrived, in its order; remembers nothing yet.

        Of several good ones of a client and round the first counts.

        Args:
            round_number: The current round.
            arrivals: Any bytes; nothing is raised for them.
            template: Weights of the model that is trained.
        """
        found: list[Opened] = []
        here: set[tuple[int, int]] = set()
        greatest = max((float(np.abs(w).max(initial=0)) for w in template.values()), default=0.0)
        limit = GREATEST_FACTOR * max(1.0, greatest)
        for arrival in arrivals:
            opened = self._open(round_number, arrival, template, here, limit)
            if opened.update is not None:
                here.add((opened.update.round_number, opened.update.client))
            found.append(opened)
        return found

    def remember(self, round_number: int, updates: Iterable[Update]) -> None:
        """Notes updates as taken, and forgets those that are too old to be let in again."""
        self.restore(round_number, self._taken.union((u.round_number, u.client) for u in updates))

    def restore(self, round_number: int, taken: Iterable[tuple[int, int]]) -> None:
        """Takes up what `taken` gave."""
        oldest = round_number - self._max_staleness
        self._taken = frozenset((number, client) for number, client in taken if number >= oldest)

    def _open(
        self,
        now: int,
        arrival: Arrival,
        template: Weights,
        here: set[tuple[int, int]],
        limit: float,
    ) -> Opened:
        try:
            update = decode_update(arrival.payload, template)
        except WireError as error:
            return Opened(ArrivalStatus.MALFORMED, str(error))
        broken = (
            self._broken_origin(arrival, update)
            or _broken_content(arrival, update, limit)
            or self._broken_time(now, arrival, update, here)
        )
        if broken is None:
            return Opened(ArrivalStatus.OK, update=update)
        status, rule, got, mend = broken
        return Opened(status, f"`{rule}` must hold, but got {got}: {mend}.")

    def _broken_origin(self, arrival: Arrival, update: Update) -> _Broken | None:
        """What an update's sender breaks, if anything."""
        client, num_clients = arrival.client, len(self._num_examples)
        if not 0 <= client < num_clients:
            rule, mend = f"0 <= client < {num_clients}", "enrol the client first"
            return ArrivalStatus.FOREIGN, rule, client, mend
        if update.client != client:
            mend = "look for a client that poses as another"
            return ArrivalStatus.FOREIGN, f"client = {client}", update.client, mend
        known = self._num_examples[client]
        if update.num_examples != known:
            mend = "tell the server how many examples the client holds"
            return ArrivalStatus.WRONG_EXAMPLES, f"examples = {known}", update.num_examples, mend
        return None

    def _broken_time(
        self, now: int, arrival: Arrival, update: Update, here: set[tuple[int, int]]
    ) -> _Broken | None:
        """What an update's round breaks, if anything."""
        number, oldest = update.round_number, now - self._max_staleness
        key, once = (number, update.client), "one update counts for a round and client"
        agree = "check that server and client agree on the round"
        if number > now:
            return ArrivalStatus.FUTURE, f"round <= {now}", number, agree
        if number < oldest:
            mend = "raise `max_staleness` if so slow clients shall count"
            return ArrivalStatus.STALE, f"round >= {oldest}", number, mend
        if key in self._taken:
            return ArrivalStatus.REPLAYED, "round and client are new", key, once
        if key in here:
            return ArrivalStatus.DUPLICATE, "round and client are new", key, once
        if number != arrival.sent_round:
            return ArrivalStatus.WRONG_ROUND, f"round = {arrival.sent_round}", number, agree
        return None


def _broken_content(arrival: Arrival, update: Update, limit: float) -> _Broken | None:
    """What an update's width and values break, if anything."""
    told = arrival.wire_bits
    if told is not None and update.wire_bits != told:
        # What it claims of its rounding would otherwise weigh it (`server.weighting`).
        mend = "look for a client that does as it likes"
        return ArrivalStatus.WRONG_BITS, f"wire_bits = {told}", update.wire_bits, mend
    if update.greatest > limit:
        rule, mend = f"values <= {limit:.4g}", "lower the clients' `learning_rate`"
        return ArrivalStatus.TOO_LARGE, rule, f"{update.greatest:.4g}", mend
    return None
