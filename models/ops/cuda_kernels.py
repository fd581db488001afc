"""The kernels on CUDA, compiled by NVRTC. `library` says what each does.

All launches go to the current stream, nothing waits for the device, and memory comes from torch:
everything can be captured in a CUDA graph. Results are those of the CPU's kernels, bit for bit,
except for sums, which are doubles joined in another, fixed order.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

import numpy as np
import torch
from torch import Tensor

from .cuda_cut import LONGEST_WHOLE, THREADS, WARP, Cut, ceil_div, cut_rows, team_for
from .cuda_driver import Kernel, is_available
from .sizes import MASK_BLOCK, greatest_level, mask_bytes, packed_bytes, planes

__all__ = [
    "fit_range",
    "is_available",
    "learned_backward",
    "mask_gradient",
    "quantize_dynamic",
    "quantize_fitted",
    "quantize_static",
    "stochastic_pack",
    "unpack",
    "unpack_add",
]

# The structures of the sources, field by field. P is an address, q has 64 bits, i and f 32.
_SHAPE = "qqqqii"
_DYNAMIC = Kernel("cuda_rows.cu", Struct(f"5P{_SHAPE}2f"))
_WIRE = Kernel("cuda_rows.cu", Struct(f"5P{_SHAPE}2f2I"))
_STATIC = Kernel("cuda_flat.cu", Struct("5P2q2f"))
_MASK = Kernel("cuda_flat.cu", Struct("3Pq"))
_PLANE = Kernel("cuda_flat.cu", Struct("2P2q2i"))
_MOST_SENDERS = 8
_UNPACK = Kernel("cuda_flat.cu", Struct(f"P2q2i{2 * _MOST_SENDERS}P{_MOST_SENDERS}f"))
_LEARNED = Kernel("cuda_fit.cu", Struct(f"8P{_SHAPE}2f"))
_FIT = Kernel("cuda_fit.cu", Struct(f"7P{_SHAPE}4q2f"))

_PIECE_ITEMS, _LEARNED_ITEMS = 16, 8  # as in the sources
_FEW_ITEMS = 8
_SHORT = WARP * _FEW_ITEMS
"""Elements that a warp holds with few items each."""
_FIT_ITEMS = 16
_MOST_ROW_THREADS = 512


def _vector(cols: int, *tensors: Tensor) -> int:
    """Elements that are loaded at once: 16 bytes where all rows are aligned for that, else one."""
    vector = 16 // tensors[0].element_size()
    return 1 if cols % vector or any(t.data_ptr() % 16 for t in tensors) else vector


def _type(x: Tensor) -> str:
    return "float32" if x.dtype is torch.float32 else "bfloat16"


def _empty_grid(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = torch.empty(len(x), dtype=torch.float32, device=x.device)
    return scale, torch.empty(len(x), dtype=torch.int32, device=x.device)


def _round_rows(
    kernel: Kernel,
    name: str,
    vector: int,
    items: int,
    x: Tensor,
    pointers: Sequence[int],
    symmetric: bool,
    constants: Sequence[float],
) -> None:
    """Rows that fit the registers at once, `items` a thread; longer ones in two steps."""
    rows, cols = x.shape
    if cols <= min(LONGEST_WHOLE, items * _MOST_ROW_THREADS):
        held = _FEW_ITEMS if cols <= _SHORT else items
        cut = Cut(rows, cols, 1, cols, team_for(cols, held, _MOST_ROW_THREADS))
        steps, partial = [f"rows_{vector}_{held}"], 0
    else:
        cut = cut_rows(rows, cols, _PIECE_ITEMS)
        steps = [f"limits_{vector}", f"pieces_{vector}"]
        limits = torch.empty(rows * cut.pieces, 2, dtype=torch.int32, device=x.device)
        partial = limits.data_ptr()
    for step in steps:
        arguments = *pointers, partial, *cut.fields(symmetric), *constants
        kernel.launch(f"{name}_{step}", x.device, cut.blocks, cut.threads, *arguments)


def quantize_dynamic(
    x: Tensor, qmin: int, qmax: int, symmetric: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See `library`."""
    y = torch.empty_like(x)
    scale, zero = _empty_grid(x)
    vector = _vector(x.shape[1], x, y)
    items = 16 if vector == 1 else 32
    at = x.data_ptr(), y.data_ptr(), scale.data_ptr(), zero.data_ptr()
    name = f"dynamic_{_type(x)}"
    _round_rows(_DYNAMIC, name, vector, items, x, at, symmetric, (qmin, qmax))
    return y, scale, zero


