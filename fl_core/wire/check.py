"""Whether what was sent fits the model and is sound: all at once, then a tensor at a time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...models.ops import wire_arrays
from ...models.ops.sizes import planes
from .header import HEADER_BYTES, Header, check_template, require
from .layout import Layout, split_body
from .rounding import (
    RAW_BITS,
    Coded,
    Float32Array,
    greatest_scale,
    has_foreign_code,
    missing_elements,
)


def check_fits(payload: bytes, header: Header, layout: Layout) -> None:
    """Raises `WireError` unless the payload's tensors and sizes are those of the layout."""
    same = header.num_tensors == len(layout.shapes)
    same = same and payload[HEADER_BYTES : header.header_bytes] == layout.table
    if not (same and header.names_checksum == layout.names_checksum):
        check_template(payload, header, dict(layout.shapes))
    size = layout.body_bytes
    rule = f"body_bytes = {size} of the template at {header.wire_bits} bits"
    require(header.body_bytes == size, rule, header.body_bytes)


def extent(numbers: Float32Array) -> tuple[float, float]:
    """The least and the greatest; NaN if one of them is, zeros if there are none."""
    return (float(numbers.min()), float(numbers.max())) if numbers.size else (0.0, 0.0)


def is_sound(layout: Layout, body: NDArray[np.uint8], least: float, greatest: float) -> bool:
    """Whether `check_tensor` finds nothing, all tensors at once where that can be.

    Args:
        layout: Of the payload.
        body: Its scales and codes; can be written to.
        least: Of all scales, or raw floats.
        greatest: Of all scales, or raw floats.
    """
    bits = layout.wire_bits
    if bits == RAW_BITS:
        return math.isfinite(least) and math.isfinite(greatest)
    if not (least >= 0 and greatest <= greatest_scale(bits)):
        return False
    codes = body[layout.scale_bytes :]
    if (codes[layout.padding] & layout.padding_bits).any():
        return False
    if bits in planes(bits):  # bytes hold whole codes: where a tensor begins does not matter
        return not wire_arrays.has_foreign_code(codes, bits)
    return not any(has_foreign_code(tensor) for tensor in split_body(layout, body).values())


def check_tensor(what: str, coded: Coded) -> None:
    """Raises `WireError` unless all scales and codes, or raw floats, of a tensor are sound."""
    if coded.wire_bits == RAW_BITS:
        require(coded.is_finite, f"values {what} are finite", "NaN or infinity")
        return
    scales, greatest = coded.scales.numpy(), greatest_scale(coded.wire_bits)
    bad = scales[~((scales >= 0) & (scales <= greatest))]
    require(not bad.size, f"0 <= scales {what} <= {greatest:.6g}", bad[:3].tolist())
    most = 2**coded.wire_bits - 2
    require(not has_foreign_code(coded), f"codes {what} <= {most}", most + 1)
    rest = missing_elements(coded)
    require(not any(rest), f"missing elements {what} are 0", rest)
