"""How a client trains."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from .fields import KNOWN_KEYS_ONLY, BelowOne, Count, Positive


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class TrainingSettings:
    """Federated averaging.

    Args:
        rounds: Communication rounds.
        local_epochs: Passes over a client's data in a round.
        batch_size: Examples per step.
        learning_rate: At the start; it falls as a half cosine over the rounds.
        momentum: Of the local SGD; starts afresh every round.
        cohort: Clients sampled for each round, at most all; all where None.
        evaluate_every: Rounds between evaluations as deployed; the last is always evaluated.
        checkpoint_every: Rounds between checkpoints.
        downlink_bits: Bits per weight of the model that clients receive: 4 to 8, rounded at random
            per row, or 32. Fewer do harm (digits, half the clients on qat-w2a2, three seeds: float
            accuracy .87 at 32 and from 8 to 4 bits, but .82 at 3 and .59 at 2).
    """

    rounds: Count = 30
    local_epochs: Count = 1
    batch_size: Count = 32
    learning_rate: Positive = 0.1
    momentum: BelowOne = 0.0
    cohort: Count | None = None
    evaluate_every: Count = 1
    checkpoint_every: Count = 1
    downlink_bits: Literal[4, 5, 6, 7, 8, 32] = 32
