"""How updates reach the server: rounded, with error feedback, over a channel that may fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..seeds import Purpose, generator
from ..weights import Weights
from ..wire.codec import encode_with_feedback
from ..wire.rounding import RAW_BITS

MIN_FEEDBACK_BITS = 3
"""At 2 bits the noise of a row exceeds the row, and its residual would grow (see `wire.codec`)."""

Channel = Callable[[int, int, bytes], Sequence[bytes]]
"""From round, client and payload to what arrives: nothing, the payload, or whatever else."""


def clear_channel(round_number: int, client: int, payload: bytes) -> Sequence[bytes]:
    """A channel that delivers what is sent, once."""
    return (payload,)


class Uplink:
    """The clients' side of the wire.

    Args:
        seed: Root of the federation's randomness.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.residuals: dict[int, Weights] = {}
        """Per client, what error feedback still owes."""

    def send(
        self, round_number: int, client: int, wire_bits: int, update: Weights, num_examples: int
    ) -> bytes:
        """Writes an update, with error feedback where that does not grow without bound.

        Raises:
            WireError: If a value is not finite; the residual stays as it was.
        """
        feeds_back = MIN_FEEDBACK_BITS <= wire_bits < RAW_BITS
        payload, left = encode_with_feedback(
            update,
            self.residuals.get(client) if feeds_back else None,
            wire_bits=wire_bits,
            round_number=round_number,
            client=client,
            num_examples=num_examples,
            rng=generator(self._seed, Purpose.WIRE, round_number, client),
        )
        if feeds_back:
            self.residuals[client] = left
        return payload
