"""How updates reach the server: rounded, with error feedback, over a channel that may fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..seeds import Purpose, generator
from ..weights import Weights
from ..wire.codec import encode_update, encode_with_feedback
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

    What error feedback owes stays here for every client that was heard: 4 bytes per parameter of
    the model and client.

    Args:
        seed: Root of the federation's randomness.
        error_feedback: Whether a client's next update makes up for the rounding of its last.
    """

    def __init__(self, seed: int, error_feedback: bool = True) -> None:
        self._seed = seed
        self._error_feedback = error_feedback
        self.residuals: dict[int, NDArray[np.float32]] = {}
        """Per client `(values,)` what error feedback still owes: all parameters, one after the
        other in the order of its updates."""

    def send(
        self, round_number: int, client: int, wire_bits: int, update: Weights, num_examples: int
    ) -> bytes:
        """Writes an update, with error feedback where that does not grow without bound.

        Raises:
            WireError: If a value is not finite; the residual stays as it was.
        """
        payload, owed = write_update(
            update,
            self.residuals.get(client),
            wire_bits=wire_bits,
            round_number=round_number,
            client=client,
            num_examples=num_examples,
            seed=self._seed,
            error_feedback=self._error_feedback,
        )
        if owed is not None:
            self.residuals[client] = owed
        return payload


def write_update(
    update: Weights,
    owed: NDArray[np.float32] | None,
    *,
    wire_bits: int,
    round_number: int,
    client: int,
    num_examples: int,
    seed: int,
    error_feedback: bool = True,
) -> tuple[bytes, NDArray[np.float32] | None]:
    """Writes an update, with error feedback where that does not grow without bound.

    Args:
        update: Change of every tensor.
        owed: `(values,)` what error feedback owes, one tensor after the other; None for nothing.
        wire_bits: As in `encode_update`, like the next three.
        round_number: Round.
        client: Client.
        num_examples: Examples behind the update.
        seed: Root of the federation's randomness.
        error_feedback: Whether the update makes up for the rounding of the last.

    Returns:
        The payload, and what is owed then; at widths without feedback as much as before.

    Raises:
        WireError: If a value is not finite.
    """
    rng = generator(seed, Purpose.WIRE, round_number, client)
    if not (error_feedback and MIN_FEEDBACK_BITS <= wire_bits < RAW_BITS):
        payload = encode_update(
            update,
            wire_bits=wire_bits,
            round_number=round_number,
            client=client,
            num_examples=num_examples,
            rng=rng,
        )
        return payload, owed
    payload, left = encode_with_feedback(
        update,
        None if owed is None else _split(owed, update),
        wire_bits=wire_bits,
        round_number=round_number,
        client=client,
        num_examples=num_examples,
        rng=rng,
    )
    rows = [values.ravel() for values in left.values()]
    return payload, np.concatenate(rows) if rows else np.empty(0, np.float32)


def _split(owed: NDArray[np.float32], update: Weights) -> Weights:
    """One vector as tensors like those of an update; views."""
    tensors, start = {}, 0
    for name, values in update.items():
        tensors[name] = owed[start : start + values.size].reshape(values.shape)
        start += values.size
    return tensors
