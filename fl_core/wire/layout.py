"""Where the parts of a payload lie, worked out once for a model and a width."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from .header import names_checksum
from .rounding import RAW_BITS, Coded, coded_bytes, missing_places, num_scales

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """What a payload of a model at a width looks like.

    Args:
        shapes: Name and shape of each tensor, in order.
        wire_bits: 2 to 8, or 32.
        table: The shape table's bytes.
        names_checksum: As in the header.
        num_scales: Of each tensor.
        num_bytes: Of each tensor's codes.
        padding: Bytes of all codes in which elements are missing.
        padding_bits: The bits of these bytes where they are; zero in a sound payload.
    """

    shapes: Shapes
    wire_bits: int
    table: bytes
    names_checksum: int
    num_scales: list[int]
    num_bytes: list[int]
    padding: NDArray[np.int64]
    padding_bits: NDArray[np.uint8]

    @cached_property
    def scale_bytes(self) -> int:
        """All scales, which lie before the codes."""
        return 4 * sum(self.num_scales)

    @cached_property
    def body_bytes(self) -> int:
        """Scales and codes together."""
        return self.scale_bytes + sum(self.num_bytes)


@lru_cache(maxsize=64)
def make_layout(shapes: Shapes, wire_bits: int) -> Layout:
    """The layout of a model's payloads.

    Args:
        shapes: Name and shape of each tensor, in the sender's order.
        wire_bits: 2 to 8, or 32.

    Example:
        >>> layout = make_layout((("w", (2, 3)), ("b", (3,))), 4)
        >>> layout.num_scales, layout.num_bytes, layout.body_bytes, layout.padding.tolist()
        ([2, 1], [3, 2], 17, [4])
    """
    dims = [shape for _, shape in shapes]
    scales = [num_scales(shape, wire_bits) for shape in dims]
    sizes = [coded_bytes(shape, wire_bits) - 4 * n for shape, n in zip(dims, scales, strict=True)]
    masks: dict[int, int] = {}
    start = 0
    for shape, size in zip(dims, sizes, strict=True):
        for at, low, bits in (
            () if wire_bits == RAW_BITS else missing_places(prod(shape), wire_bits)
        ):
            masks[start + at] = masks.get(start + at, 0) | (2**bits - 1) << low
        start += size
    return Layout(
        shapes,
        wire_bits,
        b"".join(struct.pack(f"<{1 + len(shape)}I", len(shape), *shape) for shape in dims),
        names_checksum(name for name, _ in shapes),
        scales,
        sizes,
        np.array(list(masks), np.int64),
        np.array(list(masks.values()), np.uint8),
    )


def split_body(layout: Layout, body: NDArray[np.uint8]) -> dict[str, Coded]:
    """Name to scales and codes of each tensor; views.

    Args:
        layout: Of the payload.
        body: Its scales and codes; can be written to.
    """
    whole = torch.from_numpy(body)
    scales = whole[: layout.scale_bytes].view(torch.float32).split_with_sizes(layout.num_scales)
    codes = whole[layout.scale_bytes :].split_with_sizes(layout.num_bytes)
    parts = zip(layout.shapes, scales, codes, strict=True)
    return {name: Coded(shape, layout.wire_bits, *tensors) for (name, shape), *tensors in parts}
