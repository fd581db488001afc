"""The kernels in plain torch, for machines without a compiler and types that C does not serve.

On the CPU they give the very bits of the compiled ones; sums over rows, `learned_backward`'s, may
differ in the last digit. Work goes in blocks that fit a cache. `library` says what each does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .sizes import MASK_BLOCK, as_matrix, greatest_level, packed_bytes, planes

_BLOCK = 1 << 18
_SMALLEST_SCALE = 1e-12
_SMALLEST_NORMAL = float(torch.finfo(torch.float32).tiny)
_LARGEST = float(torch.finfo(torch.float32).max)
_LOWER = 0xFFFFFFFF


def _working(x: Tensor) -> torch.dtype:
    """The type that `x` is computed in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _row_blocks(x: Tensor) -> Iterator[slice]:
    """Rows, as many at a time as fit a block."""
    rows, cols = x.shape
    step = max(1, _BLOCK // max(cols, 1))
    return (slice(start, start + step) for start in range(0, rows, step))


def _limits(x: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest of each row, zero included, NaN where a row has one."""
    if x.shape[1] == 0:
        nothing = x.new_zeros(len(x))
        return nothing, nothing
    # amin and amax hand NaN on; aminmax(dim) is far slower.
    return x.amin(dim=1).clamp_max(0), x.amax(dim=1).clamp_min(0)


def _grid(
    limits: tuple[Tensor, Tensor], ratio: Tensor | float, qmin: int, qmax: int, symmetric: bool
) -> tuple[Tensor, Tensor]:
    """Scale and zero point of each row, clipped at a ratio of its limits."""
    smallest, largest = limits
    if symmetric:
        absmax = torch.maximum(-smallest, largest)
        scale = (absmax * ratio / qmax).clamp_min(_SMALLEST_SCALE)
        return scale, torch.zeros(len(scale), dtype=torch.int32, device=scale.device)
    scale = ((largest - smallest) * ratio / (qmax - qmin)).clamp_min(_SMALLEST_SCALE)
    zero = qmin - (smallest * ratio * scale.reciprocal()).round()
    return scale, zero.nan_to_num(qmin, qmax, qmin).clamp(qmin, qmax).to(torch.int32)


def _ends(zero_point: Tensor, qmin: int, qmax: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """First and last code of each row before the zero point is added, `(rows, 1)`."""
    column = zero_point.unsqueeze(1).to(dtype)
    return qmin - column, qmax - column


def quantize_dynamic(
    x: Tensor, qmin: int, qmax: int, symmetric: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See `library`."""
    dtype = _working(x)
    scale = x.new_empty(len(x), dtype=dtype)
    zero = x.new_empty(len(x), dtype=torch.int32)
    for rows in _row_blocks(x):
        limits = _limits(x[rows].to(dtype))
        scale[rows], zero[rows] = _grid(limits, 1.0, qmin, qmax, symmetric)
    return quantize_static(x, scale, zero, qmin, qmax, False)[0], scale, zero


def quantize_static(
    x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int, with_mask: bool
) -> tuple[Tensor, Tensor]:
    """See `library`."""
    dtype = _working(x)
    y = torch.empty_like(x)
    inside = torch.empty(x.shape if with_mask else 0, dtype=torch.bool, device=x.device)
    step, (low, high) = scale.unsqueeze(1), _ends(zero_point, qmin, qmax, dtype)
    inverse = step.reciprocal()
    for rows in _row_blocks(x):
        code = torch.mul(x[rows], inverse[rows]).round_()
        if with_mask:
            torch.logical_and(code >= low[rows], code <= high[rows], out=inside[rows])
        y[rows] = code.clamp_(low[rows], high[rows]).mul_(step[rows])
    return y, _to_bits(inside)


def _to_bits(inside: Tensor) -> Tensor:
    flat = inside.flatten().to(torch.uint8)
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % MASK_BLOCK)).view(-1, 8, 32)
    bits = torch.zeros_like(blocks[:, 0])
    for k in range(8):
        bits |= blocks[:, k] << k
    return bits.flatten()


def _from_bits(mask: Tensor, total: int) -> Tensor:
    bytes_ = mask.view(-1, 1, 32)
    shifts = torch.arange(8, dtype=torch.uint8, device=mask.device).view(1, 8, 1)
    return ((bytes_ >> shifts) & 1).bool().flatten()[:total]


