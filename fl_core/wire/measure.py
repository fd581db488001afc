"""What can be said of a coded tensor with little memory: a stretch of it, its norm, its noise."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from ...models.ops.sizes import greatest_level, packed_bytes, planes
from .rounding import RAW_BITS, Coded, Float32Array


def decode_range(coded: Coded, start: int, stop: int) -> Float32Array:
    """Elements start ... stop - 1 of a tensor, flattened: the same bits as `Coded.decode` gives.

    Args:
        coded: The tensor.
        start: First element.
        stop: One behind the last; not beyond the tensor.

    Example:
        >>> from .rounding import quantize
        >>> coded = quantize(np.array([7, -7, 1], np.float32), None, 4, np.random.default_rng(0))
        >>> decode_range(coded, 1, 3).tolist()
        [-7.0, 1.0]
    """
    if coded.wire_bits == RAW_BITS:
        raw: Float32Array = coded.packed.view(torch.float32)[start:stop].numpy()
        return raw
    levels = _codes(coded, start, stop).astype(np.float32)
    levels -= np.float32(greatest_level(coded.wire_bits))
    if start == stop:
        return levels
    scales = coded.scales.numpy()
    cols = prod(coded.shape) // len(scales)
    first, last = start // cols, (stop - 1) // cols
    if first == last:
        levels *= scales[first]
    else:
        ends = np.arange(first, last + 2) * cols
        levels *= np.repeat(scales[first : last + 1], np.diff(ends.clip(start, stop)))
    return levels


def squared_norm(coded: Coded) -> float:
    """Sum of the squares of a tensor's values, in float64.

    Example:
        >>> from .rounding import quantize
        >>> squared_norm(quantize(np.full(4, 7, np.float32), None, 4, np.random.default_rng(0)))
        196.0
    """
    if coded.wire_bits == RAW_BITS:
        values = coded.packed.view(torch.float32).numpy()
        return float(np.square(values, dtype=np.float64).sum())
    rows, total = len(coded.scales), prod(coded.shape)
    codes = torch.ops.fedhq.unpack(coded.packed, coded.wire_bits, total).numpy()
    levels = codes.reshape(rows, total // rows if rows else 0).astype(np.float32)
    levels -= np.float32(greatest_level(coded.wire_bits))
    squares = np.square(levels, out=levels).sum(axis=1, dtype=np.float64)  # whole numbers: exact
    return float(squares @ np.square(coded.scales.numpy(), dtype=np.float64))


def rounding_variance(coded: Coded) -> float:
    """Expected squared error that stochastic rounding added to a tensor, summed over elements.

    A value that lies the fraction f of a scale s above its lower neighbour errs by f * (1 - f) *
    s**2 on average; f is taken to be uniform in [0, 1], which gives s**2 / 6 an element (at most
    s**2 / 4). Raw floats are not rounded.

    Example:
        >>> from .rounding import quantize
        >>> rounding_variance(quantize(np.ones(6, np.float32), None, 2, np.random.default_rng(0)))
        1.0
    """
    if not len(coded.scales):
        return 0.0
    cols = prod(coded.shape) // len(coded.scales)
    return cols / 6 * float(np.square(coded.scales.numpy(), dtype=np.float64).sum())


def _codes(coded: Coded, start: int, stop: int) -> NDArray[np.uint8]:
    """Codes of some elements, one a byte."""
    total, packed = prod(coded.shape), coded.packed.numpy()
    codes = np.zeros(stop - start, np.uint8)
    at, shift = 0, coded.wire_bits
    for bits in planes(coded.wire_bits):
        shift -= bits
        stride = packed_bytes(total, bits)
        for run in range(start // max(stride, 1), -(-stop // max(stride, 1))):
            low, high = max(start, run * stride), min(stop, (run + 1) * stride)
            part = packed[at + low - run * stride : at + high - run * stride] >> (bits * run)
            codes[low - start : high - start] |= (part & (2**bits - 1)) << shift
        at += stride
    return codes
