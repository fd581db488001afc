"""Bandwidth of the CUDA kernels: `python -m fedhq.studies.bench_cuda`, on a machine with a GPU.

Every kernel is compared with a device copy that moves as many bytes as the kernel must, and with
what ATen and torchao offer. Times are taken with events on the device, candidates in turn.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from ..models.ops import cuda_kernels
from .benchmark import table
from .goals import Goal
from .timing import Candidate, Role, Row

_LOW, _HIGH = -7, 7  # 4 bits, symmetric
_SAMPLES, _WARM_UPS = 15, 3
_CALLS = 5
_GOAL = Goal("share of a device copy's bandwidth", 0.85, at_least=True)

Call = Callable[[], Any]
_ops = torch.ops.fedhq


@dataclass(frozen=True)
class Case:
    """What is compared.

    Args:
        name: Of the work.
        num_bytes: That it must read and write at least.
        ours: fedhq's kernel.
        others: Names and calls of what one could use instead.
    """

    name: str
    num_bytes: int
    ours: Call
    others: tuple[tuple[str, Call], ...] = ()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all cases and prints their table.

    Args:
        arguments: Of the command line; those of the process where None.
    """
    parser = argparse.ArgumentParser(prog="python -m fedhq.studies.bench_cuda", description=__doc__)
    parser.add_argument(
        "--elements", type=int, default=2**26, metavar="N", help="floats in a tensor (2^26)"
    )
    options = parser.parse_args(arguments)
    if not cuda_kernels.is_available():
        raise SystemExit(
            "No CUDA kernels here: they need a GPU, a torch build for CUDA, and NVRTC of the same "
            "version (pip install nvidia-cuda-nvrtc). Nothing was measured."
        )
    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}\n")
    rows = [row for case in cases(options.elements, device) for row in _compare(case, device)]
    print(table(rows), end="")


