"""Sizes that all kernels share: of a mask, of packed codes, of the levels on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

MASK_BLOCK = 256

MAX_RATIOS = 64
"""Clip ratios that `fit_range` can try."""


def mask_bytes(total: int) -> int:
    """Bytes of a mask of so many elements: a bit each, in blocks of 256.

    Bit k of byte j of a block stands for its element 32 * k + j.

    Example:
        >>> mask_bytes(1), mask_bytes(256), mask_bytes(257)
        (32, 32, 64)
    """
    return -(-total // MASK_BLOCK) * (MASK_BLOCK // 8)


def planes(wire_bits: int) -> tuple[int, ...]:
    """The powers of two in a width, highest first: codes are packed one plane of bits each.

    Example:
        >>> planes(7), planes(4)
        ((4, 2, 1), (4,))
    """
    return tuple(bits for bits in (8, 4, 2, 1) if wire_bits & bits)


def packed_bytes(total: int, wire_bits: int) -> int:
    """Bytes of packed codes; each plane is a whole number of bytes.

    Example:
        >>> packed_bytes(3, 4), packed_bytes(3, 5)
        (2, 3)
    """
    return sum(-(-total * bits // 8) for bits in planes(wire_bits))


def weight_codes(bits: int) -> tuple[int, int]:
    """Smallest and largest code of a weight: all `2^bits` codes, zero among them.

    Example:
        >>> weight_codes(2)
        (-2, 1)
    """
    half = 1 << (bits - 1)
    return -half, half - 1


def greatest_level(wire_bits: int) -> int:
    """The greatest level on the wire; the least is its negative.

    Example:
        >>> greatest_level(4)
        7
    """
    return int(2 ** (wire_bits - 1) - 1)


def as_matrix(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a tensor on the wire: a row for each scale.

    Example:
        >>> as_matrix((8, 3, 3, 3)), as_matrix((5,))
        ((8, 27), (1, 5))
    """
    return (shape[0], prod(shape[1:])) if len(shape) >= 2 else (1, prod(shape))