def quantize_static(
    x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int, with_mask: bool
) -> tuple[Tensor, Tensor]:
    """See `library`."""
    total = x.numel()
    y = torch.empty_like(x)
    size = mask_bytes(total) if with_mask else 0
    mask = torch.empty(size, dtype=torch.uint8, device=x.device)
    mask_at = mask.data_ptr() if with_mask else 0
    at = x.data_ptr(), y.data_ptr(), mask_at, scale.data_ptr(), zero_point.data_ptr()
    arguments = *at, total, x.shape[1], qmin, qmax
    _STATIC.launch(f"static_{_type(x)}", x.device, _mask_grid(total), THREADS, *arguments)
    return y, mask


def _mask_grid(total: int) -> int:
    """A warp for every mask block."""
    return ceil_div(total, MASK_BLOCK * (THREADS // WARP))


def mask_gradient(grad: Tensor, mask: Tensor) -> Tensor:
    """See `library`."""
    dx = torch.empty_like(grad)
    arguments = grad.data_ptr(), mask.data_ptr(), dx.data_ptr(), grad.numel()
    blocks = _mask_grid(grad.numel())
    _MASK.launch(f"mask_{_type(grad)}", grad.device, blocks, THREADS, *arguments)
    return dx


def learned_backward(
    grad: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `library`."""
    rows, cols = x.shape
    cut = cut_rows(rows, cols, _LEARNED_ITEMS)
    dx, dscale, dzero = torch.empty_like(x), torch.empty_like(scale), torch.empty_like(scale)
    sums = scale.new_empty(2 * rows * cut.pieces if cut.pieces > 1 else 0, dtype=torch.float64)
    tensors = (grad, x, dx, scale, zero_point, dscale, dzero, sums)
    arguments = *(t.data_ptr() for t in tensors), *cut.fields(False), qmin, qmax
    name = f"learned_{_type(x)}_{_vector(cols, x, grad, dx)}"
    _LEARNED.launch(name, x.device, cut.blocks, cut.threads, *arguments)
    if cut.pieces > 1:
        _LEARNED.launch(f"learned_finish_{_type(x)}", x.device, rows, cut.team, *arguments)
    return dx, dscale, dzero


def fit_range(
    x: Tensor, qmin: int, qmax: int, symmetric: bool, ratios: Tensor, stride: int
) -> tuple[Tensor, Tensor]:
    """See `library`."""
    (rows, cols), device, num_ratios = x.shape, x.device, len(ratios)
    scale, zero = _empty_grid(x)
    whole = cut_rows(rows, cols, _PIECE_ITEMS)
    limits = torch.empty(rows * whole.pieces, 2, dtype=torch.int32, device=device)
    # Of the structure of quantize_dynamic, finding limits reads only these.
    found = x.data_ptr(), 0, 0, 0, limits.data_ptr(), *whole.fields(symmetric), qmin, qmax
    name = f"dynamic_{_type(x)}_limits_{_vector(cols, x)}"
    _DYNAMIC.launch(name, device, whole.blocks, whole.threads, *found)

    cut, items = _cut_samples(rows, ceil_div(cols, stride))
    errors = torch.empty(rows * num_ratios, cut.pieces, dtype=torch.float64, device=device)
    totals = errors if cut.pieces == 1 else errors.new_empty(rows * num_ratios)
    tensors = (x, limits, ratios, errors, totals, scale, zero)
    sizes = cols, stride, whole.pieces, num_ratios
    arguments = *(t.data_ptr() for t in tensors), *cut.fields(symmetric), *sizes, qmin, qmax
    kind = _type(x)
    _FIT.launch(f"fit_errors_{kind}_{items}", device, cut.blocks, cut.threads, *arguments)
    if cut.pieces > 1:
        threads = WARP if cut.pieces <= 4 * WARP else THREADS
        _FIT.launch(f"fit_totals_{kind}", device, rows * num_ratios, threads, *arguments)
    blocks = ceil_div(rows, THREADS // WARP)
    _FIT.launch(f"fit_choose_{kind}", device, blocks, THREADS, *arguments)
    return scale, zero


def _cut_samples(rows: int, samples: int) -> tuple[Cut, int]:
    """Pieces that a warp, or a part of one, holds in its registers; how many a thread holds."""
    if samples <= _SHORT:
        return Cut(rows, samples, 1, samples, team_for(samples, _FEW_ITEMS)), _FEW_ITEMS
    length = WARP * _FIT_ITEMS
    return Cut(rows, samples, ceil_div(samples, length), length, WARP), _FIT_ITEMS


def quantize_fitted(
    x: Tensor,
    qmin: int,
    qmax: int,
    symmetric: bool,
    ratios: Tensor,
    stride: int,
    with_mask: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `library`."""
    scale, zero = fit_range(x, qmin, qmax, symmetric, ratios, stride)
    return *quantize_static(x, scale, zero, qmin, qmax, with_mask), scale, zero


def stochastic_pack(
    x: Tensor, residual: Tensor | None, wire_bits: int, key: int
) -> tuple[Tensor, Tensor]:
    """See `library`."""
    qmax = greatest_level(wire_bits)
    greatest = np.nextafter(np.finfo(np.float32).max / np.float32(qmax), np.float32(0))
    scale = torch.empty(len(x), dtype=torch.float32, device=x.device)
    packed = torch.empty(packed_bytes(x.numel(), wire_bits), dtype=torch.uint8, device=x.device)
    # Eight bits are packed as they are.
    codes = packed if wire_bits == 8 else packed.new_empty(x.numel())
    residual_at = 0 if residual is None else residual.data_ptr()
    at = x.data_ptr(), residual_at, scale.data_ptr(), codes.data_ptr()
    constants = qmax, float(greatest), key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    vector = _vector(x.shape[1], x, *(() if residual is None else (residual,)))
    _round_rows(_WIRE, "wire", vector, _PIECE_ITEMS, x, at, True, constants)
    if wire_bits != 8:
        _pack(codes, packed, wire_bits)
    return packed, scale


def _pack(codes: Tensor, packed: Tensor, wire_bits: int) -> None:
    total, plane, shift = codes.numel(), packed.data_ptr(), wire_bits
    for bits in planes(wire_bits):
        shift -= bits
        stride = packed_bytes(total, bits)
        vector = 1 if total % 4 or stride % 4 or plane % 4 else 4
        blocks = ceil_div(stride, THREADS * vector)
        arguments = codes.data_ptr(), plane, total, stride, bits, shift
        _PLANE.launch(f"pack_plane_{vector}", codes.device, blocks, THREADS, *arguments)
        plane += stride


def unpack(packed: Tensor, wire_bits: int, total: int) -> Tensor:
    """See `library`."""
    codes = packed.new_empty(total)
    _launch_unpack("unpack", codes, total, wire_bits, [(packed.data_ptr(), 0, 0.0)])
    return codes


def unpack_add(
    packed: Sequence[Tensor],
    scales: Sequence[Tensor],
    weights: Sequence[float],
    wire_bits: int,
    total: Tensor,
) -> None:
    """See `library`."""
    senders = [
        (one.data_ptr(), scale.data_ptr(), weight)
        for one, scale, weight in zip(packed, scales, weights, strict=True)
    ]
    for first in range(0, len(senders), _MOST_SENDERS):
        some = senders[first : first + _MOST_SENDERS]
        _launch_unpack("unpack_add", total, total.shape[1], wire_bits, some)


def _launch_unpack(
    name: str,
    target: Tensor,
    cols: int,
    wire_bits: int,
    senders: Sequence[tuple[int, int, float]],
) -> None:
    """Senders are the addresses of packed codes and of scales, and weights."""
    total = target.numel()
    aligned = target.data_ptr() % 16 == 0 and total % 4 == 0
    aligned &= all(packed_bytes(total, bits) % 4 == 0 for bits in planes(wire_bits))
    aligned &= all(packed % 4 == 0 for packed, _, _ in senders)
    vector = 4 if aligned else 1
    blocks = 8 * ceil_div(ceil_div(total, THREADS * vector), 8)
    padded = [*senders, *[(0, 0, 0.0)] * (_MOST_SENDERS - len(senders))]
    addresses = (address for packed, scale, _ in padded for address in (packed, scale))
    weights = (weight for _, _, weight in padded)
    at = target.data_ptr()
    arguments = at, total, cols, wire_bits, len(senders), *addresses, *weights
    _UNPACK.launch(f"{name}_{vector}", target.device, blocks, THREADS, *arguments)
