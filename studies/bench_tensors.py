"""Benchmarks of operations: fake quantization against ATen, the wire codec against memcpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import isqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..fl_core.wire import decode_update, encode_update
from ..models import fake_quantize
from .timing import Bench, Candidate, Role, Row

_LOW, _HIGH = -8, 7  # 4 bits
_WIRE_BITS = 4

Quantize = Callable[[Tensor], Tensor]


def tensor_rows(bench: Bench) -> Iterator[Row]:
    """Fake quantization and the wire codec, one case after the other."""
    side = isqrt(bench.scale.elements)
    x = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    one, many = torch.tensor(0.4), torch.linspace(0.3, 0.5, side)
    zeros = torch.zeros(side, dtype=torch.int32)
    per_tensor: tuple[Quantize, Quantize] = (
        lambda t: fake_quantize(t, one, 0, _LOW, _HIGH),
        lambda t: torch.fake_quantize_per_tensor_affine(t, 0.4, 0, _LOW, _HIGH),
    )
    per_channel: tuple[Quantize, Quantize] = (
        lambda t: fake_quantize(t, many, 0, _LOW, _HIGH),
        lambda t: torch.fake_quantize_per_channel_affine(t, many, zeros, 0, _LOW, _HIGH),
    )
    for granularity, pair in (("tensor", per_tensor), ("channel", per_channel)):
        for with_backward in (False, True):
            yield from _fake_quantization(bench, x, granularity, pair, with_backward)
    yield from _codec(bench, side)


def _fake_quantization(
    bench: Bench, x: Tensor, granularity: str, pair: tuple[Quantize, Quantize], with_backward: bool
) -> list[Row]:
    ours, aten = pair
    call = _forward_backward if with_backward else _forward
    passes = "forward + backward" if with_backward else "forward"
    buffer = torch.empty_like(x)
    name = f"fake_quantize_per_{granularity}_affine"
    same = "same values" if torch.equal(ours(x), aten(x)) else "OTHER VALUES than ATen"
    candidates = [
        Candidate("models.fake_quantize", Role.OURS, partial(call, ours, x), lambda _: same),
        Candidate(f"ATen {name}", Role.ALTERNATIVE, partial(call, aten, x)),
        Candidate(
            "memcpy, twice" if with_backward else "memcpy",
            Role.LIMIT,
            partial(_copy, buffer, x, 2 if with_backward else 1),
        ),
    ]
    case = f"fake quantization per {granularity}, {passes}, {x.numel():,} floats"
    return bench.compare(case, candidates)


def _forward(quantize: Quantize, x: Tensor) -> None:
    with torch.no_grad():
        quantize(x)


def _forward_backward(quantize: Quantize, x: Tensor) -> None:
    leaf = x.detach().requires_grad_()
    torch.autograd.grad(quantize(leaf), leaf, x)  # any gradient of that shape: x serves


def _copy(target: Tensor, source: Tensor, times: int) -> None:
    for _ in range(times):
        target.copy_(source)


def _codec(bench: Bench, side: int) -> Iterator[Row]:
    values = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    update = {"w": values}
    rng = np.random.default_rng(0)
    buffer, size = np.empty_like(values), values.nbytes
    encode = partial(_encode, update, rng)
    payload, raw = encode(), values.tobytes()
    copy = Candidate("memcpy", Role.LIMIT, partial(np.copyto, buffer, values), num_bytes=size)
    draw = partial(rng.random, values.shape, dtype=np.float32)
    writers = [
        Candidate(f"encode_update, {_WIRE_BITS} bits", Role.OURS, encode, _length, size),
        Candidate("numpy tobytes, 32 bits", Role.ALTERNATIVE, values.tobytes, _length, size),
        copy,
        Candidate("its random numbers alone", Role.LIMIT, draw, num_bytes=size),
    ]
    readers = [
        Candidate(
            f"decode_update, {_WIRE_BITS} bits",
            Role.OURS,
            partial(decode_update, payload, update),
            num_bytes=size,
        ),
        Candidate(
            "numpy frombuffer and copy, 32 bits",
            Role.ALTERNATIVE,
            partial(_read, raw),
            num_bytes=size,
        ),
        copy,
    ]
    yield from bench.compare(f"wire codec, encode {values.size:,} floats", writers)
    yield from bench.compare(f"wire codec, decode {values.size:,} floats", readers)


def _encode(update: dict[str, NDArray[np.float32]], rng: np.random.Generator) -> bytes:
    return encode_update(
        update, wire_bits=_WIRE_BITS, round_number=0, client=0, num_examples=1, rng=rng
    )


def _length(payload: bytes) -> str:
    return f"{len(payload):,} bytes"


def _read(raw: bytes) -> NDArray[np.float32]:
    return np.frombuffer(raw, np.float32).copy()
