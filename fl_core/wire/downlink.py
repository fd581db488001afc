"""The downlink: the server's weights, encoded once a round, as every client receives them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...allocator.errors import DivergedError
from ..seeds import Purpose, generator
from ..weights import Weights
from .codec import decode_update, encode_update

SERVER = 2**64 - 1
"""What stands for the server where a payload names its sender."""


@dataclass(frozen=True, eq=False)
class Broadcast:
    """The model of a round.

    Args:
        weights: As clients decode them.
        payload: What each of them receives.
    """

    weights: Weights
    payload: bytes

    @property
    def num_bytes(self) -> int:
        """Length of the payload."""
        return len(self.payload)


def broadcast(weights: Weights, wire_bits: int, round_number: int, seed: int) -> Broadcast:
    """Encodes the server's weights once for all clients of a round, and decodes them.

    The weights themselves are sent, rounded at random per row, so that a client needs nothing of
    earlier rounds. The noise does not add up over rounds: clients train from what they received and
    send the change of that, and the server adds the mean change to its own, unrounded weights.

    Args:
        weights: The server's float weights.
        wire_bits: Bits per element; 32 loses nothing.
        round_number: Round.
        seed: Root of the federation's randomness.

    Raises:
        DivergedError: If a weight is NaN or infinite.

    Example:
        >>> sent = broadcast({"w": np.array([7, -7, 1], np.float32)}, 4, round_number=1, seed=0)
        >>> sent.weights["w"].tolist(), sent.num_bytes
        ([7.0, -7.0, 1.0], 62)
    """
    payload = encode_model(weights, wire_bits, round_number, seed)
    received = decode_update(payload, weights).coded
    return Broadcast({name: coded.decode() for name, coded in received.items()}, payload)


def encode_model(weights: Weights, wire_bits: int, round_number: int, seed: int) -> bytes:
    """The payload of `broadcast`, where nobody asks what clients decode.

    Args:
        weights: As in `broadcast`, like the arguments below.
        wire_bits: Bits per element.
        round_number: Round.
        seed: Root of the federation's randomness.

    Raises:
        DivergedError: If a weight is NaN or infinite.
    """
    wrong = sorted(name for name, values in weights.items() if not np.isfinite(values).all())
    if wrong:
        raise DivergedError(
            f"`all weights are finite` must hold for the model of round {round_number}, but those "
            f"of {wrong[0]!r} are not. Lower `learning_rate`: training diverged."
        )
    return encode_update(
        weights,
        wire_bits=wire_bits,
        round_number=round_number,
        client=SERVER,
        num_examples=0,
        rng=generator(seed, Purpose.DOWNLINK, round_number),
    )
