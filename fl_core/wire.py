r"""The wire codec: an update as bytes, stochastically rounded per row and checked when read.

This layout is version 1 and does not change: what is written here stays readable. All numbers are
little endian. A payload is header, shape table, scales, codes, with no gap between them.

    offset  bytes  field
         0      4  magic b"FHQU"
         4      1  version, 1
         5      1  wire_bits: 2, 4, 8 or 32
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
         .      .  codes: for each tensor exactly ceil(n * wire_bits / 8) bytes, n its elements

Names are not sent: the receiver has a template of names and shapes, and all is checked against it.
Header, table and scales are multiples of 4 bytes, so float32 parts are aligned if the payload is.

**Codes** of b bits are symmetric in a narrow range: a level in [-qmax, qmax], qmax = 2**(b-1) - 1,
stored as level + qmax. The code 2**b - 1 never occurs. A value is float32(level) * scale.

**Packing** is a planar split: a plane of p bits cuts the n codes into 8 / p runs of
ceil(n * p / 8), the last ones short or empty, and byte j holds element j of every run, run 0 in its
lowest bits. So 4 bits pair element i with i + ceil(n / 2). Missing elements are zero bits.
A width is written as the planes that are the powers of two in it, highest bits first: 2, 4 and 8
are one plane each. Widths 3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2 and 7 = 4 + 2 + 1 can be added as more
planes behind one another; each plane is padded to bytes, which is up to 2 bytes more per tensor
than ceil(n * b / 8). **32 bits** are raw float32, without scales.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..allocator.errors import WireError

Float32Array = NDArray[np.float32]
Tensors = Mapping[str, Float32Array]

WIRE_BITS = (2, 4, 8, 32)
"""Bits per element that an update can be sent at."""

_MAGIC, _VERSION, _RAW_BITS = b"FHQU", 1, 32
_HEADER = struct.Struct("<4sBBHIIIIIIQQ")
_FLOAT = np.dtype(np.float32).newbyteorder("<")
_CHECKSUM_AT = 12
_DROP = "drop the payload and count the client as failed"


class _Header(NamedTuple):
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


class _Coded(NamedTuple):
    """A tensor before packing: `(rows,)` scales, `(elements,)` codes (floats at 32 bits)."""

    shape: tuple[int, ...]
    scales: Float32Array
    codes: NDArray[np.uint8] | Float32Array


@dataclass(frozen=True, eq=False)
class Update:
    """What a client sent: the change of its weights, as the receiver sees it.

    Args:
        round_number: Round that the update belongs to.
        client: Who sent it.
        num_examples: Examples that it was trained on.
        wire_bits: Bits per element that it was sent at.
        tensors: Name to read-only float32 array, in the order of the template.
    """

    round_number: int
    client: int
    num_examples: int
    wire_bits: int
    tensors: Tensors


def encoded_bytes(shapes: Iterable[Sequence[int]], wire_bits: int) -> int:
    """Length of an encoded update in bytes: exactly `len(encode_update(...))`.

    Args:
        shapes: Shape of each tensor.
        wire_bits: 2, 4, 8 or 32 bits per element.

    Raises:
        ValueError: If the bits are not supported or a dimension is negative.

    Example:
        >>> encoded_bytes([(8, 3, 3, 3), (8,)], 4)
        224
    """
    _check_wire_bits(wire_bits)
    checked = [_check_shape(shape) for shape in shapes]
    return _header_bytes(checked) + sum(_body_bytes(shape, wire_bits) for shape in checked)


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

    With t = x / scale in float32 and scale = absmax of the row / qmax, the level is floor(t) plus
    one with probability t - floor(t): floor(t + u) without the rounding of that sum. It errs by
    less than one scale and its mean is x to within 2**-24 of a scale, besides float32 arithmetic.
    Scales are at least 2**-126: smaller values are rounded to multiples of that.

    Args:
        update: Name to finite float32 array of any shape, in an order that the receiver knows.
        wire_bits: 2, 4, 8 or 32 (raw, nothing is rounded) bits per element.
        round_number: Round, below 2**32.
        client: Client id, below 2**64.
        num_examples: Examples behind the update, below 2**32.
        rng: Source of the rounding; one float32 is drawn per element unless `wire_bits` is 32.

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
    header = _new_header(wire_bits, round_number, client, num_examples)
    return _write(header, _quantize_all(update, header, rng))


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
    2014; Karimireddy et al., arXiv 1901.09847). At 4 and 8 bits that scale stays small. At 2 bits
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
    header = _new_header(wire_bits, round_number, client, num_examples)
    target = _add_residual(update, residual)
    coded = _quantize_all(target, header, rng)
    left = {name: np.asarray(target[name] - _dequantize(coded[name], wire_bits)) for name in target}
    return _write(header, coded), left


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
    shapes = {name: values.shape for name, values in template.items()}
    header = _read_header(payload)
    bits = header.wire_bits
    _check_template(payload, header, shapes)
    sizes = {name: _body_bytes(shape, bits) for name, shape in shapes.items()}
    _require(
        header.body_bytes == sum(sizes.values()),
        f"body_bytes = {sum(sizes.values())} of the template at {bits} bits",
        header.body_bytes,
    )
    scales_at = header.header_bytes
    codes_at = scales_at + 4 * sum(_num_scales(shape, bits) for shape in shapes.values())
    tensors = {}
    for name, shape in shapes.items():
        num_scales = _num_scales(shape, bits)
        scales = np.frombuffer(payload, _FLOAT, num_scales, scales_at)
        codes = np.frombuffer(payload, np.uint8, sizes[name] - 4 * num_scales, codes_at)
        tensors[name] = _read_tensor(name, shape, scales, codes, header)
        scales_at += scales.nbytes
        codes_at += codes.nbytes
    return Update(
        header.round_number, header.client, header.num_examples, bits, MappingProxyType(tensors)
    )


def _require(holds: bool, rule: str, got: object, mend: str = _DROP) -> None:
    if not holds:
        raise WireError(f"`{rule}` must hold for a payload, but got {got}: {mend}.")


def _check_wire_bits(wire_bits: int) -> None:
    if wire_bits not in WIRE_BITS:
        raise ValueError(f"`wire_bits` must be one of {WIRE_BITS}, but got {wire_bits!r}.")


def _check_shape(shape: Sequence[int]) -> tuple[int, ...]:
    dims = tuple(int(dim) for dim in shape)
    if not all(0 <= dim < 2**32 for dim in dims):
        raise ValueError(f"`0 <= dim < 2**32` must hold for a shape, but got {dims}.")
    return dims


def _new_header(wire_bits: int, round_number: int, client: int, num_examples: int) -> _Header:
    _check_wire_bits(wire_bits)
    ranges = {"round_number": (round_number, 32), "num_examples": (num_examples, 32)}
    for name, (value, bits) in {**ranges, "client": (client, 64)}.items():
        if not 0 <= value < 2**bits:
            raise ValueError(f"`0 <= {name} < 2**{bits}` must hold, but got {value}.")
    return _Header(
        _MAGIC, _VERSION, wire_bits, 0, 0, 0, round_number, 0, 0, num_examples, client, 0
    )


def _header_bytes(shapes: Iterable[Sequence[int]]) -> int:
    return _HEADER.size + sum(4 + 4 * len(shape) for shape in shapes)


def _num_scales(shape: Sequence[int], wire_bits: int) -> int:
    if wire_bits == _RAW_BITS:
        return 0
    return shape[0] if len(shape) >= 2 else 1


def _body_bytes(shape: Sequence[int], wire_bits: int) -> int:
    return 4 * _num_scales(shape, wire_bits) + -(-prod(shape) * wire_bits // 8)


def _names_checksum(names: Iterable[str]) -> int:
    return zlib.crc32("\0".join(names).encode("utf-8", "surrogatepass"))


def _checksum(payload: bytes) -> int:
    before = zlib.crc32(bytes(4), zlib.crc32(payload[:_CHECKSUM_AT]))
    return zlib.crc32(memoryview(payload)[_CHECKSUM_AT + 4 :], before)


def _add_residual(update: Tensors, residual: Tensors | None) -> dict[str, Float32Array]:
    if residual is None:
        return dict(update)
    shapes = {name: np.shape(values) for name, values in update.items()}
    kept = {name: np.shape(values) for name, values in residual.items()}
    if shapes != kept:
        wrong = sorted(k for k in {*shapes, *kept} if shapes.get(k) != kept.get(k))[0]
        raise ValueError(
            f"`residual` must have the update's names and shapes, but tensor {wrong!r} is "
            f"{kept.get(wrong)} there and {shapes.get(wrong)} in the update: "
            "pass what the same client's last call returned, or None."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        return {name: np.asarray(update[name] + residual[name]) for name in update}


def _quantize_all(tensors: Tensors, header: _Header, rng: np.random.Generator) -> dict[str, _Coded]:
    coded = {}
    for name, values in tensors.items():
        if values.dtype != np.float32:
            raise ValueError(f"Tensor {name!r} must be float32, but got {values.dtype}: cast it.")
        finite = np.isfinite(values)
        if not finite.all():
            raise WireError(
                f"`all values of an update (+ residual) are finite` must hold, but "
                f"{values.size - int(finite.sum())} of {values.size} in tensor {name!r} of client "
                f"{header.client} in round {header.round_number} are not: skip this client, or "
                "lower its learning rate."
            )
        coded[name] = _quantize(values, header.wire_bits, rng)
    return coded


def _scale_limits(wire_bits: int) -> tuple[np.float32, np.float32]:
    """Least (normal: never flushed to 0) and greatest scale (times qmax is finite)."""
    single = np.finfo(np.float32)
    qmax = np.float32(2 ** (wire_bits - 1) - 1)
    return single.smallest_normal, np.nextafter(single.max / qmax, np.float32(0))


def _quantize(values: Float32Array, wire_bits: int, rng: np.random.Generator) -> _Coded:
    """Stochastic rounding, row by row; never calls the generator at 32 bits."""
    shape = values.shape
    if wire_bits == _RAW_BITS:
        return _Coded(shape, np.empty(0, np.float32), values.ravel())
    num_rows = _num_scales(shape, wire_bits)
    rows = values.reshape(num_rows, values.size // max(num_rows, 1))
    qmax = np.float32(2 ** (wire_bits - 1) - 1)
    absmax = np.abs(rows).max(axis=1, initial=0)
    scales = np.where(absmax > 0, np.clip(absmax / qmax, *_scale_limits(wire_bits)), 0)
    scales = scales.astype(np.float32)
    steps = rows / np.where(scales > 0, scales, 1)[:, None]
    np.clip(steps, -qmax, qmax, out=steps)
    levels = np.floor(steps)
    steps -= levels
    steps -= rng.random(steps.shape, dtype=np.float32)
    levels += np.ceil(steps, out=steps)  # 1 where the fraction exceeds the random number, else 0
    levels += qmax
    return _Coded(shape, scales, levels.astype(np.uint8).ravel())


def _dequantize(coded: _Coded, wire_bits: int) -> Float32Array:
    """A new array of `coded.shape`; the one definition of what a code stands for."""
    values = coded.codes.astype(np.float32)
    if wire_bits != _RAW_BITS:
        values -= np.float32(2 ** (wire_bits - 1) - 1)
        rows = values.reshape(len(coded.scales), values.size // max(len(coded.scales), 1))
        rows *= coded.scales[:, None]
    return values.reshape(coded.shape)


def _pack(codes: NDArray[np.uint8] | Float32Array, wire_bits: int) -> bytes:
    """One plane of `wire_bits` bits in a planar split, or raw floats."""
    if wire_bits == _RAW_BITS:
        return codes.astype(_FLOAT).tobytes()
    runs = 8 // wire_bits
    stride = -(-codes.size // runs)
    padded = np.zeros((runs, stride), np.uint8)
    padded.ravel()[: codes.size] = codes
    packed: NDArray[np.uint8] = padded[0]
    for run in range(1, runs):
        packed = packed | (padded[run] << (wire_bits * run))
    return packed.tobytes()


def _unpack(packed: NDArray[np.uint8], wire_bits: int) -> NDArray[np.uint8]:
    """`(8 / wire_bits * bytes,)` codes, those of missing elements included."""
    shifts = range(0, 8, wire_bits)
    return np.concatenate([(packed >> shift) & (2**wire_bits - 1) for shift in shifts])


def _write(header: _Header, coded: Mapping[str, _Coded]) -> bytes:
    bits = header.wire_bits
    shapes = [tensor.shape for tensor in coded.values()]
    header = header._replace(
        header_bytes=_header_bytes(shapes),
        num_tensors=len(coded),
        names_checksum=_names_checksum(coded),
        body_bytes=sum(_body_bytes(shape, bits) for shape in shapes),
    )
    parts = [struct.pack(f"<{1 + len(shape)}I", len(shape), *shape) for shape in shapes]
    parts += [tensor.scales.astype(_FLOAT).tobytes() for tensor in coded.values()]
    parts += [_pack(tensor.codes, bits) for tensor in coded.values()]
    payload = bytearray(b"".join([_HEADER.pack(*header), *parts]))
    struct.pack_into("<I", payload, _CHECKSUM_AT, zlib.crc32(payload))
    return bytes(payload)


def _read_header(payload: bytes) -> _Header:
    """What can be checked without the template: that this is a whole, undamaged payload."""
    size, least = len(payload), _HEADER.size
    _require(payload[:4] == _MAGIC, f"it starts with {_MAGIC!r}", payload[:4])
    _require(size >= least, f"length >= {least} bytes", size)
    header = _Header(*_HEADER.unpack_from(payload))
    newer = f"update fedhq where this is read, it knows version {_VERSION}"
    _require(header.version <= _VERSION, f"version <= {_VERSION}", header.version, newer)
    _require(header.version == _VERSION, f"version = {_VERSION}", header.version)
    _require(header.header_bytes >= least, f"header_bytes >= {least}", header.header_bytes)
    promised = header.header_bytes + header.body_bytes
    _require(size == promised, f"length = header_bytes + body_bytes = {promised}", size)
    checksum = _checksum(payload)
    _require(header.checksum == checksum, f"checksum = {checksum:#010x}", f"{header.checksum:#x}")
    _require(header.flags == 0, "flags = 0", header.flags)
    _require(header.wire_bits in WIRE_BITS, f"wire_bits in {WIRE_BITS}", header.wire_bits)
    return header


def _check_template(payload: bytes, header: _Header, shapes: Mapping[str, tuple[int, ...]]) -> None:
    sender = f"check that client {header.client} trains the same model"
    num = header.num_tensors
    _require(num == len(shapes), f"{len(shapes)} tensors as in the template", num, sender)
    at = _HEADER.size
    for name, shape in shapes.items():
        room = (header.header_bytes - at) // 4 - 1
        _require(room >= 0, f"header_bytes holds the shape of {name!r}", header.header_bytes)
        ndim = int.from_bytes(payload[at : at + 4], "little")
        _require(ndim <= room, f"header_bytes holds the {ndim} dims of {name!r}", room)
        sent = struct.unpack_from(f"<{ndim}I", payload, at + 4)
        _require(sent == shape, f"shape of {name!r} = {shape}", sent, sender)
        at += 4 + 4 * ndim
    _require(header.header_bytes == at, f"header_bytes = {at}", header.header_bytes)
    expected, sent_names = _names_checksum(shapes), header.names_checksum
    _require(
        sent_names == expected, f"names checksum = {expected:#010x}", f"{sent_names:#x}", sender
    )


def _read_tensor(
    name: str,
    shape: tuple[int, ...],
    scales: NDArray[np.float32],
    packed: NDArray[np.uint8],
    header: _Header,
) -> Float32Array:
    bits = header.wire_bits
    what = f"of {name!r} from client {header.client}"
    if bits == _RAW_BITS:
        values = np.frombuffer(packed.data, _FLOAT)
        _require(bool(np.isfinite(values).all()), f"values {what} are finite", "NaN or infinity")
        coded = _Coded(shape, scales, values)
    else:
        greatest = _scale_limits(bits)[1]
        bad = scales[~((scales >= 0) & (scales <= greatest))]
        _require(not bad.size, f"0 <= scales {what} <= {greatest:.6g}", bad[:3].tolist())
        codes = _unpack(packed, bits)
        most = 2**bits - 2
        _require(codes.max(initial=0) <= most, f"codes {what} <= {most}", codes.max(initial=0))
        rest = codes[prod(shape) :]
        _require(not rest.any(), f"missing elements {what} are 0", rest.tolist())
        coded = _Coded(shape, scales, codes[: prod(shape)])
    values = _dequantize(coded, bits)
    values.flags.writeable = False
    return values
