"""Rounding and packing for the wire: rows of floats to scales and codes, codes to bytes, and back.

**Codes** of b bits are symmetric in a narrow range: a level in [-qmax, qmax], qmax = 2**(b-1) - 1,
stored as level + qmax. The code 2**b - 1 never occurs. A value is float32(level) * scale.

**Packing** is a planar split: a plane of p bits cuts the n codes into 8 / p runs of
ceil(n * p / 8), the last ones short or empty, and byte j holds element j of every run, run 0 in its
lowest bits. So 4 bits pair element i with i + ceil(n / 2). Missing elements are zero bits.
A width is written as the planes that are the powers of two in it, highest bits first: 2, 4 and 8
are one plane each. Widths 3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2 and 7 = 4 + 2 + 1 can be added as more
planes behind one another; each plane is padded to bytes, which is up to 2 bytes more per tensor
than ceil(n * b / 8). **32 bits** are raw float32, without scales.

This is part of the layout of `wire`, which checks all that goes in and comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]

RAW_BITS = 32
"""The width at which floats are sent as they are."""

FLOAT = np.dtype(np.float32).newbyteorder("<")
"""A float on the wire."""


class Coded(NamedTuple):
    """A tensor before packing: `(rows,)` scales, `(elements,)` codes (floats at 32 bits)."""

    shape: tuple[int, ...]
    scales: Float32Array
    codes: NDArray[np.uint8] | Float32Array


def num_scales(shape: Sequence[int], wire_bits: int) -> int:
    """Rows of a tensor: dim 0 if there are two or more dims, else one; none at 32 bits.

    Example:
        >>> num_scales((8, 3, 3, 3), 4), num_scales((8,), 4), num_scales((8, 3), 32)
        (8, 1, 0)
    """
    if wire_bits == RAW_BITS:
        return 0
    return shape[0] if len(shape) >= 2 else 1


def coded_bytes(shape: Sequence[int], wire_bits: int) -> int:
    """Bytes of a tensor's scales and packed codes.

    Example:
        >>> coded_bytes((2, 3), 4)  # two scales, six codes
        11
    """
    return 4 * num_scales(shape, wire_bits) + -(-prod(shape) * wire_bits // 8)


def scale_limits(wire_bits: int) -> tuple[np.float32, np.float32]:
    """Least (normal: never flushed to 0) and greatest scale (times qmax is finite).

    Example:
        >>> scale_limits(2)[0] == 2.0**-126
        np.True_
    """
    single = np.finfo(np.float32)
    return single.smallest_normal, np.nextafter(single.max / _qmax(wire_bits), np.float32(0))


def _qmax(wire_bits: int) -> np.float32:
    """The greatest level."""
    return np.float32(2 ** (wire_bits - 1) - 1)


def quantize(values: Float32Array, wire_bits: int, rng: np.random.Generator) -> Coded:
    """Stochastic rounding, row by row: up with the probability of the fraction that is cut off.

    Args:
        values: Finite float32 array of any shape.
        wire_bits: 2, 4, 8 or 32 bits per element.
        rng: One float32 is drawn per element; not called at 32 bits.

    Example:
        >>> coded = quantize(np.array([7, -7, 1], np.float32), 4, np.random.default_rng(0))
        >>> coded.scales.tolist(), coded.codes.tolist()
        ([1.0], [14, 0, 8])
    """
    shape = values.shape
    if wire_bits == RAW_BITS:
        return Coded(shape, np.empty(0, np.float32), values.ravel())
    num_rows = num_scales(shape, wire_bits)
    rows = values.reshape(num_rows, values.size // max(num_rows, 1))
    qmax = _qmax(wire_bits)
    absmax = np.abs(rows).max(axis=1, initial=0)
    scales = np.where(absmax > 0, np.clip(absmax / qmax, *scale_limits(wire_bits)), 0)
    scales = scales.astype(np.float32)
    steps = rows / np.where(scales > 0, scales, 1)[:, None]
    np.clip(steps, -qmax, qmax, out=steps)
    levels = np.floor(steps)
    steps -= levels
    steps -= rng.random(steps.shape, dtype=np.float32)
    levels += np.ceil(steps, out=steps)  # 1 where the fraction exceeds the random number, else 0
    levels += qmax
    return Coded(shape, scales, levels.astype(np.uint8).ravel())


def dequantize(coded: Coded, wire_bits: int) -> Float32Array:
    """A new array of `coded.shape`; the one definition of what a code stands for.

    Example:
        >>> coded = Coded((3,), np.array([0.5], np.float32), np.array([14, 0, 8], np.uint8))
        >>> dequantize(coded, 4).tolist()
        [3.5, -3.5, 0.5]
    """
    values = coded.codes.astype(np.float32)
    if wire_bits != RAW_BITS:
        values -= _qmax(wire_bits)
        rows = values.reshape(len(coded.scales), values.size // max(len(coded.scales), 1))
        rows *= coded.scales[:, None]
    return values.reshape(coded.shape)


def pack(codes: NDArray[np.uint8] | Float32Array, wire_bits: int) -> bytes:
    """One plane of `wire_bits` bits in a planar split, or raw floats.

    Example:
        >>> pack(np.array([1, 2, 3], np.uint8), 4).hex()
        '3102'
    """
    if wire_bits == RAW_BITS:
        return codes.astype(FLOAT).tobytes()
    runs = 8 // wire_bits
    stride = -(-codes.size // runs)
    padded = np.zeros((runs, stride), np.uint8)
    padded.ravel()[: codes.size] = codes
    packed: NDArray[np.uint8] = padded[0]
    for run in range(1, runs):
        packed = packed | (padded[run] << (wire_bits * run))
    return packed.tobytes()


def unpack(packed: NDArray[np.uint8], wire_bits: int) -> NDArray[np.uint8]:
    """The codes of one plane, those of missing elements included.

    Args:
        packed: `(bytes,)`.
        wire_bits: 2, 4 or 8 bits per element.

    Returns:
        `(8 / wire_bits * bytes,)` codes.

    Example:
        >>> unpack(np.frombuffer(bytes.fromhex("3102"), np.uint8), 4)
        array([1, 2, 3, 0], dtype=uint8)
    """
    shifts = range(0, 8, wire_bits)
    return np.concatenate([(packed >> shift) & (2**wire_bits - 1) for shift in shifts])
