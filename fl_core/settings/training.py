"""How clients train, and for how long."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from .fields import KNOWN_KEYS_ONLY, BelowOne, Count, Finite, Positive, Share


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class TrainingSettings:
    """Local SGD, and the rounds of it.

    Args:
        rounds: Communication rounds.
        local_epochs: Passes over a client's data in a round.
        local_steps: Steps in a round, in place of whole passes.
        batch_size: Examples per step.
        learning_rate: At the start; it falls as a half cosine over the rounds.
        momentum: Of the local SGD; starts afresh every round.
        proximal: Strength of the pull towards the received weights (FedProx, arXiv 1812.06127).
        precision: float32; or bfloat16 of what gains by it: convolutions on the CPU (weights,
            gradients of weights and all else stay float32), torch's autocast on CUDA.
        device: Where clients train, as torch names it: `cpu`, `cuda`, `cuda:1`.
        clients_together: Clients of a kind (float, or QAT of equal bits) that train stacked, a step
            of all in one call; not for networks that torch.func.vmap does not take (recurrent
            ones, attention). The bytes do not depend on workers, and differ in the last bits from
            those of another value. It pays where steps are short (8 x 8 images), from 8 on.
        threads: Threads of torch's operators in every process. Sums are taken in another order
            with another number, so results are the same bytes only for equal numbers.
        evaluate_every: Rounds between evaluations as deployed; the last is always evaluated.
        stop_at_accuracy: Deployed accuracy with which the run ends before its last round.
        checkpoint_every: Rounds between checkpoints.
        downlink_bits: Bits per weight of the model that clients receive: 4 to 8, rounded at random
            per row, or 32. Fewer do harm (digits, half the clients on qat-w2a2, three seeds: float
            accuracy .87 at 32 and from 8 to 4 bits, but .82 at 3 and .59 at 2).
        error_feedback: Whether a client's next upload makes up for what rounding took from its
            last, from 3 wire bits on. It costs 4 bytes per parameter and client heard so far, in
            memory and in every checkpoint. Off: nothing is kept of a client from round to round,
            for fleets too large to remember.
    """

    rounds: Count = 30
    local_epochs: Count = 1
    local_steps: Count | None = None
    batch_size: Count = 32
    learning_rate: Positive = 0.1
    momentum: BelowOne = 0.0
    proximal: Annotated[Finite, Field(ge=0)] = 0.0
    precision: Literal["float32", "bfloat16"] = "float32"
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    clients_together: Annotated[Count, Field(le=256)] = 1
    threads: Count = 1
    evaluate_every: Count = 1
    stop_at_accuracy: Share | None = None
    checkpoint_every: Count = 1
    downlink_bits: Literal[4, 5, 6, 7, 8, 32] = 32
    error_feedback: Annotated[bool, Field(strict=True)] = True
