"""The kernels as operators of torch, `torch.ops.fedhq.*`: their meaning, shapes and dispatch.

All work on contiguous tensors of shape `(rows, cols)`, a row for each scale: one for a tensor, one
for each channel, group, or client and channel. A grid has the codes qmin ... qmax; code c stands
for (c - zero_point) * scale. Scales are float32, zero points int32, both `(rows,)`.

    quantize_dynamic   y, scale, zero_point: ranges from each row's largest magnitude (symmetric) or
                       from its smallest to its largest value, zero included
    quantize_static    y, mask: given ranges; a bit for each element, set where its code before
                       clamping lies on the grid
    mask_gradient      the gradient where the bit is set, else 0
    learned_backward   dx, dscale, dzero_point: gradients of quantize_static in all it is given
    fit_range          scale, zero_point: of each row the clip ratio with the least squared rounding
                       error, judged by every stride-th value
    quantize_fitted    y, mask, scale, zero_point: fit_range and quantize_static in one
    quantize_weights   quantize_fitted of several weights at once, symmetric, into y and mask
    stochastic_pack    packed codes and scales of x + residual, rounded up or down at random; leaves
                       in residual what rounding left over
    unpack             codes, one a byte
    unpack_add         adds weight * decoded of several senders to a sum

Kernels are compiled C on the CPU and compiled CUDA C++ on a GPU; without a compiler, and for other
types than float32 and bfloat16, plain torch. `FEDHQ_KERNELS=torch` asks for plain torch throughout,
`FEDHQ_KERNELS=compiled` makes a missing compiler an error.

Gradients, shapes of more than two dimensions and checks are those of `models.fake_quant`; called
here, operators have no gradient.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from . import cpu_kernels, cuda_kernels, shapes, torch_kernels
from .cpu_build import BuildError, load_library
from .sizes import MAX_RATIOS, mask_bytes, packed_bytes, weight_codes

_SCHEMAS = (
    "quantize_dynamic(Tensor x, int qmin, int qmax, bool symmetric) -> (Tensor, Tensor, Tensor)",
    "quantize_static(Tensor x, Tensor scale, Tensor zero_point, int qmin, int qmax, bool with_mask)"
    " -> (Tensor, Tensor)",
    "mask_gradient(Tensor grad, Tensor mask) -> Tensor",
    "learned_backward(Tensor grad, Tensor x, Tensor scale, Tensor zero_point, int qmin, int qmax)"
    " -> (Tensor, Tensor, Tensor)",
    "fit_range(Tensor x, int qmin, int qmax, bool symmetric, Tensor ratios, int stride)"
    " -> (Tensor, Tensor)",
    "quantize_fitted(Tensor x, int qmin, int qmax, bool symmetric, Tensor ratios, int stride,"
    " bool with_mask) -> (Tensor, Tensor, Tensor, Tensor)",
    "quantize_weights(Tensor[] x, Tensor(a!)[] y, Tensor(b!)[] mask, int[] bits, Tensor ratios)"
    " -> ()",
    "stochastic_pack(Tensor x, Tensor(a!)? residual, int wire_bits, int key) -> (Tensor, Tensor)",
    "unpack(Tensor packed, int wire_bits, int total) -> Tensor",
    "unpack_add(Tensor[] packed, Tensor[] scales, float[] weights, int wire_bits, Tensor(a!) total)"
    " -> ()",
)
_WORD = 0xFFFFFFFFFFFFFFFF
_COMPILED_TYPES = frozenset({torch.float32, torch.bfloat16, torch.uint8})
"""uint8 is that of packed codes; rows are always of floats."""


@functools.cache
def cpu() -> ModuleType:
    """The module whose kernels serve the CPU."""
    wanted = os.environ.get("FEDHQ_KERNELS", "auto")
    if wanted not in ("auto", "torch", "compiled"):
        raise ValueError(
            f"`FEDHQ_KERNELS` must be auto, torch or compiled, but got {wanted!r}. Unset it."
        )
    if wanted == "torch":
        return torch_kernels
    try:
        load_library()
    except BuildError as error:
        if wanted == "compiled":
            raise
        warnings.warn(
            f"fedhq quantizes with plain torch, several times slower than compiled: {error} "
            "FEDHQ_KERNELS=torch silences this.",
            stacklevel=2,
        )
        return torch_kernels
    return cpu_kernels


@functools.cache
def _cuda() -> ModuleType:
    """The module whose kernels serve CUDA."""
    if os.environ.get("FEDHQ_KERNELS") == "torch" or not cuda_kernels.is_available():
        return torch_kernels
    return cuda_kernels


def _kernels(x: Tensor) -> ModuleType:
    """Whose kernels serve a tensor."""
    if x.dtype in _COMPILED_TYPES:
        return _cuda() if x.is_cuda else cpu()
    return torch_kernels


def _of_rows(
    x: Tensor, scale: Tensor | None = None, zero_point: Tensor | None = None
) -> ModuleType:
    """Whose kernels serve rows and their grid; raises `ValueError` for what they would misread."""
    fits = x.dim() == 2 and x.is_contiguous() and x.is_floating_point()
    for value, dtype in ((scale, torch.float32), (zero_point, torch.int32)):
        if value is not None:
            fits = fits and value.shape == x.shape[:1] and value.is_contiguous()
            # Plain torch reads any type.
            fits = fits and (value.dtype == dtype or x.dtype not in _COMPILED_TYPES)
            fits = fits and value.device == x.device
    if not fits:
        got = (f"{tuple(t.shape)} {t.dtype}" for t in (x, scale, zero_point) if t is not None)
        raise ValueError(
            "`x` must be (rows, cols), contiguous and of floats, scales (rows,) float32 and zero "
            f"points (rows,) int32 on its device, but got {', '.join(got)}. `as_rows` makes rows."
        )
    return _kernels(x)


def _require_ratios(ratios: Tensor, stride: int) -> None:
    if ratios.dtype != torch.float32 or not 0 < len(ratios) <= MAX_RATIOS or stride < 1:
        raise ValueError(
            f"`ratios` must be 1 to {MAX_RATIOS} float32 numbers and `stride >= 1`, but got "
            f"{len(ratios)} of {ratios.dtype} and {stride}."
        )


def _require_wire(wire_bits: int, *floats: Tensor) -> None:
    """Raises `ValueError` for what the wire's kernels would misread."""
    if not 2 <= wire_bits <= 8:
        raise ValueError(f"`2 <= wire_bits <= 8` must hold, but got {wire_bits}.")
    if any(t.dtype != torch.float32 or not t.is_contiguous() for t in floats):
        raise ValueError(
            "the wire takes contiguous float32, but got "
            f"{', '.join(f'{tuple(t.shape)} {t.dtype}' for t in floats)}."
        )


