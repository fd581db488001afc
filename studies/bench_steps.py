"""Benchmarks of a training step: quantization-aware over float, through the code of the clients.

All candidates train the same network with the same optimizer, which takes part of every step. The
others are our own ranges and ways; the fake quantization of torch.ao (deprecated: left out where
torch no longer has it), Brevitas and torchao; and a copy of everything that is quantized, the least
that reading and writing these tensors costs. bf16 autocast is a note: it is other arithmetic.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from ..allocator.strategy import Strategy
from ..fl_core.data.datasets import Dataset
from ..fl_core.engine.local import LocalTrainer
from ..fl_core.settings import TrainingSettings
from ..fl_core.weights import read_weights
from ..models import Fit, Range, Recipe, build_model, prepare_, shadow_
from .goals import Goal
from .others import brevitas_model, quantizing_with, torch_ao_model, torchao_model, why_missing
from .timing import Bench, Candidate, Role, Row, on_threads

_BITS = 4, 8
_BATCH, _STEPS, _CLASSES = 32, 5, 10
_FLOAT, _QAT = Strategy.parse("fp32"), Strategy.parse("qat-w4a8")
_GOAL, _GOAL_FROM_SIDE = Goal("time over the float step", 1.15, "x"), 28
_WIDE_SIDE, _WIDE_CHANNELS = 32, (32, 64, 128)

MakeModel = Callable[[], nn.Module]


class _Copy(nn.Module):
    """Copies its input; the gradient passes."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class _Autocast(nn.Module):
    """Runs a network in bf16 where torch thinks that this is safe."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            output: Tensor = self.network(x)
        return output.float()


@dataclass(frozen=True, eq=False)
class _Task:
    """What all candidates train.

    Args:
        name: Of the network and its images.
        network: The float network.
        side: Of the images in pixels.
        compares: Whether more is shown than ours, float and the copies.
    """

    name: str
    network: nn.Module
    side: int
    compares: bool

    def data(self) -> Dataset:
        """One channel of noise."""
        generator = torch.Generator().manual_seed(0)
        shape = _BATCH * _STEPS, 1, self.side, self.side
        inputs = torch.rand(shape, generator=generator)
        labels = torch.randint(0, _CLASSES, (len(inputs),), generator=generator)
        return Dataset(inputs, labels, _CLASSES)


def build_wide(side: int) -> nn.Sequential:
    """Three convolutions of 32, 64 and 128 channels, without normalisation.

    Args:
        side: Of the images in pixels; a multiple of 8.
    """
    layers: list[nn.Module] = []
    before = 1
    for channels in _WIDE_CHANNELS:
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        before = channels
    pixels = (side // 2 ** len(_WIDE_CHANNELS)) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * pixels, _CLASSES))


def step_rows(bench: Bench) -> Iterator[Row]:
    """The CNN's step at every image size, a wide network's and an MLP's, on all threads."""
    images = bench.scale.images
    for threads in bench.scale.threads:
        # An 8 x 8 step is over before a second thread has begun.
        sides = [side for side in images if threads == 1 or side >= _GOAL_FROM_SIDE]
        tasks = [
            _Task(f"{name} at {side}x{side}", _build(name, side), side, threads == 1)
            for name, fitting in (("cnn", sides), ("mlp", sides[:1]))
            for side in fitting
        ]
        if _WIDE_SIDE in images:
            side = _WIDE_SIDE
            name = f"convolutions {'-'.join(map(str, _WIDE_CHANNELS))} at {side}x{side}"
            tasks.append(_Task(name, build_wide(side), side, threads == 1))
        for task in tasks:
            with on_threads(threads):
                yield from _steps(bench, task, threads)


def _build(name: str, side: int) -> nn.Module:
    return build_model(name, (1, side, side), _CLASSES, 0)


def _steps(bench: Bench, task: _Task, threads: int) -> list[Row]:
    """Times are per step, of a call that loads the weights and takes several, as a client does."""
    copies = "float, copies as fake quantization"
    candidates = [
        _candidate(f"{_QAT}", Role.OURS, task, lambda: task.network, _QAT),
        *(_ours(task) if task.compares else []),
        *_others(task),
        _candidate("float", Role.LIMIT, task, lambda: task.network),
        _candidate(copies, Role.LIMIT, task, partial(quantizing_with, task.network, _Copy, _Copy)),
    ]
    case = f"training step, {task.name}, batch {_BATCH}"
    ours, *rest = bench.compare(case + (f", {threads} threads" if threads > 1 else ""), candidates)
    is_judged = task.side >= _GOAL_FROM_SIDE and "mlp" not in task.name
    if is_judged and ours.over_limit is not None:
        ours = replace(ours, verdicts=(_GOAL.judge(ours.over_limit),))
    return [ours, *rest]


def _ours(task: _Task) -> Iterator[Candidate]:
    """Our other ranges, and without the shadows that the clients train with."""
    absmax = Recipe(*_BITS, weight_fit=Fit.ABSMAX, activation_fit=Fit.ABSMAX)
    averaged = Recipe(*_BITS, activation_range=Range.AVERAGED)
    learned = Recipe(*_BITS, weight_range=Range.LEARNED, activation_range=Range.LEARNED)
    for name, recipe, is_shadowed in (
        ("without shadow weights", Recipe(*_BITS), False),
        ("ranges to the largest magnitude", absmax, True),
        ("averaged ranges of inputs", averaged, True),
        ("learned ranges", learned, False),
    ):
        make = partial(_prepared, task.network, recipe, is_shadowed)
        yield _candidate(f"{_QAT}, {name}", Role.ALTERNATIVE, task, make)
    make = partial(_prepared, task.network, Recipe(*_BITS), True)
    name = f"{_QAT}, bf16 autocast"
    yield _candidate(name, Role.ALTERNATIVE, task, lambda: _Autocast(make()))


def _prepared(network: nn.Module, recipe: Recipe, is_shadowed: bool) -> nn.Module:
    return shadow_(prepare_(copy.deepcopy(network), recipe), on=is_shadowed)


def _others(task: _Task) -> Iterator[Candidate]:
    """Other libraries, at the same bits."""
    network = task.network
    make: MakeModel = partial(torch_ao_model, network, *_BITS)
    yield _candidate("torch.ao fused fake quantization", Role.ALTERNATIVE, task, make)
    missing = why_missing("brevitas")
    make = partial(brevitas_model, network, *_BITS, learns=False, collect_steps=1)
    yield _candidate("Brevitas", Role.ALTERNATIVE, task, make, missing=missing)
    if not any(isinstance(module, nn.Conv2d) for module in network.modules()):
        missing = why_missing("torchao")
        make = partial(torchao_model, network, *_BITS)
        yield _candidate("torchao", Role.ALTERNATIVE, task, make, missing=missing)


def _candidate(
    name: str,
    role: Role,
    task: _Task,
    make: MakeModel,
    strategy: Strategy = _FLOAT,
    missing: str = "",
) -> Candidate:
    """A client's training of a model; what does not exist in this torch is missing."""
    if missing:
        return Candidate(name, role, int, missing=missing)
    data = task.data()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = make()
            with torch.no_grad():  # learned ranges begin with what they see
                for _ in range(_STEPS):
                    model(data.inputs[:_BATCH])
    except (ImportError, AttributeError) as error:
        return Candidate(name, role, int, missing=f"not available: {error}")
    trainer, weights = LocalTrainer(model, TrainingSettings(batch_size=_BATCH)), read_weights(model)

    def run() -> None:
        trainer.train(weights, data, strategy, 0.01, np.random.default_rng(0))

    return Candidate(name, role, run, parts=_STEPS)
