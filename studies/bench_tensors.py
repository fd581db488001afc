"""Benchmarks of operations: fake quantization against ATen, other libraries, and memcpy.

The results of a call are new tensors, as in training. `set_up_process` has told the allocator to
keep its pages, so after the first call none of them is faulted in, and only the work is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from ..models import fake_quantize, fake_quantize_dynamic, fit_range
from ..models.ops import torch_kernels
from .goals import Goal
from .others import brevitas_weight, torchao_fake_quantizer, why_missing
from .timing import Bench, Candidate, Role, Row, on_threads

_LOW, _HIGH = -8, 7  # 4 bits
_BITS = 4
_FACTOR = 0.1  # on a scale's gradient; what it is does not change the work
_RATIOS = torch.tensor([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
_DYNAMIC_GOAL = Goal("time over memcpy", 1.3, "x")
_LEARNED_GOAL = Goal("faster than ATen's learnable op", 15.0, "x", at_least=True)

Quantize = Callable[[Tensor], Tensor]


def tensor_rows(bench: Bench) -> Iterator[Row]:
    """All kinds of fake quantization, at the small and the large size."""
    scale = bench.scale
    sizes = [(scale.elements, 1)] + [(scale.large_elements, threads) for threads in scale.threads]
    for elements, threads in sizes:
        if elements:
            with on_threads(threads):
                yield from _all_kinds(bench, isqrt(elements), threads)


def _all_kinds(bench: Bench, side: int, threads: int) -> Iterator[Row]:
    x = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    where = f"{x.numel():,} floats" + (f", {threads} threads" if threads > 1 else "")
    yield from _dynamic(bench, x, where, is_judged=x.numel() > bench.scale.elements)
    for per_channel in (False, True):
        for with_backward in (False, True):
            yield from _static(bench, x, where, per_channel, with_backward)
    yield from _learned(bench, x, where)
    yield from _fit(bench, x, where)


def _dynamic(bench: Bench, x: Tensor, where: str, is_judged: bool) -> Iterator[Row]:
    """Judged at the large size: a copy of a small tensor never leaves the cache."""
    rows = (len(x),)
    zeros = torch.zeros(rows, dtype=torch.int32)
    brevitas, torchao = why_missing("brevitas"), why_missing("torchao")

    def aten(t: Tensor) -> Tensor:
        scale = t.abs().amax(dim=1) / _HIGH
        return torch.fake_quantize_per_channel_affine(t, scale, zeros, 0, _LOW, _HIGH)

    candidates = [
        _forward(
            "fake_quantize_dynamic",
            Role.OURS,
            lambda t: fake_quantize_dynamic(t, _LOW, _HIGH, True, rows)[0],
            x,
        ),
        _forward(
            "the same in plain torch",
            Role.ALTERNATIVE,
            lambda t: torch_kernels.quantize_dynamic(t, _LOW, _HIGH, True)[0],
            x,
        ),
        _forward("amax and ATen per channel", Role.ALTERNATIVE, aten, x),
        _forward(
            "torchao IntxFakeQuantizer",
            Role.ALTERNATIVE,
            None if torchao else torchao_fake_quantizer(_BITS),
            x,
            torchao,
        ),
        _forward(
            "Brevitas weight quantizer",
            Role.ALTERNATIVE,
            None if brevitas else _of_own(brevitas_weight(x, _BITS, learns=False)[0]),
            x,
            brevitas,
        ),
        _memcpy(x, 1),
    ]
    ours, *others = bench.compare(f"dynamic per channel, forward, {where}", candidates)
    if is_judged and ours.over_limit is not None:
        ours = replace(ours, verdicts=(_DYNAMIC_GOAL.judge(ours.over_limit),))
    yield from (ours, *others)


def _static(
    bench: Bench, x: Tensor, where: str, per_channel: bool, with_backward: bool
) -> list[Row]:
    one, many = torch.tensor(0.4), torch.linspace(0.3, 0.5, len(x))
    scale = many if per_channel else one
    zeros = torch.zeros(len(x), dtype=torch.int32)

    def ours(t: Tensor) -> Tensor:
        return fake_quantize(t, scale, 0, _LOW, _HIGH)

    def aten(t: Tensor) -> Tensor:
        if per_channel:
            return torch.fake_quantize_per_channel_affine(t, scale, zeros, 0, _LOW, _HIGH)
        return torch.fake_quantize_per_tensor_affine(t, 0.4, 0, _LOW, _HIGH)

    make = _forward_backward if with_backward else _forward
    granularity = "channel" if per_channel else "tensor"
    name = f"fake_quantize_per_{granularity}_affine"
    same = "same values" if torch.equal(ours(x), aten(x)) else "OTHER VALUES than ATen"
    candidates = [
        replace(make("fake_quantize", Role.OURS, ours, x), describe=lambda _: same),
        make(f"ATen {name}", Role.ALTERNATIVE, aten, x),
        _memcpy(x, 2 if with_backward else 1),
    ]
    passes = "forward + backward" if with_backward else "forward"
    return bench.compare(f"static per {granularity}, {passes}, {where}", candidates)


def _learned(bench: Bench, x: Tensor, where: str) -> Iterator[Row]:
    """Gradients go to the values and to the scales; judged at every size."""
    leaf, scale = x.clone().requires_grad_(), torch.linspace(0.3, 0.5, len(x)).requires_grad_()
    zeros = torch.zeros(len(x))
    total = torch.empty_like(x)
    brevitas = why_missing("brevitas")

    def ours() -> tuple[Tensor, ...]:
        y = fake_quantize(leaf, scale, 0, _LOW, _HIGH, _FACTOR)
        return torch.autograd.grad(y, (leaf, scale), x)

    def aten() -> tuple[Tensor, ...]:
        y = torch._fake_quantize_learnable_per_channel_affine(
            leaf, scale, zeros, 0, _LOW, _HIGH, _FACTOR
        )
        return torch.autograd.grad(y, (leaf, scale), x)

    def move() -> None:
        total.copy_(x)
        torch.add(x, leaf.detach(), out=total)

    same = "same gradients" if _close(ours(), aten()) else "OTHER VALUES than ATen"
    candidates = [
        Candidate("fake_quantize", Role.OURS, ours, lambda _: same),
        Candidate("ATen learnable per channel", Role.ALTERNATIVE, aten),
        Candidate(
            "Brevitas, learned weight scale",
            Role.ALTERNATIVE,
            int if brevitas else _gradients_of(*brevitas_weight(x, _BITS, learns=True), x),
            missing=brevitas,
        ),
        Candidate("copy and sum: as many bytes", Role.LIMIT, move),
        _memcpy(x, 1),
    ]
    mine, theirs, *others = bench.compare(
        f"learned per channel, forward + backward, {where}", candidates
    )
    if theirs.over_ours is not None:
        mine = replace(mine, verdicts=(_LEARNED_GOAL.judge(theirs.over_ours),))
    yield from (mine, theirs, *others)


def _fit(bench: Bench, x: Tensor, where: str) -> list[Row]:
    rows = (len(x),)
    plain = partial(torch_kernels.fit_range, x, _LOW, _HIGH, True, _RATIOS, 1)
    candidates = [
        Candidate("fit_range", Role.OURS, partial(fit_range, x, _LOW, _HIGH, True, rows)),
        Candidate("the same in plain torch", Role.ALTERNATIVE, plain),
        Candidate("sum: one read", Role.LIMIT, x.sum),
        _memcpy(x, 1),
    ]
    return bench.compare(f"fit of {len(_RATIOS)} clip ratios per channel, {where}", candidates)


def _forward(
    name: str, role: Role, quantize: Quantize | None, x: Tensor, missing: str = ""
) -> Candidate:
    def run() -> None:
        assert quantize is not None
        with torch.no_grad():
            quantize(x)

    return Candidate(name, role, run, missing=missing)


def _forward_backward(name: str, role: Role, quantize: Quantize, x: Tensor) -> Candidate:
    def run() -> None:
        leaf = x.detach().requires_grad_()
        torch.autograd.grad(quantize(leaf), leaf, x)  # any gradient of that shape: x serves

    return Candidate(name, role, run)


def _of_own(quantized: Callable[[], Tensor]) -> Quantize:
    """A quantizer that is bound to its values."""
    return lambda _: quantized()


def _gradients_of(
    quantized: Callable[[], Tensor], parameters: list[Tensor], grad: Tensor
) -> Callable[[], Any]:
    return lambda: torch.autograd.grad(quantized(), parameters, grad)


def _memcpy(x: Tensor, times: int) -> Candidate:
    buffer = torch.empty_like(x)

    def run() -> None:
        for _ in range(times):
            buffer.copy_(x)

    return Candidate("memcpy, twice" if times == 2 else "memcpy", Role.LIMIT, run)


def _close(some: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> bool:
    return all(
        torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(some, others, strict=True)
    )
