"""Benchmarks of the wire codec: against memcpy, plain torch, and floats that are sent as they are.

The limit of the server is one pass over the payloads' bytes and one over the sum; what zlib needs
for the checksums of the layout, which no reader can do without, stands beside it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import isqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..fl_core.server.aggregate import federated_average
from ..fl_core.weights import Weights
from ..fl_core.wire.codec import decode_update, encode_update
from ..models.ops import torch_kernels
from ..models.ops.library import mix_key
from .goals import Goal
from .timing import Bench, Candidate, Role, Row

_WIRE_BITS = 4
_CLIENTS = 100
_PACKED_OVER = 16  # elements of the tensor that is packed, over those of the scale: 4000 x 4000
_KEY = 1

_PACK_GOAL = Goal("time over memcpy of the tensor", 1.3, "x")
_SUM_GOAL = Goal("time over reading the payloads and writing the sum", 2.0, "x")


def codec_rows(bench: Bench) -> Iterator[Row]:
    """Packing, encoding, decoding, and what the server does with the updates of 100 clients."""
    yield from _pack(bench, isqrt(_PACKED_OVER * bench.scale.elements))
    side = isqrt(bench.scale.elements)
    yield from _encode_and_decode(bench, side)
    yield from _accumulate(bench, side)


def _pack(bench: Bench, side: int) -> list[Row]:
    """The kernel alone, with error feedback: what rounding left of a call is added in the next."""
    x = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    size, buffer = x.nbytes, torch.empty_like(x)
    residuals = [torch.zeros_like(x), torch.zeros_like(x)]
    pack = torch.ops.fedhq.stochastic_pack
    ours = partial(pack, x, residuals[0], _WIRE_BITS, _KEY)
    plain = partial(torch_kernels.stochastic_pack, x, residuals[1], _WIRE_BITS, mix_key(_KEY))
    without = partial(pack, x, None, _WIRE_BITS, _KEY)
    same = all(map(torch.equal, ours(), plain())) and torch.equal(*residuals)
    agreement = "same bytes" if same else "OTHER BYTES than plain torch"
    candidates = [
        Candidate("stochastic_pack", Role.OURS, ours, lambda _: agreement, size),
        Candidate("stochastic_pack, without feedback", Role.OURS, without, num_bytes=size),
        Candidate("plain torch", Role.ALTERNATIVE, plain, num_bytes=size),
        Candidate("memcpy", Role.LIMIT, partial(buffer.copy_, x), num_bytes=size),
    ]
    case = f"wire codec, pack {x.numel():,} floats at {_WIRE_BITS} bits"
    packed, *others = bench.compare(case, candidates)
    return [_judged(packed, _PACK_GOAL), *others]


def _encode_and_decode(bench: Bench, side: int) -> Iterator[Row]:
    """Whole payloads: with header, checksum and checks."""
    update = _update(side, 0)
    values, size = update["w"], update["w"].nbytes
    payload, raw = _payload(update, 0), values.tobytes()
    copy = Candidate("memcpy", Role.LIMIT, partial(np.copyto, np.empty_like(values), values))
    encode = partial(_payload, update, 0)
    yield from bench.compare(
        f"wire codec, encode {values.size:,} floats",
        [
            Candidate(f"encode_update, {_WIRE_BITS} bits", Role.OURS, encode, _length, size),
            Candidate("numpy tobytes, 32 bits", Role.ALTERNATIVE, values.tobytes, _length, size),
            copy,
        ],
    )
    decode, read = partial(_decode, payload, update), partial(_read, raw)
    yield from bench.compare(
        f"wire codec, decode {values.size:,} floats",
        [
            Candidate(f"decode_update, {_WIRE_BITS} bits", Role.OURS, decode, num_bytes=size),
            Candidate("numpy frombuffer and copy, 32 bits", Role.ALTERNATIVE, read, num_bytes=size),
            copy,
        ],
    )


def _accumulate(bench: Bench, side: int) -> list[Row]:
    """The server's part: payloads in, new weights out."""
    template = _update(side, 0)
    payloads = [_payload(_update(side, client), client) for client in range(_CLIENTS)]
    updates = [decode_update(payload, template) for payload in payloads]
    codes = [update.coded["w"].packed for update in updates]
    scales = [update.coded["w"].scales for update in updates]
    total, shares = torch.zeros(side, side), [1 / _CLIENTS] * _CLIENTS
    parts = codes, scales, shares, _WIRE_BITS, total
    size = sum(map(len, payloads))
    raw = [template["w"].tobytes()] * _CLIENTS  # one buffer for all: as fast as it can be
    candidates = [
        Candidate(
            "decode_update of all, federated_average",
            Role.OURS,
            partial(_average, payloads, template),
            num_bytes=size,
        ),
        Candidate(
            "federated_average alone", Role.OURS, partial(federated_average, template, updates)
        ),
        Candidate("unpack_add alone", Role.OURS, partial(torch.ops.fedhq.unpack_add, *parts)),
        Candidate(
            "plain torch for unpack_add",
            Role.ALTERNATIVE,
            partial(torch_kernels.unpack_add, *parts),
        ),
        Candidate(
            "numpy frombuffer and sum, 32 bits", Role.ALTERNATIVE, partial(_sum_raw, raw, side)
        ),
        Candidate(
            "reading the payloads, writing the sum", Role.LIMIT, partial(_touch, payloads, total)
        ),
        Candidate("their checksums", Role.LIMIT, partial(_checksums, payloads), num_bytes=size),
    ]
    case = f"wire codec, sum of {_CLIENTS} clients, {side * side:,} floats at {_WIRE_BITS} bits"
    whole, average, add, *others = bench.compare(case, candidates)
    return [_judged(whole, _SUM_GOAL), average, _judged(add, _SUM_GOAL), *others]


def _judged(row: Row, goal: Goal) -> Row:
    """Judges a row by its time over the limit."""
    return row if row.over_limit is None else replace(row, verdicts=(goal.judge(row.over_limit),))


def _update(side: int, seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    return {"w": rng.standard_normal((side, side), dtype=np.float32)}


def _payload(update: Weights, client: int) -> bytes:
    return encode_update(
        update,
        wire_bits=_WIRE_BITS,
        round_number=0,
        client=client,
        num_examples=1,
        rng=np.random.default_rng(client),
    )


def _length(payload: bytes) -> str:
    return f"{len(payload):,} bytes"


def _decode(payload: bytes, template: Weights) -> NDArray[np.float32]:
    return decode_update(payload, template).tensors["w"]


def _read(raw: bytes) -> NDArray[np.float32]:
    return np.frombuffer(raw, np.float32).copy()


def _average(payloads: Sequence[bytes], weights: Weights) -> Weights:
    return federated_average(weights, [decode_update(p, weights) for p in payloads])


def _sum_raw(raw: Sequence[bytes], side: int) -> NDArray[np.float32]:
    total = np.zeros(side * side, np.float32)
    for payload in raw:
        total += np.frombuffer(payload, np.float32) * np.float32(1 / len(raw))
    return total


def _touch(payloads: Sequence[bytes], total: Tensor) -> None:
    for payload in payloads:
        np.bitwise_xor.reduce(np.frombuffer(payload, np.uint64, len(payload) // 8))
    total.zero_()


def _checksums(payloads: Sequence[bytes]) -> None:
    for payload in payloads:
        zlib.crc32(payload)
