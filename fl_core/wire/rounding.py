"""Rounding and packing for the wire: rows of floats to scales and packed codes, and back.

**Codes** of b bits are symmetric in a narrow range: a level in [-qmax, qmax], qmax = 2**(b-1) - 1,
stored as level + qmax. The code 2**b - 1 never occurs. A value is float32(level) * scale.

**Packing** is a planar split: a plane of p bits cuts the n codes into 8 / p runs of
ceil(n * p / 8), the last ones short or empty, and byte j holds element j of every run, run 0 in its
lowest bits. So 4 bits pair element i with i + ceil(n / 2). Missing elements are zero bits.
A width is written as the planes that are the powers of two in it, highest bits first, one behind
the other: 2, 4 and 8 are one plane each, 3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2, 7 = 4 + 2 + 1. Each plane
is a whole number of bytes: up to 2 bytes more per tensor than ceil(n * b / 8). **32 bits** are raw
float32, without scales.

This is part of the layout of `codec`, which checks all that goes in and comes out; the kernels are
`models.ops`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...models.ops import wire_arrays
from ...models.ops.sizes import as_matrix, greatest_level, packed_bytes, planes
from ...models.ops.wire_arrays import stochastic_pack_all, unpack_add_all

Float32Array = NDArray[np.float32]

RAW_BITS = 32
"""The width at which floats are sent as they are."""

if sys.byteorder != "little":
    raise ImportError(
        "`sys.byteorder == 'little'` must hold for the wire, but this machine is big endian. "
        "Train on x86 or ARM."
    )


@dataclass(frozen=True, eq=False)
class Coded:
    """A tensor as it is sent; not to be written to.

    Args:
        shape: Of the tensor.
        wire_bits: 2 to 8, or 32.
        scales: `(rows,)` float32; none at 32 bits.
        packed: `(bytes,)` uint8: the planes of the codes, or raw floats.
    """

    shape: tuple[int, ...]
    wire_bits: int
    scales: Tensor
    packed: Tensor

    @property
    def is_finite(self) -> bool:
        """Whether all scales, or raw floats, are finite."""
        is_raw = self.wire_bits == RAW_BITS
        numbers = self.packed.view(torch.float32) if is_raw else self.scales
        return bool(numbers.isfinite().all())

    def decode(self) -> Float32Array:
        """A new array of its values.

        Example:
            >>> values = np.array([3.5, -3.5, 0.5], np.float32)
            >>> quantize(values, None, 4, np.random.default_rng(0)).decode().tolist()
            [3.5, -3.5, 0.5]
        """
        values = torch.zeros(self.shape)
        add_decoded([self], [1.0], values)
        array: Float32Array = values.numpy()
        return array


def num_scales(shape: Sequence[int], wire_bits: int) -> int:
    """Rows of a tensor: dim 0 if there are two or more dims, else one; none at 32 bits.

    Example:
        >>> num_scales((8, 3, 3, 3), 4), num_scales((8,), 4), num_scales((8, 3), 32)
        (8, 1, 0)
    """
    return 0 if wire_bits == RAW_BITS else as_matrix(shape)[0]


def coded_bytes(shape: Sequence[int], wire_bits: int) -> int:
    """Bytes of a tensor's scales and packed codes.

    Example:
        >>> coded_bytes((2, 3), 4), coded_bytes((2, 3), 5)  # two scales, six codes
        (11, 12)
    """
    total = prod(shape)
    codes = 4 * total if wire_bits == RAW_BITS else packed_bytes(total, wire_bits)
    return 4 * num_scales(shape, wire_bits) + codes


@cache
def greatest_scale(wire_bits: int) -> np.float32:
    """The greatest scale: times the greatest level it is finite.

    Example:
        >>> bool(np.isfinite(greatest_scale(2)))
        True
    """
    largest = np.finfo(np.float32).max / np.float32(greatest_level(wire_bits))
    return np.float32(np.nextafter(largest, np.float32(0)))


def quantize(
    values: Float32Array, residual: Tensor | None, wire_bits: int, rng: np.random.Generator
) -> Coded:
    """Stochastic rounding, row by row: up with the probability of the fraction that is cut off.

    Args:
        values: float32 array of any shape. A row that is not finite gets a scale that is not.
        residual: Added to the values first, of the same shape; then holds what rounding left over,
            but of a row that is not finite.
        wire_bits: 2 to 8, or 32 bits per element.
        rng: 64 bits are drawn for the tensor, the key of its random numbers; none at 32 bits.

    Example:
        >>> coded = quantize(np.array([7, -7, 1], np.float32), None, 4, np.random.default_rng(0))
        >>> coded.scales.tolist(), coded.packed.numpy().tobytes().hex()
        ([1.0], '8e00')
    """
    scales = torch.empty(num_scales(values.shape, wire_bits))
    size = coded_bytes(values.shape, wire_bits) - scales.nbytes
    codes = torch.empty(size, dtype=torch.uint8)
    left = None if residual is None else [residual.numpy()]
    quantize_into([values], left, wire_bits, rng, scales.numpy(), codes.numpy())
    return Coded(values.shape, wire_bits, scales, codes)


def quantize_into(
    tensors: Sequence[Float32Array],
    residual: Sequence[Float32Array] | None,
    wire_bits: int,
    rng: np.random.Generator,
    scales: Float32Array,
    codes: NDArray[np.uint8],
) -> None:
    """`quantize` of every tensor of an update, one behind the other.

    Args:
        tensors: As in `quantize`, like the arguments below.
        residual: Of every tensor, contiguous.
        wire_bits: Bits per element.
        rng: Source of the rounding.
        scales: Room for the scales of all.
        codes: Room for the codes of all.
    """
    if wire_bits != RAW_BITS:
        keys = rng.integers(-(2**63), 2**63, len(tensors), np.int64).tolist()
        stochastic_pack_all(list(map(_writable, tensors)), residual, wire_bits, keys, scales, codes)
        return
    if residual is not None:
        tensors = [values + left for values, left in zip(tensors, residual, strict=True)]
        for left in residual:
            left.fill(0.0)
    if tensors:
        np.concatenate([values.ravel() for values in tensors], out=codes.view(np.float32))


def _writable(values: Float32Array) -> Float32Array:
    """A contiguous array that can be written to, as kernels and torch take it: the same, mostly."""
    flags = values.flags
    return values if flags.c_contiguous and flags.writeable else np.array(values, order="C")


def add_decoded(coded: Sequence[Coded], weights: Sequence[float], total: Tensor) -> None:
    """Adds weight * values of every tensor to a sum, in place and in this order.

    Args:
        coded: Tensors of one shape and one width.
        weights: One for each of them.
        total: float32 of their shape.

    Example:
        >>> coded = quantize(np.ones(2, np.float32), None, 2, np.random.default_rng(0))
        >>> total = torch.zeros(2)
        >>> add_decoded([coded, coded], [0.5, 2.0], total)
        >>> total.tolist()
        [2.5, 2.5]
    """
    if not coded:
        return
    wire_bits = coded[0].wire_bits
    if wire_bits == RAW_BITS:
        for one, weight in zip(coded, weights, strict=True):
            total.view(-1).add_(one.packed.view(torch.float32), alpha=weight)
        return
    packed, scales = [one.packed for one in coded], [one.scales for one in coded]
    rows = total.view(as_matrix(total.shape))
    torch.ops.fedhq.unpack_add(packed, scales, weights, wire_bits, rows)


def add_bodies(
    bodies: Sequence[NDArray[np.uint8]],
    weights: Sequence[float],
    wire_bits: int,
    totals: Sequence[Float32Array],
) -> None:
    """Adds weight * values of whole payloads to sums, in place and in this order.

    Args:
        bodies: Scales of all tensors and their codes, of one width and the totals' shapes.
        weights: One for each of them.
        wire_bits: Their width.
        totals: A sum for each tensor, contiguous.
    """
    if wire_bits != RAW_BITS:
        unpack_add_all(bodies, weights, wire_bits, totals)
        return
    ends = np.cumsum([total.size for total in totals])
    for body, weight in zip(bodies, weights, strict=True):
        parts = np.split(body.view(np.float32), ends[:-1])
        for part, total in zip(parts, totals, strict=True):
            sums = torch.from_numpy(total).view(-1)
            sums.add_(torch.from_numpy(part), alpha=weight)


def has_foreign_code(coded: Coded) -> bool:
    """Whether a code is 2**wire_bits - 1, which stands for no level."""
    bits = coded.wire_bits
    if len(planes(bits)) > 1:
        codes = torch.ops.fedhq.unpack(coded.packed, bits, prod(coded.shape))
        return bool((codes == 2**bits - 1).any())
    return wire_arrays.has_foreign_code(coded.packed.numpy(), bits)


def missing_places(total: int, wire_bits: int) -> list[tuple[int, int, int]]:
    """Where elements fill the last runs of the planes up: byte, lowest bit, number of bits.

    At most 7 a plane.

    Example:
        >>> missing_places(3, 4)
        [(1, 4, 4)]
    """
    start, found = 0, []
    for bits in planes(wire_bits):
        stride = packed_bytes(total, bits)
        for element in range(total, stride * 8 // bits):
            found.append((start + element % stride, bits * (element // stride), bits))
        start += stride
    return found


def missing_elements(coded: Coded) -> list[int]:
    """What stands in the places that fill the last runs of the planes up."""
    places = missing_places(prod(coded.shape), coded.wire_bits)
    return [int(coded.packed[at]) >> low & (2**bits - 1) for at, low, bits in places]
