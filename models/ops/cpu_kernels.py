"""The kernels on the CPU, compiled from C. `library` says what each does."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .cpu_build import load_library
from .sizes import as_matrix, mask_bytes, packed_bytes, weight_codes

_PARALLEL_FROM = 1 << 16
"""Elements from which several threads pay."""
_MAX_PIECES = 1024
"""The kernels cut a row in 4 pieces per thread; a machine has fewer threads than this over 4."""


_ANY_BYTES = ctypes.c_char * 0


def _threads(total: int) -> int:
    return min(torch.get_num_threads(), _MAX_PIECES // 4) if total >= _PARALLEL_FROM else 1


@functools.cache
def _kernel(name: str, num_arguments: int) -> Callable[..., None]:
    """All arguments of all kernels are 64 bits wide: addresses and whole numbers."""
    kernel = getattr(load_library(), name)
    kernel.argtypes, kernel.restype = [ctypes.c_int64] * num_arguments, None
    return kernel  # type: ignore[no-any-return]


def _call(name: str, *arguments: int) -> None:
    _kernel(name, len(arguments))(*arguments)


def _typed(name: str, x: Tensor) -> str:
    return name + ("_float32" if x.dtype is torch.float32 else "_bfloat16")


def _empty_grid(rows: int) -> tuple[Tensor, Tensor]:
    return torch.empty(rows), torch.empty(rows, dtype=torch.int32)


def quantize_dynamic(
    x: Tensor, qmin: int, qmax: int, symmetric: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See `library`."""
    rows, cols = x.shape
    y = torch.empty_like(x)
    scale, zero = _empty_grid(rows)
    at = x.data_ptr(), y.data_ptr(), scale.data_ptr(), zero.data_ptr()
    shape = rows, cols, qmin, qmax
    _call(_typed("quantize_dynamic", x), *at, *shape, symmetric, _threads(x.numel()))
    return y, scale, zero


def quantize_static(
    x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int, with_mask: bool
) -> tuple[Tensor, Tensor]:
    """See `library`."""
    rows, cols = x.shape
    y = torch.empty_like(x)
    mask = torch.empty(mask_bytes(x.numel()) if with_mask else 0, dtype=torch.uint8)
    mask_at = mask.data_ptr() if with_mask else 0
    at = x.data_ptr(), y.data_ptr(), mask_at, scale.data_ptr(), zero_point.data_ptr()
    _call(_typed("quantize_static", x), *at, rows, cols, qmin, qmax, _threads(x.numel()))
    return y, mask


def mask_gradient(grad: Tensor, mask: Tensor) -> Tensor:
    """See `library`."""
    out = torch.empty_like(grad)
    at = grad.data_ptr(), mask.data_ptr(), out.data_ptr()
    _call(_typed("mask_gradient", grad), *at, grad.numel(), _threads(grad.numel()))
    return out


