"""The wire's kernels on NumPy arrays, all tensors of a payload in one call.

A client's update has a dozen small tensors: one by one, calls take longer than the rounding.
All arrays are contiguous and can be written to, whether they are or not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import library
from .library import mix_key
from .sizes import planes


def stochastic_pack_all(
    x: Sequence[NDArray[np.float32]],
    residual: Sequence[NDArray[np.float32]] | None,
    wire_bits: int,
    keys: Sequence[int],
    scales: NDArray[np.float32],
    packed: NDArray[np.uint8],
) -> None:
    """`stochastic_pack` of every tensor, one behind the other.

    Args:
        x: Tensors.
        residual: Of each, of its shape; then holds what rounding left over. None where nothing is
            owed.
        wire_bits: 2 to 8.
        keys: One for each tensor.
        scales: Room for the scales of all.
        packed: Room for the codes of all.

    Example:
        >>> scales, packed = np.empty(1, np.float32), np.empty(2, np.uint8)
        >>> stochastic_pack_all([np.array([7, -7, 1], np.float32)], None, 4, [1], scales, packed)
        >>> scales.tolist(), packed.tobytes().hex()
        ([1.0], '8e00')
    """
    mixed = [mix_key(key) for key in keys]
    library.cpu().stochastic_pack_all(x, residual, wire_bits, mixed, scales, packed)


def unpack_add_all(
    bodies: Sequence[NDArray[np.uint8]],
    weights: Sequence[float],
    wire_bits: int,
    totals: Sequence[NDArray[np.float32]],
) -> None:
    """`unpack_add` of every tensor: adds weight * decoded of several senders, in their order.

    Args:
        bodies: Of each sender the scales of all tensors and then their codes; aligned for float32.
        weights: One for each sender.
        wire_bits: 2 to 8.
        totals: Of each tensor the sum; added to in place.

    Example:
        >>> scale, codes = np.array([2], np.float32), np.array([0x8E, 0x00], np.uint8)
        >>> body = np.concatenate([scale.view(np.uint8), codes])
        >>> total = np.ones(3, np.float32)
        >>> unpack_add_all([body, body], [0.5, 1.0], 4, [total])
        >>> total.tolist()
        [22.0, -20.0, 4.0]
    """
    library.cpu().unpack_add_all(bodies, weights, wire_bits, totals)


def has_foreign_code(packed: NDArray[np.uint8], wire_bits: int) -> bool:
    """Whether one of the codes in whole bytes has all its bits set, which stands for no level.

    Args:
        packed: Codes of one plane: what fills the last byte up is zero bits.
        wire_bits: 2, 4 or 8.

    Raises:
        ValueError: If codes of this width lie in several planes.

    Example:
        >>> [has_foreign_code(np.array([byte], np.uint8), 4) for byte in (0xE0, 0x0F)]
        [False, True]
    """
    if wire_bits not in planes(wire_bits):
        raise ValueError(f"`wire_bits` must be 2, 4 or 8 (one plane), but got {wire_bits}.")
    return library.cpu().has_foreign_code(packed, wire_bits)  # type: ignore[no-any-return]
