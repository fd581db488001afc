"""What the server tells a client beside the model, and what a client says of its training.

Both travel as a `ConfigRecord` named `fedhq` next to the app's own records, so that a client
without the mod, and a server without the strategy, never notice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from ....allocator.errors import FedHQError
from ....allocator.strategy import Strategy
from ...settings import QuantizationSettings
from ...wire.header import WIRE_BITS
from .fields import MOST_INT, Fields, refuse

RECORD = "fedhq"
"""Name of our record in messages and replies, and of the array that holds a payload."""

VERSION = 1
"""Of this contract; a client of another refuses."""

QUERY = "query.fedhq"
"""Type of the message that asks for a client's profile."""

CANNOT = "fedhq:"
"""How the reason of an error reply begins if the client cannot do what was decided: the server
then never decides that again for it. Any other error is one of the round alone."""


MOST_TENSORS = 100_000
MOST_NAME_CHARS = 1024
_MOST_SETTINGS_CHARS = 1 << 16
_MOST_TEXT_CHARS = 1 << 24
_SETTINGS = TypeAdapter(QuantizationSettings)


class CannotError(FedHQError):
    """This client cannot do what was decided for it, now or later; made by `cannot`."""


def cannot(reason: str) -> CannotError:
    """The error whose text, in Flower's error reply, tells the server not to ask again.

    Example:
        >>> str(cannot("too little memory for qat-w2a2."))
        'fedhq: too little memory for qat-w2a2.'
    """
    return CannotError(f"{CANNOT} {reason}")


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
        examples_key: Name of the reply's metric that says how many examples were trained on.

    Raises:
        ValueError: If the strategy is skip, or a number or bits are out of range.
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
    examples_key: str = "num-examples"

    def __post_init__(self) -> None:
        if self.strategy.is_skip:
            raise ValueError("`strategy` must train, but is skip: send such a client no message.")
        if self.downlink_bits not in WIRE_BITS:
            raise ValueError(
                f"`downlink_bits` must be one of {WIRE_BITS}, but got {self.downlink_bits}."
            )
        ranges = {"round_number": 2**32 - 1, "client": MOST_INT, "seed": MOST_INT}
        for name, most in ranges.items():
            if not 0 <= (value := getattr(self, name)) <= most:
                raise ValueError(f"`0 <= {name} <= {most}` must hold, but got {value}.")
        if len(set(self.names)) < len(self.names) or len(self.names) > MOST_TENSORS:
            raise ValueError(
                f"`names` must be at most {MOST_TENSORS} different names, but got "
                f"{len(self.names)}, {len(set(self.names))} of them different."
            )

    def to_record(self) -> Mapping[str, int | float | str | list[str]]:
        """The values of its `ConfigRecord`.

        Example:
            >>> parse = Strategy.parse
            >>> decision = Decision(
            ...     parse("qat-w2a2"), parse("qat-w2a2"), 3, 7, 0, "arrays", 32,
            ...     ("weight",), QuantizationSettings())
            >>> Decision.from_record(decision.to_record()) == decision
            True
        """
        record: dict[str, int | float | str | list[str]] = {
            "version": VERSION,
            "strategy": str(self.strategy),
            "deployed": str(self.deployed),
            "round": self.round_number,
            "client": self.client,
            "seed": self.seed,
            "arrays-key": self.arrays_key,
            "examples-key": self.examples_key,
            "downlink-bits": self.downlink_bits,
            "quantization": _SETTINGS.dump_json(self.quantization).decode(),
        }
        # Flower cannot count the bytes of an empty list.
        return {**record, "names": list(self.names)} if self.names else record

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> Decision:
        """Reads a record.

        Raises:
            WireError: If it is none, or of another version.
        """
        fields = Fields(record, "a decision")
        fields.version(VERSION)
        strategy, deployed = fields.strategy("strategy"), fields.strategy("deployed")
        numbers = {
            "round_number": fields.whole("round", most=MOST_INT),
            "client": fields.whole("client", most=MOST_INT),
            "seed": fields.whole("seed", most=MOST_INT),
            "downlink_bits": fields.whole("downlink-bits", most=32),
        }
        quantization = _read_settings(fields.text("quantization", _MOST_SETTINGS_CHARS))
        return fields.build(
            lambda: cls(
                strategy=strategy,
                deployed=deployed,
                arrays_key=fields.text("arrays-key", MOST_NAME_CHARS),
                examples_key=fields.text("examples-key", MOST_NAME_CHARS),
                names=fields.texts("names", MOST_TENSORS, MOST_NAME_CHARS),
                quantization=quantization,
                **numbers,
            )
        )


def _read_settings(text: str) -> QuantizationSettings:
    try:
        return _SETTINGS.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise refuse("a decision", f"quantization is settings: {first['msg']}", text) from None


@dataclass(frozen=True)
class Report:
    """What a client says of its training, beside the update and the app's own metrics.

    Args:
        seconds: From receiving the message until the update was packed, by the client's clock; None
            where nobody measured it.
        is_packed: Whether the update was packed; under secure aggregation it is not.
    """

    seconds: float | None
    is_packed: bool = True

    def to_record(self) -> Mapping[str, int | float]:
        """The values of its `ConfigRecord`; what is not told is not there.

        Example:
            >>> Report.from_record(Report(1.5).to_record())
            Report(seconds=1.5, is_packed=True)
        """
        record: dict[str, int | float] = {"version": VERSION, "packed": self.is_packed}
        return record if self.seconds is None else {**record, "seconds": self.seconds}

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> Report:
        """Reads a record.

        Raises:
            WireError: If it is none, or of another version.
        """
        fields = Fields(record, "a report")
        fields.version(VERSION)
        seconds = fields.number("seconds") if "seconds" in record else None
        if seconds is not None and seconds < 0:
            raise refuse("a report", "seconds >= 0", seconds)
        return cls(seconds, fields.flag("packed"))


def as_text(record: Mapping[str, object]) -> str:
    """A record as JSON, for the legacy API, whose messages have no records of their own."""
    return json.dumps(dict(record))


def read_text(text: object, what: str) -> Mapping[str, object]:
    """The record that `as_text` gave.

    Args:
        text: Whatever came.
        what: What it should be, for errors.

    Raises:
        WireError: If it is no JSON object.
    """
    if isinstance(text, str) and len(text) <= _MOST_TEXT_CHARS:
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            return record
    raise refuse(what, f"it is a JSON object of at most {_MOST_TEXT_CHARS} characters", text)