def _require_packed(packed: Tensor, wire_bits: int, total: int) -> None:
    size = packed_bytes(total, wire_bits)
    if packed.dtype != torch.uint8 or packed.shape != (size,) or not packed.is_contiguous():
        raise ValueError(
            f"`packed` must be {size} bytes for {total} codes of {wire_bits} bits, but is "
            f"{tuple(packed.shape)} {packed.dtype}."
        )


def _quantize_dynamic(
    x: Tensor, qmin: int, qmax: int, symmetric: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _of_rows(x).quantize_dynamic(x, qmin, qmax, symmetric)  # type: ignore[no-any-return]


def _quantize_static(
    x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int, with_mask: bool
) -> tuple[Tensor, Tensor]:
    kernels = _of_rows(x, scale, zero_point)
    return kernels.quantize_static(x, scale, zero_point, qmin, qmax, with_mask)  # type: ignore[no-any-return]


def _mask_gradient(grad: Tensor, mask: Tensor) -> Tensor:
    if mask.shape != (mask_bytes(grad.numel()),) or mask.dtype != torch.uint8:
        raise ValueError(
            f"`mask` must have {mask_bytes(grad.numel())} bytes for {grad.numel()} values, but is "
            f"{tuple(mask.shape)} {mask.dtype}. Take that of `quantize_static`, asked for with "
            "`with_mask`."
        )
    if not grad.is_floating_point() or not mask.is_contiguous() or mask.device != grad.device:
        raise ValueError(
            "`grad` must be of floats, and `mask` contiguous on its device, but they are "
            f"{grad.dtype} on {grad.device} and on {mask.device}."
        )
    return _kernels(grad).mask_gradient(grad.contiguous(), mask)  # type: ignore[no-any-return]


def _learned_backward(
    grad: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int
) -> tuple[Tensor, Tensor, Tensor]:
    if grad.shape != x.shape or grad.dtype != x.dtype or not grad.is_contiguous():
        raise ValueError(
            f"`grad` must be as `x`, {tuple(x.shape)} {x.dtype}, and contiguous, but is "
            f"{tuple(grad.shape)} {grad.dtype}."
        )
    kernels = _of_rows(x, scale, zero_point)
    return kernels.learned_backward(grad, x, scale, zero_point, qmin, qmax)  # type: ignore[no-any-return]


def _fit_range(
    x: Tensor, qmin: int, qmax: int, symmetric: bool, ratios: Tensor, stride: int
) -> tuple[Tensor, Tensor]:
    _require_ratios(ratios, stride)
    return _of_rows(x).fit_range(x, qmin, qmax, symmetric, ratios, stride)  # type: ignore[no-any-return]


def _quantize_fitted(
    x: Tensor,
    qmin: int,
    qmax: int,
    symmetric: bool,
    ratios: Tensor,
    stride: int,
    with_mask: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _require_ratios(ratios, stride)
    kernels = _of_rows(x)
    return kernels.quantize_fitted(x, qmin, qmax, symmetric, ratios, stride, with_mask)  # type: ignore[no-any-return]


def _quantize_weights(
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    mask: Sequence[Tensor],
    bits: Sequence[int],
    ratios: Tensor,
) -> None:
    if not len(x) == len(y) == len(mask) == len(bits) > 0 or not all(2 <= b <= 8 for b in bits):
        raise ValueError(
            "`x`, `y`, `mask` and `bits` must be of one length, at least 1, and bits 2 to 8, but "
            f"got {len(x)}, {len(y)}, {len(mask)} and {list(bits)}."
        )
    for one, to, bit in zip(x, y, mask, strict=True):
        _of_rows(one)
        size = mask_bytes(one.numel())
        same = to.shape == one.shape and to.dtype == one.dtype and to.is_contiguous()
        if not same or bit.shape != (size,) or bit.dtype != torch.uint8:
            raise ValueError(
                f"`y` must be {tuple(one.shape)} {one.dtype}, contiguous, and `mask` of {size} "
                f"bytes, but they are {tuple(to.shape)} {to.dtype} and {tuple(bit.shape)} "
                f"{bit.dtype}."
            )
    _require_ratios(ratios, 1)
    if _kernels(x[0]) is cpu_kernels and all(one.dtype == x[0].dtype for one in x):
        cpu_kernels.quantize_weights(x, y, mask, bits, ratios)
        return
    for one, to, bit, width in zip(x, y, mask, bits, strict=True):
        codes = weight_codes(width)
        fitted = one, *codes, True, ratios, 1, True
        quantized, inside, _, _ = _kernels(one).quantize_fitted(*fitted)
        to.copy_(quantized)
        bit.copy_(inside)


def _stochastic_pack(
    x: Tensor, residual: Tensor | None, wire_bits: int, key: int
) -> tuple[Tensor, Tensor]:
    _require_wire(wire_bits, x, *() if residual is None else (residual,))
    if residual is not None and residual.shape != x.shape:
        raise ValueError(
            f"`residual` must be as `x`, {tuple(x.shape)}, but is {tuple(residual.shape)}."
        )
    return _of_rows(x).stochastic_pack(x, residual, wire_bits, mix_key(key))  # type: ignore[no-any-return]


def mix_key(key: int) -> int:
    """Another key for every key, its halves alike in nothing (splitmix64: Steele et al. 2014).

    The kernels' hash is strong in the key's lower half alone.
    """
    key = (key + 0x9E3779B97F4A7C15) & _WORD
    key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & _WORD
    return key ^ (key >> 31)


def _unpack(packed: Tensor, wire_bits: int, total: int) -> Tensor:
    _require_wire(wire_bits)
    _require_packed(packed, wire_bits, total)
    return _kernels(packed).unpack(packed, wire_bits, total)  # type: ignore[no-any-return]


def _unpack_add(
    packed: Sequence[Tensor],
    scales: Sequence[Tensor],
    weights: Sequence[float],
    wire_bits: int,
    total: Tensor,
) -> None:
    _require_wire(wire_bits, total, *scales)
    if not len(packed) == len(scales) == len(weights):
        raise ValueError(
            "`packed`, `scales` and `weights` must be of one length, but are of "
            f"{len(packed)}, {len(scales)} and {len(weights)}."
        )
    # What is alike in all senders is worked out once: there are thousands of small tensors.
    size, rows = (packed_bytes(total.numel(), wire_bits),), total.shape[:1]
    for one, scale in zip(packed, scales, strict=True):
        if one.shape != size or one.dtype != torch.uint8 or not one.is_contiguous():
            _require_packed(one, wire_bits, total.numel())
        if scale.shape != rows or scale.device != total.device:
            _of_rows(total, scale)
    _of_rows(total).unpack_add(packed, scales, weights, wire_bits, total)


_OPERATORS: tuple[tuple[Callable[..., Any], Callable[..., Any]], ...] = (
    (_quantize_dynamic, shapes.dynamic),
    (_quantize_static, shapes.static),
    (_mask_gradient, shapes.mask_gradient),
    (_learned_backward, shapes.learned),
    (_fit_range, shapes.fit),
    (_quantize_fitted, shapes.fitted),
    (_quantize_weights, shapes.weights),
    (_stochastic_pack, shapes.pack),
    (_unpack, shapes.unpack),
    (_unpack_add, shapes.unpack_add),
)

_NAMES = [schema.partition("(")[0] for schema in _SCHEMAS]

# Kept alive: with this object the operators would go.
_LIBRARY = torch.library.Library("fedhq", "DEF")  # type: ignore[no-untyped-call]
for _name, _schema, (_implementation, _fake) in zip(_NAMES, _SCHEMAS, _OPERATORS, strict=True):
    _LIBRARY.define(_schema)  # type: ignore[no-untyped-call]
    for _device in ("CPU", "CUDA"):
        _LIBRARY.impl(_name, _implementation, _device)  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"fedhq::{_name}", _fake, lib=_LIBRARY)

_DIRECT = SimpleNamespace(**dict(zip(_NAMES, (call for call, _ in _OPERATORS), strict=True)))
_PLAIN_TYPES = (torch.Tensor, torch.nn.Parameter)


def is_plain(x: Tensor) -> bool:
    """Whether nobody looks on: a tensor of torch itself, and no compiler, mode or transform.

    Args:
        x: What a function is called with.

    Example:
        >>> is_plain(torch.ones(2)), is_plain(torch.ones(2, device="meta"))
        (True, False)
    """
    if torch.compiler.is_compiling() or type(x) not in _PLAIN_TYPES or not (x.is_cpu or x.is_cuda):
        return False
    return not (
        torch._C._len_torch_dispatch_stack()
        or torch._C._are_functorch_transforms_active()
        or torch._C._functorch.is_legacy_batchedtensor(x)
    )


def operators(x: Tensor) -> Any:
    """`torch.ops.fedhq`, or the same functions past torch's dispatcher where nobody looks on.

    In a training step, with its caches cold, the dispatcher takes longer than many a tensor: of a
    small CNN's QAT step at 28x28 calls past it save a twentieth.

    Args:
        x: What they are called with.
    """
    return _DIRECT if is_plain(x) else torch.ops.fedhq
