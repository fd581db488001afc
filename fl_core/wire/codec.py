r"""The wire codec: an update as bytes, stochastically rounded per row and checked when read.

This layout is version 1 and does not change: what is written here stays readable. All numbers are
little endian. A payload is header, shape table, scales, codes, with no gap between them.

    offset  bytes  field
         0      4  magic b"FHQU"
         4      1  version, 1
         5      1  wire_bits: 2 to 8, or 32
         6      2  flags, 0
         8      4  header_bytes: 48 + length of the shape table
        12      4  checksum: crc32 of the whole payload with this field zeroed
        16      4  round number
        20      4  number of tensors
        24      4  names checksum: crc32 of the tensors' names, UTF-8, joined by b"\0"
        28      4  num_examples
        32      8  client
        40      8  body_bytes: length of scales and codes together
        48      .  shape table: for each tensor its ndim, then its dims, 4 bytes each
         .      .  scales: for each tensor one float32 per row (dim 0 is the rows if ndim >= 2, else
                   there is one row), tensor after tensor; absent with 32 wire bits
         .      .  codes: for each tensor of n elements ceil(n * p / 8) bytes for each power of two
                   p in wire_bits, highest first (5 = 4 + 1)

Names are not sent: the receiver has a template of names and shapes, and all is checked against it.
Header, table and scales are multiples of 4 bytes, so float32 parts are aligned if the payload is.

`rounding` says how floats become codes and codes bytes; `header` reads and writes the rest.
Which of the two neighbours a value is rounded to is the sender's affair: other random numbers are
other bytes of the same layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...allocator.errors import WireError
from ...models.ops.sizes import greatest_level
from . import rounding
from .check import check_fits, check_tensor, extent, is_sound
from .header import WIRE_BITS as WIRE_BITS
from .header import (
    Header,
    check_shape,
    check_wire_bits,
    header_bytes,
    new_header,
    read_header,
    write_payload,
)
from .layout import Layout, make_layout, split_body
from .rounding import Coded, Float32Array

Tensors = Mapping[str, Float32Array]


@dataclass(frozen=True, eq=False)
class Update:
    """What a client sent: the change of its weights, as the receiver sees it.

    Args:
        round_number: Round that the update belongs to.
        client: Who sent it.
        num_examples: Examples that it was trained on.
        layout: Of its payload.
        body: Scales and codes, as they lie in the payload; not to be written to.
        greatest: No value is greater in magnitude.
    """

    round_number: int
    client: int
    num_examples: int
    layout: Layout
    body: NDArray[np.uint8]
    greatest: float

    @property
    def wire_bits(self) -> int:
        """Bits per element that it was sent at."""
        return self.layout.wire_bits

    @cached_property
    def coded(self) -> Mapping[str, Coded]:
        """Name to scales and codes, in the order of the template; views of the body."""
        return MappingProxyType(split_body(self.layout, self.body))

    @cached_property
    def tensors(self) -> Tensors:
        """Name to read-only float32 array, decoded when first asked for."""
        tensors = {name: coded.decode() for name, coded in self.coded.items()}
        for values in tensors.values():
            values.flags.writeable = False
        return MappingProxyType(tensors)


def encoded_bytes(shapes: Iterable[Sequence[int]], wire_bits: int) -> int:
    """Length of an encoded update in bytes: exactly `len(encode_update(...))`.

    Args:
        shapes: Shape of each tensor.
        wire_bits: 2 to 8, or 32 bits per element.

    Raises:
        ValueError: If the bits are not supported or a dimension is negative.

    Example:
        >>> encoded_bytes([(8, 3, 3, 3), (8,)], 4)
        224
    """
    check_wire_bits(wire_bits)
    checked = [check_shape(shape) for shape in shapes]
    return header_bytes(checked) + sum(rounding.coded_bytes(shape, wire_bits) for shape in checked)


def encode_update(
    update: Tensors,
    *,
    wire_bits: int,
    round_number: int,
    client: int,
    num_examples: int,
    rng: np.random.Generator,
) -> bytes:
    """Writes an update as bytes, stochastically rounded to `wire_bits` per row.

    With t = x * (1 / scale) in float32 and scale = absmax of the row / qmax, the level is floor(t)
    plus one with probability t - floor(t): floor(t + u) without the rounding of that sum. It errs
    by less than one scale and its mean is x to within 2**-24 of a scale, besides float32
    arithmetic. Scales are at least 2**-126: smaller values are rounded to multiples of that.

    Args:
        update: Name to finite float32 array of any shape, in an order that the receiver knows.
        wire_bits: 2 to 8, or 32 (raw, nothing is rounded) bits per element.
        round_number: Round, below 2**32.
        client: Client id, below 2**64.
        num_examples: Examples behind the update, below 2**32.
        rng: Source of the rounding; 64 bits are drawn per tensor unless `wire_bits` is 32.

    Raises:
        ValueError: If an argument has a wrong type or range.
        WireError: If a value is NaN or infinite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> update = {"w": np.array([[1, -1], [0, 0]], np.float32)}
        >>> payload = encode_update(update, wire_bits=4, round_number=3, client=7,
        ...                         num_examples=100, rng=rng)
        >>> len(payload), decode_update(payload, update).tensors["w"].tolist()
        (70, [[1.0, -1.0], [0.0, 0.0]])
    """
    header = new_header(wire_bits, round_number, client, num_examples)
    return _encode(update, {}, None, header, rng)


def encode_with_feedback(
    update: Tensors,
    residual: Tensors | None,
    *,
    wire_bits: int,
    round_number: int,
    client: int,
    num_examples: int,
    rng: np.random.Generator,
) -> tuple[bytes, dict[str, Float32Array]]:
    """Writes `update + residual` and returns what rounding left over, for the next round.

    The sum of what the receiver decodes over rounds then differs from the sum of the true updates
    by the residual alone, less than one scale of the last payload (error feedback: Seide et al.
    2014; Karimireddy et al., arXiv 1901.09847). From 3 bits on that scale stays small. At 2 bits
    a row's stochastic noise exceeds the row: with normal updates of standard deviation 1 the
    residual grows until it is about sqrt(row length) (measured: 9 for 100, 100 for 10 000), so
    that `encode_update` alone is the better sender there for hundreds of rounds.

    Args:
        update: As in `encode_update`.
        residual: What the same client's last call returned; None in its first round.
        wire_bits: As in `encode_update`, like the arguments below.
        round_number: Round.
        client: Client id.
        num_examples: Examples behind the update.
        rng: Source of the rounding.

    Returns:
        The payload, and the new residual `(update + residual) - decoded` of every tensor.

    Raises:
        ValueError: If an argument has a wrong type or range, or the residual's names or shapes
            differ from the update's.
        WireError: If a value is NaN or infinite, or `update + residual` overflows float32.

    Example:
        >>> payload, residual = encode_with_feedback(
        ...     {"w": np.array([1, 0.25], np.float32)}, None, wire_bits=2, round_number=0,
        ...     client=7, num_examples=100, rng=np.random.default_rng(0))
        >>> residual["w"].tolist()
        [0.0, 0.25]
    """
    header = new_header(wire_bits, round_number, client, num_examples)
    if residual is None:
        left = {name: np.zeros(values.shape, np.float32) for name, values in update.items()}
    else:
        _check_residual(update, residual)
        left = {name: np.array(residual[name], np.float32, order="C") for name in update}
    return _encode(update, residual or {}, [*left.values()], header, rng), left


def decode_update(payload: bytes, template: Mapping[str, NDArray[Any]]) -> Update:
    """Reads an update; what it says of sizes is checked before memory is taken for it.

    Args:
        payload: What `encode_update` returned, or any bytes.
        template: Name to array, in the sender's order, for instance the server's weights. Only
            names and shapes are read.

    Raises:
        WireError: If the payload is no whole, undamaged update that fits the template. No bytes
            raise anything else.

    Example:
        >>> decode_update(b"not an update", {})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        fedhq.allocator.errors.WireError: `it starts with b'FHQU'` must hold for a payload, ...
    """
    header = read_header(payload)
    layout = make_layout(tuple((k, v.shape) for k, v in template.items()), header.wire_bits)
    check_fits(payload, header, layout)
    # A copy: the update outlives the payload, and torch has no arrays that cannot be written.
    body = np.frombuffer(bytearray(memoryview(payload)[header.header_bytes :]), np.uint8)
    scales, codes = body[: layout.scale_bytes].view(np.float32), body[layout.scale_bytes :]
    is_raw = header.wire_bits == rounding.RAW_BITS
    least, most = extent(codes.view(np.float32) if is_raw else scales)
    if not is_sound(layout, body, least, most):
        for name, tensor in split_body(layout, body).items():
            check_tensor(f"of {name!r} from client {header.client}", tensor)
    greatest = max(-least, most) if is_raw else most * greatest_level(header.wire_bits)
    about = header.round_number, header.client, header.num_examples
    return Update(*about, layout, body, greatest)


def _check_residual(update: Tensors, residual: Tensors) -> None:
    shapes = {name: np.shape(values) for name, values in update.items()}
    kept = {name: np.shape(values) for name, values in residual.items()}
    if shapes != kept:
        wrong = sorted(k for k in {*shapes, *kept} if shapes.get(k) != kept.get(k))[0]
        raise ValueError(
            f"`residual` must have the update's names and shapes, but tensor {wrong!r} is "
            f"{kept.get(wrong)} there and {shapes.get(wrong)} in the update: "
            "pass what the same client's last call returned, or None."
        )


def _encode(
    update: Tensors,
    residual: Tensors,
    left: Sequence[Float32Array] | None,
    header: Header,
    rng: np.random.Generator,
) -> bytes:
    """Writes update + residual; `left`, a copy of the residual, then holds the new one."""
    for name, values in update.items():
        if values.dtype != np.float32:
            raise ValueError(f"Tensor {name!r} must be float32, but got {values.dtype}: cast it.")
    bits = header.wire_bits
    layout = make_layout(tuple((name, values.shape) for name, values in update.items()), bits)
    body = np.empty(layout.body_bytes, np.uint8)
    scales, codes = body[: layout.scale_bytes].view(np.float32), body[layout.scale_bytes :]
    rounding.quantize_into([*update.values()], left, bits, rng, scales, codes)
    if not np.isfinite(codes.view(np.float32) if bits == rounding.RAW_BITS else scales).all():
        raise _not_finite(update, residual, header)
    names = layout.names_checksum
    header = header._replace(num_tensors=len(layout.shapes), names_checksum=names)
    return write_payload(header, layout.table, body.data)


def _not_finite(update: Tensors, residual: Tensors, header: Header) -> WireError:
    """The error of the first tensor that is not finite with what is owed of it."""
    counts = {}
    with np.errstate(over="ignore", invalid="ignore"):
        for name, values in update.items():
            target = values + residual.get(name, np.float32(0))
            counts[name] = int((~np.isfinite(target)).sum())
    name = next(name for name, count in counts.items() if count)
    return WireError(
        f"`all values of an update (+ residual) are finite` must hold, but {counts[name]} of "
        f"{update[name].size} in tensor {name!r} of client {header.client} in round "
        f"{header.round_number} are not: skip this client, or lower its learning rate."
    )
