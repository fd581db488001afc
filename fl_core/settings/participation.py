"""Who takes part in a round, and what can go wrong with them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from .fields import KNOWN_KEYS_ONLY, BelowOne, Count, Finite, Positive


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class Slowdown:
    """Some clients take longer than their device's table says: throttled, or described wrongly.

    Args:
        factor: On their time; below 1 they are faster.
        from_round: The first round in which they do.
        until_round: The last; for good where None.
        clients: Their numbers; everybody where empty.

    Raises:
        ValueError: If the last round is before the first, or a client is negative.
    """

    factor: Positive
    from_round: Count = 1
    until_round: Count | None = None
    clients: tuple[Annotated[int, Field(ge=0)], ...] = ()

    def __post_init__(self) -> None:
        if self.until_round is not None and self.until_round < self.from_round:
            raise ValueError(
                "`from_round <= until_round` must hold, but got "
                f"{self.from_round} and {self.until_round}."
            )

    def at(self, round_number: int, client: int) -> float:
        """The factor on a client's time in a round.

        Example:
            >>> halved = Slowdown(2.0, from_round=10, clients=(3,))
            >>> halved.at(9, 3), halved.at(10, 3), halved.at(10, 4)
            (1.0, 2.0, 1.0)
        """
        begun = self.from_round <= round_number
        over = self.until_round is not None and round_number > self.until_round
        concerned = not self.clients or client in self.clients
        return self.factor if begun and not over and concerned else 1.0


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class ParticipationSettings:
    """Who takes part in a round, and what can go wrong with them.

    A client whose update arrives after the round has closed is late: with
    `server.max_staleness > 0` the round in which it arrives takes it, else it is lost.

    Args:
        cohort: Clients that a round wants answers from, at most all; all where None.
        sampling: How they are drawn from those that are online, not busy and hold an example:
            `uniform`, by their `examples`, or by `availability` (how long they will stay online).
        over_selection: Clients asked for each that is wanted (FedScale asks 1.3); the round closes
            with the last answer wanted, whether it then proves usable or not.
        deadline_seconds: When a round closes at the latest; None waits for all.
        quorum: Usable updates without which a round changes nothing.
        dropout: Chance that a client's connection is lost during a round, at any time of it alike.
        jitter: Standard deviation of the logarithm of the factor on a client's time in a round.
        slowdowns: Clients whose true times are not those that the allocator was told; the factors
            of several multiply. A `Federation` refuses those of a client that it does not have.
    """

    cohort: Count | None = None
    sampling: Literal["uniform", "examples", "availability"] = "uniform"
    over_selection: Annotated[Finite, Field(ge=1)] = 1.0
    deadline_seconds: Positive | None = None
    quorum: Count = 1
    dropout: BelowOne = 0.0
    jitter: Annotated[Finite, Field(ge=0)] = 0.0
    slowdowns: tuple[Slowdown, ...] = ()
