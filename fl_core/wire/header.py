"""The header of the wire codec and the shape table behind it: written, read, checked.

`codec` has the layout; nothing here knows what the codes stand for. What a payload says of sizes is
checked before anyone takes memory for it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ...allocator.errors import WireError

WIRE_BITS = (2, 3, 4, 5, 6, 7, 8, 32)
"""Bits per element that an update can be sent at."""

_MAGIC, _VERSION = b"FHQU", 1
_HEADER = struct.Struct("<4sBBHIIIIIIQQ")
HEADER_BYTES = _HEADER.size
"""Of the fixed part, before the shape table."""
_CHECKSUM_AT = 12
_DROP = "drop the payload and count the client as failed"


class Header(NamedTuple):
    """The fixed part of a payload, in the order of its bytes."""

    magic: bytes
    version: int
    wire_bits: int
    flags: int
    header_bytes: int
    checksum: int
    round_number: int
    num_tensors: int
    names_checksum: int
    num_examples: int
    client: int
    body_bytes: int


def require(holds: bool, rule: str, got: object, mend: str = _DROP) -> None:
    """Raises `WireError` with the rule, what was found and what to do, unless the rule holds."""
    if not holds:
        raise WireError(f"`{rule}` must hold for a payload, but got {got}: {mend}.")


def check_wire_bits(wire_bits: int) -> None:
    """Raises `ValueError` unless an update can be sent at these bits per element."""
    if not isinstance(wire_bits, int) or wire_bits not in WIRE_BITS:
        raise ValueError(f"`wire_bits` must be one of {WIRE_BITS}, but got {wire_bits!r}.")


def check_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape as a tuple; raises `ValueError` unless its dims fit their fields."""
    dims = tuple(int(dim) for dim in shape)
    if not all(0 <= dim < 2**32 for dim in dims):
        raise ValueError(f"`0 <= dim < 2**32` must hold for a shape, but got {dims}.")
    return dims


def new_header(wire_bits: int, round_number: int, client: int, num_examples: int) -> Header:
    """A header whose sizes and checksums are still zero.

    Raises:
        ValueError: If the bits are not supported or a number does not fit its field.
    """
    check_wire_bits(wire_bits)
    ranges = {"round_number": (round_number, 32), "num_examples": (num_examples, 32)}
    for name, (value, bits) in {**ranges, "client": (client, 64)}.items():
        if not 0 <= value < 2**bits:
            raise ValueError(f"`0 <= {name} < 2**{bits}` must hold, but got {value}.")
    return Header(_MAGIC, _VERSION, wire_bits, 0, 0, 0, round_number, 0, 0, num_examples, client, 0)


def header_bytes(shapes: Iterable[Sequence[int]]) -> int:
    """Bytes of the header and its shape table.

    Example:
        >>> header_bytes([(8, 3, 3, 3), (8,)])
        76
    """
    return _HEADER.size + sum(4 + 4 * len(shape) for shape in shapes)


def write_payload(header: Header, table: bytes, body: memoryview) -> bytes:
    """The whole payload, its sizes and checksum filled in.

    Args:
        header: What `new_header` gave, with number and names of the tensors.
        table: The shape table.
        body: Scales and codes; copied once.
    """
    header = header._replace(header_bytes=_HEADER.size + len(table), body_bytes=body.nbytes)
    head = bytearray(_HEADER.pack(*header) + table)
    struct.pack_into("<I", head, _CHECKSUM_AT, zlib.crc32(body, zlib.crc32(head)))
    return b"".join([head, body])


def read_header(payload: bytes) -> Header:
    """What can be checked without the template: that this is a whole, undamaged payload.

    Raises:
        WireError: If it is not.
    """
    size, least = len(payload), _HEADER.size
    require(payload[:4] == _MAGIC, f"it starts with {_MAGIC!r}", payload[:4])
    require(size >= least, f"length >= {least} bytes", size)
    header = Header(*_HEADER.unpack_from(payload))
    newer = f"update fedhq where this is read, it knows version {_VERSION}"
    require(header.version <= _VERSION, f"version <= {_VERSION}", header.version, newer)
    require(header.version == _VERSION, f"version = {_VERSION}", header.version)
    require(header.header_bytes >= least, f"header_bytes >= {least}", header.header_bytes)
    promised = header.header_bytes + header.body_bytes
    require(size == promised, f"length = header_bytes + body_bytes = {promised}", size)
    checksum = _checksum(payload)
    require(header.checksum == checksum, f"checksum = {checksum:#010x}", f"{header.checksum:#x}")
    require(header.flags == 0, "flags = 0", header.flags)
    require(header.wire_bits in WIRE_BITS, f"wire_bits in {WIRE_BITS}", header.wire_bits)
    return header


def check_template(payload: bytes, header: Header, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Checks that the payload's tensors have the template's names and shapes.

    Args:
        payload: All of it.
        header: What `read_header` gave.
        shapes: Name to shape, in the sender's order.

    Raises:
        WireError: If they have not.
    """
    sender = f"check that client {header.client} trains the same model"
    num = header.num_tensors
    require(num == len(shapes), f"{len(shapes)} tensors as in the template", num, sender)
    at = _HEADER.size
    for name, shape in shapes.items():
        room = (header.header_bytes - at) // 4 - 1
        require(room >= 0, f"header_bytes holds the shape of {name!r}", header.header_bytes)
        ndim = int.from_bytes(payload[at : at + 4], "little")
        require(ndim <= room, f"header_bytes holds the {ndim} dims of {name!r}", room)
        sent = struct.unpack_from(f"<{ndim}I", payload, at + 4)
        require(sent == shape, f"shape of {name!r} = {shape}", sent, sender)
        at += 4 + 4 * ndim
    require(header.header_bytes == at, f"header_bytes = {at}", header.header_bytes)
    expected, sent_names = names_checksum(shapes), header.names_checksum
    require(
        sent_names == expected, f"names checksum = {expected:#010x}", f"{sent_names:#x}", sender
    )


def names_checksum(names: Iterable[str]) -> int:
    """The crc32 of names, as the header holds it."""
    return zlib.crc32("\0".join(names).encode("utf-8", "surrogatepass"))


def _checksum(payload: bytes) -> int:
    before = zlib.crc32(bytes(4), zlib.crc32(payload[:_CHECKSUM_AT]))
    return zlib.crc32(memoryview(payload)[_CHECKSUM_AT + 4 :], before)