def learned_backward(
    grad: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `library`."""
    rows, cols = x.shape
    threads = _threads(x.numel())
    dx = torch.empty_like(x)
    dscale, dzero = torch.empty(rows), torch.empty(rows)
    sums = torch.empty(2 * (rows + 4 * threads), dtype=torch.float64)
    inputs = grad.data_ptr(), x.data_ptr(), dx.data_ptr(), scale.data_ptr(), zero_point.data_ptr()
    outputs = dscale.data_ptr(), dzero.data_ptr()
    shape = rows, cols, qmin, qmax
    name = _typed("learned_backward", x)
    _call(name, *inputs, *outputs, *shape, sums.data_ptr(), threads)
    return dx, dscale, dzero


def fit_range(
    x: Tensor, qmin: int, qmax: int, symmetric: bool, ratios: Tensor, stride: int
) -> tuple[Tensor, Tensor]:
    """See `library`."""
    rows, cols = x.shape
    scale, zero = _empty_grid(rows)
    at = x.data_ptr(), scale.data_ptr(), zero.data_ptr()
    shape = rows, cols, qmin, qmax, symmetric
    tried = ratios.data_ptr(), len(ratios)
    _call(_typed("fit_range", x), *at, *shape, *tried, stride, _threads(x.numel()))
    return scale, zero


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
    rows, cols = x.shape
    y = torch.empty_like(x)
    mask = torch.empty(mask_bytes(rows * cols) if with_mask else 0, dtype=torch.uint8)
    scale, zero = _empty_grid(rows)
    mask_at = mask.data_ptr() if with_mask else 0
    at = x.data_ptr(), y.data_ptr(), mask_at, scale.data_ptr(), zero.data_ptr()
    tried = ratios.data_ptr(), len(ratios), stride
    name, threads = _typed("quantize_fitted", x), _threads(rows * cols)
    _call(name, *at, rows, cols, qmin, qmax, symmetric, *tried, threads)
    return y, mask, scale, zero


def quantize_weights(
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    mask: Sequence[Tensor],
    bits: Sequence[int],
    ratios: Tensor,
) -> None:
    """See `library`."""
    table: list[int] = []
    for one, to, bit, width in zip(x, y, mask, bits, strict=True):
        codes = weight_codes(width)
        table += (one.data_ptr(), to.data_ptr(), bit.data_ptr(), *one.shape, *codes)
    array = (ctypes.c_int64 * len(table))(*table)
    scale, zero = _empty_grid(max(len(one) for one in x))
    at = ctypes.addressof(array), len(x), scale.data_ptr(), zero.data_ptr()
    threads = torch.get_num_threads()
    _call(_typed("quantize_weights", x[0]), *at, ratios.data_ptr(), len(ratios), threads)


def stochastic_pack(
    x: Tensor, residual: Tensor | None, wire_bits: int, key: int
) -> tuple[Tensor, Tensor]:
    """See `library`."""
    rows, cols = x.shape
    scale = torch.empty(rows)
    packed = torch.empty(packed_bytes(x.numel(), wire_bits), dtype=torch.uint8)
    # At 8 bits the codes are the plane.
    codes = packed if wire_bits == 8 else torch.empty(x.numel(), dtype=torch.uint8)
    residual_at = 0 if residual is None else residual.data_ptr()
    at = x.data_ptr(), residual_at, scale.data_ptr(), codes.data_ptr(), packed.data_ptr()
    keys = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    _call("stochastic_pack", *at, rows, cols, wire_bits, *keys, _threads(x.numel()))
    return packed, scale


def stochastic_pack_all(
    x: Sequence[NDArray[np.float32]],
    residual: Sequence[NDArray[np.float32]] | None,
    wire_bits: int,
    keys: Sequence[int],
    scales: NDArray[np.float32],
    packed: NDArray[np.uint8],
) -> None:
    """See `wire_arrays`."""
    table: list[int] = []
    owed = [None] * len(x) if residual is None else residual
    for one, left, key in zip(x, owed, keys, strict=True):
        rows, cols = as_matrix(one.shape)
        left_at = 0 if left is None else _address(left)
        table += (_address(one), left_at, rows, cols, key & 0xFFFFFFFF, key >> 32)
    array = (ctypes.c_int64 * len(table))(*table)
    codes = np.empty(0 if wire_bits == 8 else max((one.size for one in x), default=0), np.uint8)
    at = ctypes.addressof(array), len(x), _address(scales), _address(codes), _address(packed)
    _call("stochastic_pack_all", *at, wire_bits, torch.get_num_threads())


def has_foreign_code(packed: NDArray[np.uint8], wire_bits: int) -> bool:
    """See `wire_arrays`."""
    found = ctypes.c_uint8()
    _call("foreign_code", _address(packed), packed.size, wire_bits, ctypes.addressof(found))
    return bool(found.value)


def _address(array: NDArray[Any]) -> int:
    """Of an array that can be written to; a third of the time that NumPy takes to tell."""
    return ctypes.addressof(_ANY_BYTES.from_buffer(array))  # type: ignore[arg-type]


def unpack(packed: Tensor, wire_bits: int, total: int) -> Tensor:
    """See `library`."""
    codes = torch.empty(total, dtype=torch.uint8)
    _call("unpack", packed.data_ptr(), codes.data_ptr(), total, wire_bits, _threads(total))
    return codes


def unpack_add(
    packed: Sequence[Tensor],
    scales: Sequence[Tensor],
    weights: Sequence[float],
    wire_bits: int,
    total: Tensor,
) -> None:
    """See `library`."""
    rows, cols = total.shape
    senders = len(packed)
    codes_at = (ctypes.c_void_p * senders)(*(t.data_ptr() for t in packed))
    scales_at = (ctypes.c_void_p * senders)(*(t.data_ptr() for t in scales))
    shares = (ctypes.c_float * senders)(*weights)
    lists = (ctypes.addressof(array) for array in (codes_at, scales_at, shares))
    threads = _threads(total.numel() * senders)
    _call("unpack_add", *lists, senders, total.data_ptr(), rows, cols, wire_bits, threads)


def unpack_add_all(
    bodies: Sequence[NDArray[np.uint8]],
    weights: Sequence[float],
    wire_bits: int,
    totals: Sequence[NDArray[np.float32]],
) -> None:
    """See `wire_arrays`."""
    senders = len(bodies)
    bodies_at = (ctypes.c_void_p * senders)(*map(_address, bodies))
    shares = (ctypes.c_float * senders)(*weights)
    table: list[int] = []
    for total in totals:
        table += (_address(total), *as_matrix(total.shape))
    array, places = (ctypes.c_int64 * len(table))(*table), (ctypes.c_void_p * (2 * senders))()
    senders_at, shares_at, tensors_at, places_at = (
        ctypes.addressof(part) for part in (bodies_at, shares, array, places)
    )
    at = senders_at, shares_at, senders, tensors_at, len(totals), places_at
    _call("unpack_add_all", *at, wire_bits, torch.get_num_threads())


def max_pool(x: Tensor) -> Tensor:
    """The greatest of each 2 x 2 window of `(..., height, width)` planes; see cpu_pool.h."""
    height, width = x.shape[-2:]
    y = x.new_empty(*x.shape[:-2], height // 2, width // 2)
    shape = x.numel() // (height * width), height, width
    _call(_typed("max_pool", x), x.data_ptr(), y.data_ptr(), *shape, _threads(x.numel()))
    return y


def max_pool_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient of `max_pool`: each goes to the element that was taken."""
    height, width = x.shape[-2:]
    dx = torch.empty_like(x)
    at = grad.data_ptr(), x.data_ptr(), dx.data_ptr()
    shape = x.numel() // (height * width), height, width
    _call(_typed("max_pool_gradient", x), *at, *shape, _threads(x.numel()))
    return dx