def cases(elements: int, device: torch.device) -> Iterator[Case]:
    """All kernels on float32 and the first also on bfloat16; rows as in networks.

    Args:
        elements: About how many numbers a tensor has.
        device: Where they lie.
    """
    for cols in (9, 576, 4096, elements):  # depthwise and other convolutions, linear, one row
        x = torch.randn(max(elements // cols, 1), cols, device=device)
        yield _dynamic(x)
        yield from _static(x)
        yield _learned(x)
    x = torch.randn(max(elements // 4096, 1), 4096, device=device)
    yield _dynamic(x.bfloat16())
    yield from _wire(x)


def _named(what: str, x: Tensor) -> str:
    return f"{what}, {x.shape[0]:,} x {x.shape[1]:,} {str(x.dtype)[6:]}"


def _grid(x: Tensor) -> tuple[Tensor, Tensor]:
    zero = torch.zeros(len(x), dtype=torch.int32, device=x.device)
    return torch.full((len(x),), 0.4, device=x.device), zero


def _dynamic(x: Tensor) -> Case:
    ours = partial(_ops.quantize_dynamic, x, _LOW, _HIGH, True)
    others = [("ATen amax, then fake_quantize_per_channel_affine", partial(_aten_dynamic, x))]
    if find_spec("torchao") is not None:
        others.append(("torchao IntxFakeQuantizer", partial(_torchao(), x)))
    return Case(_named("dynamic", x), 2 * x.nbytes, ours, tuple(others))


def _aten_dynamic(x: Tensor) -> Tensor:
    scale = (x.abs().amax(dim=1) / _HIGH).float()
    zero = torch.zeros(len(x), dtype=torch.int32, device=x.device)
    return torch.fake_quantize_per_channel_affine(x, scale, zero, 0, _LOW, _HIGH)


def _torchao() -> Callable[[Tensor], Tensor]:
    qat = import_module("torchao.quantization.qat")
    four_bits: Any = torch.int4  # type: ignore[attr-defined]  # not in torch's stubs
    config = qat.IntxFakeQuantizeConfig(four_bits, "per_channel", is_symmetric=True)
    quantizer: Callable[[Tensor], Tensor] = qat.IntxFakeQuantizer(config)
    return quantizer


def _static(x: Tensor) -> Iterator[Case]:
    scale, zero = _grid(x)
    ours = partial(_ops.quantize_static, x, scale, zero, _LOW, _HIGH, True)
    forward = partial(
        torch.ops.aten.fake_quantize_per_channel_affine_cachemask, x, scale, zero, 0, _LOW, _HIGH
    )
    name = "ATen fake_quantize_per_channel_affine"
    num_bytes = 2 * x.nbytes + x.numel() // 8
    yield Case(_named("static with mask", x), num_bytes, ours, ((name, forward),))
    mask, byte_mask = ours()[1], forward()[1]
    masked = partial(_ops.mask_gradient, x, mask)
    backward = partial(
        torch.ops.aten.fake_quantize_per_channel_affine_cachemask_backward, x, byte_mask
    )
    others = ((f"{name}, backward", backward),)
    yield Case(_named("gradient through the mask", x), num_bytes, masked, others)


def _learned(x: Tensor) -> Case:
    scale, zero = _grid(x)
    grad = torch.randn_like(x)
    ours = partial(_ops.learned_backward, grad, x, scale, zero, _LOW, _HIGH)
    name = "_fake_quantize_learnable_per_channel_affine_backward"
    aten = getattr(torch.ops.aten, name)
    backward = partial(aten, grad, x, scale, zero.float(), 0, _LOW, _HIGH)
    return Case(_named("learned, backward", x), 3 * x.nbytes, ours, ((f"ATen {name}", backward),))


def _wire(x: Tensor) -> Iterator[Case]:
    residual = torch.zeros_like(x)
    for bits in (4, 5):
        pack = partial(_ops.stochastic_pack, x, residual, bits, 1)
        packed, scale = pack()
        # x and the residual are read, the residual is written.
        yield Case(_named(f"pack to {bits} bits", x), 3 * x.nbytes + packed.nbytes, pack)
        for senders in (1, 8):
            lists = [packed] * senders, [scale] * senders, [0.1] * senders
            add = partial(_ops.unpack_add, *lists, bits, torch.zeros_like(x))
            num_bytes = 2 * x.nbytes + senders * packed.nbytes
            yield Case(_named(f"add {senders} of {bits} bits", x), num_bytes, add)


def _compare(case: Case, device: torch.device) -> list[Row]:
    source = torch.empty(case.num_bytes // 2, dtype=torch.uint8, device=device)
    copy = partial(torch.empty_like(source).copy_, source)
    candidates = [
        Candidate("fedhq kernel", Role.OURS, case.ours),
        *(Candidate(name, Role.ALTERNATIVE, call) for name, call in case.others),
        Candidate("device copy of as many bytes", Role.LIMIT, copy),
    ]
    for candidate in candidates * _WARM_UPS:
        candidate.run()
    samples: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
    for candidate in candidates * _SAMPLES:
        samples[candidate.name].append(_seconds(candidate.run))
    best = {name: min(seconds) for name, seconds in samples.items()}
    return [
        _row(case, candidate, best, statistics.median(samples[candidate.name]))
        for candidate in candidates
    ]


def _seconds(run: Call) -> float:
    """Per call, on the device."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(_CALLS):
        run()
    end.record()
    end.synchronize()
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1e3 / _CALLS


def _row(case: Case, candidate: Candidate, best: dict[str, float], median: float) -> Row:
    own = best[candidate.name]
    ours, *_, limit = best.values()
    verdicts = (_GOAL.judge(limit / own),) if candidate.role is Role.OURS else ()
    note = f"{case.num_bytes / own / 1e9:,.0f} GB/s of what it must move"
    ratios = own / ours, own / limit
    return Row(
        case.name, candidate.name, candidate.role, own, median, *ratios, note, None, verdicts
    )


if __name__ == "__main__":
    main()
