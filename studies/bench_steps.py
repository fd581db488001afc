"""Benchmarks of a training step: quantization-aware over float, through the code of the clients.

The others are the same network in the same loop with other fake quantization: ours with ranges
that reach to the largest value, which tells what fitting ranges costs; that of torch.ao, which has
such ranges too (deprecated and no dependency: left out where torch no longer has it); and a copy in
place of every fake quantization, the least that reading and writing these tensors costs.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ..allocator.strategy import Strategy
from ..fl_core.client import LocalTrainer, Weights, read_weights
from ..fl_core.datasets import Dataset
from ..fl_core.settings import TrainingSettings
from ..models import activation_range, build_model, fake_quantize, weight_range
from .timing import Bench, Candidate, Role, Row

_BITS = 2
_BATCH, _STEPS, _CLASSES = 32, 5, 10
_FLOAT, _QAT = Strategy.parse("fp32"), Strategy.parse(f"qat-w{_BITS}a{_BITS}")

MakeQuantizer = Callable[[], nn.Module]


class _Conv(nn.Conv2d):
    """A convolution whose weight and input go through a module each."""

    weight_quantizer: nn.Module
    input_quantizer: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        x, weight = self.input_quantizer(input), self.weight_quantizer(self.weight)
        output: Tensor = self._conv_forward(x, weight, self.bias)
        return output


class _Linear(nn.Linear):
    """A linear layer whose weight and input go through a module each."""

    weight_quantizer: nn.Module
    input_quantizer: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        x, weight = self.input_quantizer(input), self.weight_quantizer(self.weight)
        return nn.functional.linear(x, weight, self.bias)


class _Copy(nn.Module):
    """Copies its input; the gradient passes."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class _FullRange(nn.Module):
    """Our fake quantization with a scale that reaches to the largest magnitude."""

    def __init__(self, codes: tuple[int, int], per_channel: bool) -> None:
        super().__init__()
        self._codes, self._per_channel = codes, per_channel

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            largest = x.abs().flatten(1).amax(dim=1) if self._per_channel else x.max()
            scale = largest.div(self._codes[1]).clamp_min_(1e-12)
        return fake_quantize(x, scale, 0, *self._codes)


def step_rows(bench: Bench) -> Iterator[Row]:
    """The CNN's step at every image size."""
    for side in bench.scale.images:
        yield from _steps(bench, side)


def _steps(bench: Bench, side: int) -> list[Row]:
    """Times are per step, of a call that loads the weights and takes several, as a client does."""
    model = build_model("cnn", (1, side, side), _CLASSES, 0)
    data = _data(side)
    weights = read_weights(model)
    run = partial(_train, LocalTrainer(model, TrainingSettings(batch_size=_BATCH)), weights, data)
    make_weight = partial(_FullRange, weight_range(_BITS), True)
    make_input = partial(_FullRange, activation_range(_BITS), False)
    full = partial(_train, _trainer_with(model, make_weight, make_input), weights, data, _FLOAT)
    copies = partial(_train, _trainer_with(model, _Copy, _Copy), weights, data, _FLOAT)
    candidates = [
        Candidate(f"{_QAT}, fitted ranges", Role.OURS, partial(run, _QAT), parts=_STEPS),
        Candidate("models.fake_quantize, full ranges", Role.ALTERNATIVE, full, parts=_STEPS),
        _torch_ao(model, weights, data),
        Candidate("float", Role.LIMIT, partial(run, _FLOAT), parts=_STEPS),
        Candidate("float, copies as fake quantization", Role.LIMIT, copies, parts=_STEPS),
    ]
    return bench.compare(f"training step, cnn at {side}x{side}, batch {_BATCH}", candidates)


def _data(side: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(_BATCH * _STEPS, 1, side, side, generator=generator)
    labels = torch.randint(0, _CLASSES, (len(inputs),), generator=generator)
    return Dataset(inputs, labels, _CLASSES)


def _train(trainer: LocalTrainer, weights: Weights, data: Dataset, strategy: Strategy) -> None:
    trainer.train(weights, data, strategy, 0.01, np.random.default_rng(0))


def _trainer_with(
    model: nn.Module, make_weight: MakeQuantizer, make_input: MakeQuantizer
) -> LocalTrainer:
    """A trainer of the same network with other fake quantization; parameters keep their names."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        if type(module) is nn.Conv2d:
            module.__class__ = _Conv
        elif type(module) is nn.Linear:
            module.__class__ = _Linear
        if isinstance(module, _Conv | _Linear):
            module.weight_quantizer, module.input_quantizer = make_weight(), make_input()
    return LocalTrainer(model, TrainingSettings(batch_size=_BATCH))


def _torch_ao(model: nn.Module, weights: Weights, data: Dataset) -> Candidate:
    name = "torch.ao fused fake quantization, full ranges"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = _trainer_with(model, *_torch_ao_quantizers())
            run = partial(_train, trainer, weights, data, _FLOAT)
            run()
    except (ImportError, AttributeError) as error:
        missing = f"not available in torch {torch.__version__}: {error}"
        return Candidate(name, Role.ALTERNATIVE, lambda: None, missing=missing)
    return Candidate(name, Role.ALTERNATIVE, run, lambda _: "moving averages", parts=_STEPS)


def _torch_ao_quantizers() -> tuple[MakeQuantizer, MakeQuantizer]:
    """For weights (per channel) and for inputs, at the same bits as ours."""
    from torch.ao import quantization as ao

    low, high = weight_range(_BITS)
    make_weight = partial(
        ao.FusedMovingAvgObsFakeQuantize,
        observer=ao.MovingAveragePerChannelMinMaxObserver,
        quant_min=low,
        quant_max=high,
        dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric,
    )
    low, high = activation_range(_BITS)
    make_input = partial(
        ao.FusedMovingAvgObsFakeQuantize,
        observer=ao.MovingAverageMinMaxObserver,
        quant_min=low,
        quant_max=high,
        dtype=torch.quint8,
    )
    return make_weight, make_input
