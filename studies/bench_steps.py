"""Benchmarks of a training step: quantization-aware over float, through the code of the clients.

The alternatives are the same network and the same loop with other fake quantization: that of
torch.ao (deprecated, and no dependency: it is left out where torch no longer has it), and a copy in
place of every fake quantization, which is the least that reading and writing these tensors costs.
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
from ..models import activation_range, build_model, weight_range
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
        return self._conv_forward(x, weight, self.bias)


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


def step_rows(bench: Bench) -> Iterator[Row]:
    """The CNN's step at every image size."""
    for side in bench.scale.images:
        yield from _steps(bench, side)


def _steps(bench: Bench, side: int) -> list[Row]:
    """Times are per step; a call is several, with the loading of the weights that a client does."""
    model = build_model("cnn", (1, side, side), _CLASSES, 0)
    data = _data(side)
    weights = read_weights(model)
    run = partial(_train, LocalTrainer(model, TrainingSettings(batch_size=_BATCH)), weights, data)
    copies = partial(_train, _trainer_with(model, _Copy, _Copy), weights, data, _FLOAT)
    what = f"{_STEPS} steps"
    candidates = [
        Candidate(f"QAT {_QAT}, {what}", Role.OURS, partial(run, _QAT)),
        _torch_ao(model, weights, data),
        Candidate(f"float, {what}", Role.LIMIT, partial(run, _FLOAT)),
        Candidate("float, a copy for each fake quantization", Role.LIMIT, copies),
    ]
    return bench.compare(f"training, cnn at {side}x{side}, batch {_BATCH}", candidates)


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
    name = f"torch.ao fused fake quantization, {_STEPS} steps"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = _trainer_with(model, *_torch_ao_quantizers())
            run = partial(_train, trainer, weights, data, _FLOAT)
            run()
    except (ImportError, AttributeError) as error:
        missing = f"not available in torch {torch.__version__}: {error}"
        return Candidate(name, Role.ALTERNATIVE, lambda: None, missing=missing)
    return Candidate(name, Role.ALTERNATIVE, run, lambda _: "min-max ranges, moving averages")


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
