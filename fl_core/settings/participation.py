"""Who takes part in a round, and what can go wrong with them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from .fields import KNOWN_KEYS_ONLY, BelowOne, Count, Finite, Positive


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
    """

    cohort: Count | None = None
    sampling: Literal["uniform", "examples", "availability"] = "uniform"
    over_selection: Annotated[Finite, Field(ge=1)] = 1.0
    deadline_seconds: Positive | None = None
    quorum: Count = 1
    dropout: BelowOne = 0.0
    jitter: Annotated[Finite, Field(ge=0)] = 0.0
