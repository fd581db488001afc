"""What the server tells a client beside the model, and what a client says of its training.

Both travel as a `ConfigRecord` named `fedhq` next to the app's own records, so that a client
without the mod, and a server without the strategy, never notice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...allocator.strategy import Strategy
from ..settings import QuantizationSettings

RECORD = "fedhq"
"""Name of our record in messages and replies, and of the array that holds a payload."""

VERSION = 1
"""Of this contract; a client of another refuses."""

QUERY = "query.fedhq"
"""Type of the message that asks for a client's profile."""


@dataclass(frozen=True)
class Decision:
    """What the server tells one client to do in a round.

    Args:
        strategy: What it does; not skip: who skips gets no message.
        deployed: The strategy whose bits are deployed.
        round_number: The round.
        client: Its number in the fleet.
        seed: Root of the federation's randomness.
        arrays_key: Name of the `ArrayRecord` that is the model.
        downlink_bits: Bits per element at which the model was sent; 32 sends it as it is.
        names: `(tensors,)` the tensors whose change is coded, in the order of the payload; all
            others travel as they are.
        quantization: How QAT quantizes.
    """

    strategy: Strategy
    deployed: Strategy
    round_number: int
    client: int
    seed: int
    arrays_key: str
    downlink_bits: int
    names: tuple[str, ...]
    quantization: QuantizationSettings

    def to_record(self) -> Mapping[str, int | float | str | list[str]]:
        """The values of its `ConfigRecord`."""
        raise NotImplementedError

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> Decision:
        """Reads a record.

        Raises:
            WireError: If it is none, or of another version.
        """
        raise NotImplementedError
