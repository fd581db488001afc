"""What hostile clients send over a trainer's channel."""

import pickle
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fedhq.fl_core.rounds.uplink import Channel
from fedhq.fl_core.weights import Weights
from fedhq.fl_core.wire.codec import Update, decode_update, encode_update

CHECKSUM = slice(12, 16)
BODY = slice(40, 48)


class Pickled:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return self.path.touch, ()


def encoded(update: Update, tensors: Weights, bits: int = 32, **changes: int) -> bytes:
    """Other values, bits, client, round or examples in an update that is sound otherwise."""
    about = {
        "round_number": update.round_number,
        "client": update.client,
        "num_examples": update.num_examples,
    }
    rng = np.random.default_rng(update.round_number)
    return encode_update(tensors, wire_bits=bits, rng=rng, **{**about, **changes})


def signed(payload: bytes, changes: Sequence[tuple[slice, bytes]] = ()) -> bytes:
    """Bytes replaced, and the checksum set right."""
    data = bytearray(payload)
    for place, new in changes:
        data[place] = new
    data[CHECKSUM] = bytes(4)
    data[CHECKSUM] = struct.pack("<I", zlib.crc32(data))
    return bytes(data)


def with_value(update: Update, tensors: Weights, value: float) -> bytes:
    """The last float of the payload replaced."""
    return signed(encoded(update, tensors), [(slice(-4, None), struct.pack("<f", value))])


def huge(update: Update, tensors: Weights) -> bytes:
    """All values far beyond what training gives, at the width that was told."""
    far = {name: np.full_like(values, 1e5) for name, values in tensors.items()}
    return encoded(update, far, update.wire_bits)


def misshapen(update: Update, tensors: Weights) -> bytes:
    """Every tensor transposed."""
    return encoded(update, {name: np.ascontiguousarray(t.T) for name, t in tensors.items()})


def in_float64(update: Update, tensors: Weights) -> bytes:
    """A body twice as long, of doubles."""
    payload = encoded(update, tensors)
    start = len(payload) - sum(t.nbytes for t in tensors.values())
    body = b"".join(t.astype(np.float64).tobytes() for t in tensors.values())
    return signed(payload[:start] + body, [(BODY, struct.pack("<Q", len(body)))])


def of_terabytes(update: Update, tensors: Weights) -> bytes:
    """Dims of 2**32 - 1 each and a body of 2**62 bytes, by its own account."""
    payload = encoded(update, tensors)
    greatest = struct.pack("<I", 2**32 - 1)
    return signed(payload, [(BODY, struct.pack("<Q", 2**62)), (slice(52, 56), greatest)])


def with_flipped_bits(payload: bytes, seed: int) -> bytes:
    """Three bits flipped, anywhere."""
    data = bytearray(payload)
    for at in np.random.default_rng(seed).choice(8 * len(data), 3, replace=False):
        data[at // 8] ^= 1 << (at % 8)
    return bytes(data)


class Attack:
    """A channel on which each client sends something else that no server may take.

    Args:
        template: Weights of the model.
        folder: Where a pickle would leave a file.
        is_silent: Whether nothing is sent in place of it.
    """

    def __init__(self, template: Weights, folder: Path, is_silent: bool = False) -> None:
        self._template = template
        self._pickle = pickle.dumps(Pickled(folder / "unpickled"))
        self._is_silent = is_silent
        self._first: dict[int, bytes] = {}
        self._last: dict[int, bytes] = {}

    def __call__(self, round_number: int, client: int, payload: bytes) -> Sequence[bytes]:
        first = self._first.setdefault(client, payload)
        last, self._last[client] = self._last.get(client, payload), payload
        names = list(EXPECTED)
        if client >= len(names):
            return [payload]
        name = names[client]
        if name == "twice":
            return [payload, payload]
        if name in ("of the round before", "of the first round") and payload in (first, last):
            return [payload]  # honest as long as there is nothing old to send
        if self._is_silent:
            return []
        update = decode_update(payload, self._template)
        tensors = {key: np.array(values) for key, values in update.tensors.items()}
        made: dict[str, Callable[[], bytes]] = {
            "NaN": lambda: with_value(update, tensors, np.nan),
            "Inf": lambda: with_value(update, tensors, np.inf),
            "huge": lambda: huge(update, tensors),
            "another width": lambda: encoded(update, tensors, 8),
            "another shape": lambda: misshapen(update, tensors),
            "another dtype": lambda: in_float64(update, tensors),
            "of the round before": lambda: last,
            "of the first round": lambda: first,
            "of a round to come": lambda: encoded(update, tensors, round_number=round_number + 1),
            "in another's name": lambda: encoded(update, tensors, client=client + 1),
            "more examples": lambda: encoded(update, tensors, num_examples=10**6),
            "random bytes": lambda: np.random.default_rng(round_number).bytes(len(payload)),
            "nothing": lambda: b"",
            "cut": lambda: payload[: len(payload) // 2],
            "terabytes": lambda: of_terabytes(update, tensors),
            "flipped bits": lambda: with_flipped_bits(payload, round_number),
            "pickle": lambda: self._pickle,
        }
        return [made[name]()]


EXPECTED = {
    "NaN": "malformed",
    "Inf": "malformed",
    "huge": "too_large",
    "another width": "wrong_bits",
    "another shape": "malformed",
    "another dtype": "malformed",
    "twice": "",
    "of the round before": "wrong_round",
    "of the first round": "stale",
    "of a round to come": "future",
    "in another's name": "foreign",
    "more examples": "wrong_examples",
    "random bytes": "malformed",
    "nothing": "malformed",
    "cut": "malformed",
    "terabytes": "malformed",
    "flipped bits": "malformed",
    "pickle": "malformed",
}
"""What each client sends, and why round 3 refuses it where updates may be one round late."""


def flipping(template: Weights, hostile: Sequence[int], factor: float) -> Channel:
    """A channel on which some clients send the opposite of what they learned, times a factor."""

    def channel(round_number: int, client: int, payload: bytes) -> Sequence[bytes]:
        if client not in hostile:
            return [payload]
        update = decode_update(payload, template)
        tensors = {name: -np.float32(factor) * values for name, values in update.tensors.items()}
        return [encoded(update, tensors, update.wire_bits)]

    return channel