def mask_gradient(grad: Tensor, mask: Tensor) -> Tensor:
    """See `library`."""
    inside = _from_bits(mask, grad.numel()).view(grad.shape)
    return torch.where(inside, grad, torch.zeros((), dtype=grad.dtype, device=grad.device))


def learned_backward(
    grad: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `library`."""
    dtype = _working(x)
    dx = torch.empty_like(x)
    dscale, dzero = torch.empty_like(scale), torch.empty_like(scale)
    inverse, (low, high) = scale.unsqueeze(1).reciprocal(), _ends(zero_point, qmin, qmax, dtype)
    for rows in _row_blocks(x):
        steps = torch.mul(x[rows], inverse[rows])
        code = steps.round()
        clamped = code.clamp(low[rows], high[rows])
        inside = (code >= low[rows]) & (code <= high[rows])
        g = grad[rows].to(dtype)
        dx[rows] = torch.where(inside, grad[rows], torch.zeros_like(grad[rows]))
        by_scale = (g * torch.where(inside, code - steps, clamped)).sum(dim=1, dtype=torch.float64)
        outside = torch.where(inside, torch.zeros_like(g), g).sum(dim=1, dtype=torch.float64)
        dscale[rows] = by_scale.to(dtype)
        dzero[rows] = (-outside * scale[rows]).to(dtype)
    return dx, dscale, dzero


def fit_range(
    x: Tensor, qmin: int, qmax: int, symmetric: bool, ratios: Tensor, stride: int
) -> tuple[Tensor, Tensor]:
    """See `library`."""
    dtype = _working(x)
    scale = x.new_empty(len(x), dtype=dtype)
    zero = x.new_empty(len(x), dtype=torch.int32)
    for rows in _row_blocks(x):
        values = x[rows].to(dtype)
        limits, judged = _limits(values), values[:, ::stride]
        best = values.new_full((len(values),), torch.inf, dtype=torch.float64)
        for k, ratio in enumerate(ratios):
            tried, zeros = _grid(limits, ratio, qmin, qmax, symmetric)
            step, (low, high) = tried.unsqueeze(1), _ends(zeros, qmin, qmax, dtype)
            code = torch.mul(judged, step.reciprocal()).round_().clamp_(low, high)
            error = code.mul_(step).sub_(judged).double().square_().sum(dim=1)
            better = (error < best) | (k == 0)
            best = torch.where(better, error, best)
            scale[rows] = torch.where(better, tried, scale[rows])
            zero[rows] = torch.where(better, zeros, zero[rows])
    return scale, zero


def _uniform(start: int, count: int, key: int, device: torch.device) -> Tensor:
    """Random numbers of the elements from `start` on; the hash of quant.h, in 64 bits."""
    index = torch.arange(start, start + count, device=device)
    upper = ((index >> 32) * 0x9E3779B9) & _LOWER
    x = (index & _LOWER) ^ (key & _LOWER) ^ upper
    x ^= x >> 16
    x = (x * 0x21F0AAAD) & _LOWER
    x ^= x >> 15
    x = (x + (key >> 32 & _LOWER)) & _LOWER
    x = (x * 0xD35A2D97) & _LOWER
    x ^= x >> 15
    return (x >> 8).float() * (1.0 / 16777216.0)


def _wire_scale(absmax: Tensor, qmax: int) -> Tensor:
    greatest = torch.nextafter(
        torch.tensor(_LARGEST) / torch.tensor(float(qmax)), torch.tensor(0.0)
    ).to(absmax.device)
    scale = (absmax / qmax).clamp_min(_SMALLEST_NORMAL).minimum(greatest)
    return torch.where((absmax > 0) & (absmax <= _LARGEST), scale, absmax)


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
    cols = x.shape[1]
    qmax = greatest_level(wire_bits)
    scale = x.new_empty(len(x))
    codes = torch.empty(x.shape, dtype=torch.uint8, device=x.device)
    for rows in _row_blocks(x):
        target = x[rows] if residual is None else x[rows] + residual[rows]
        smallest, largest = _limits(target)
        scale[rows] = _wire_scale(torch.maximum(-smallest, largest).abs(), qmax)
        step = scale[rows].unsqueeze(1)
        usable = torch.isfinite(step)
        inverse = torch.where(step > 0, step.reciprocal(), torch.zeros_like(step))
        steps = torch.mul(target, inverse).clamp_(-qmax, qmax)
        level = steps.floor()
        uniform = _uniform(rows.start * cols, target.numel(), key, x.device).view(target.shape)
        level += (steps - level > uniform).float()
        level = torch.where(usable, level, torch.zeros_like(level))
        codes[rows] = (level + qmax).to(torch.uint8)
        if residual is not None:
            residual[rows] = torch.where(usable, target - level * step, residual[rows])
    return _pack(codes.flatten(), wire_bits), scale


def stochastic_pack_all(
    x: Sequence[NDArray[np.float32]],
    residual: Sequence[NDArray[np.float32]] | None,
    wire_bits: int,
    keys: Sequence[int],
    scales: NDArray[np.float32],
    packed: NDArray[np.uint8],
) -> None:
    """See `wire_arrays`."""
    rows_at = bytes_at = 0
    lefts = [None] * len(x) if residual is None else residual
    for one, left, key in zip(x, lefts, keys, strict=True):
        values = torch.from_numpy(one).view(as_matrix(one.shape))
        owed = None if left is None else torch.from_numpy(left).view(values.shape)
        codes, scale = stochastic_pack(values, owed, wire_bits, key)
        scales[rows_at : rows_at + len(scale)] = scale.numpy()
        packed[bytes_at : bytes_at + len(codes)] = codes.numpy()
        rows_at, bytes_at = rows_at + len(scale), bytes_at + len(codes)


def has_foreign_code(packed: NDArray[np.uint8], wire_bits: int) -> bool:
    """See `wire_arrays`."""
    full: NDArray[Any] = packed
    for shift in (4, 2, 1):
        if shift < wire_bits:
            full = full & (full >> shift)
    return bool(np.bitwise_or.reduce(full) & {8: 0x01, 4: 0x11, 2: 0x55}[wire_bits])


def _pack(codes: Tensor, wire_bits: int) -> Tensor:
    total, shift, packed = codes.numel(), wire_bits, []
    for bits in planes(wire_bits):
        shift -= bits
        part = (codes >> shift) & (2**bits - 1)
        stride, runs = -(-total * bits // 8), 8 // bits
        laid = torch.nn.functional.pad(part, (0, stride * runs - total)).view(runs, stride)
        plane = laid[0].clone()
        for run in range(1, runs):
            plane |= laid[run] << (bits * run)
        packed.append(plane)
    return torch.cat(packed)


def unpack(packed: Tensor, wire_bits: int, total: int) -> Tensor:
    """See `library`."""
    codes = torch.zeros(total, dtype=torch.uint8, device=packed.device)
    start, shift = 0, wire_bits
    for bits in planes(wire_bits):
        shift -= bits
        stride = packed_bytes(total, bits)
        plane = packed[start : start + stride]
        start += stride
        runs = [(plane >> (bits * run)) & (2**bits - 1) for run in range(8 // bits)]
        codes |= torch.cat(runs)[:total] << shift
    return codes


def unpack_add(
    packed: Sequence[Tensor],
    scales: Sequence[Tensor],
    weights: Sequence[float],
    wire_bits: int,
    total: Tensor,
) -> None:
    """See `library`."""
    qmax = greatest_level(wire_bits)
    for one, scale, weight in zip(packed, scales, weights, strict=True):
        level = unpack(one, wire_bits, total.numel()).view(total.shape).float().sub_(qmax)
        total.add_(level.mul_((scale * weight).unsqueeze(1)))


def unpack_add_all(
    bodies: Sequence[NDArray[np.uint8]],
    weights: Sequence[float],
    wire_bits: int,
    totals: Sequence[NDArray[np.float32]],
) -> None:
    """See `wire_arrays`."""
    shapes = [as_matrix(total.shape) for total in totals]
    scales_at, codes_at = 0, 4 * sum(rows for rows, _ in shapes)
    parts = [torch.from_numpy(body) for body in bodies]
    for (rows, cols), total in zip(shapes, totals, strict=True):
        size = packed_bytes(rows * cols, wire_bits)
        scales = [part[scales_at : scales_at + 4 * rows].view(torch.float32) for part in parts]
        packed = [part[codes_at : codes_at + size] for part in parts]
        unpack_add(packed, scales, weights, wire_bits, torch.from_numpy(total).view(rows, cols))
        scales_at, codes_at = scales_at + 4 * rows, codes_at + size
