"""`fedhq profile`: measures the training step of every strategy on this machine."""

from __future__ import annotations

import copy
import platform
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import torch
from torch import nn

from ..allocator.hardware import StepProfile
from ..allocator.strategy import Method, Strategy, parse_menu
from ..fl_core.data.datasets import Dataset
from ..fl_core.data.registry import load_dataset
from ..fl_core.engine.local import LocalTrainer
from ..fl_core.federation import model_label
from ..fl_core.settings import TrainingSettings
from ..fl_core.weights import read_weights
from ..models import Recipe, build_model, prepare_

_BYTES_PER_PARAMETER = 12  # weight, gradient, momentum
_STEPS_PER_SAMPLE = 10


def measure_profile(
    data_name: str, model_name: str, menu: Sequence[str], batch_size: int, samples: int
) -> StepProfile:
    """Times the steps of all strategies in turn, so that a busy machine slows all alike.

    The time of a strategy is the median over samples of ten steps each, through the very code
    that clients run. Memory is what a step keeps for its backward pass, and weights, gradients
    and momentum.

    Args:
        data_name: A registered data set.
        model_name: A network.
        menu: Strategies; fp32 and ptq share one measurement, skip needs none.
        batch_size: Examples per step.
        samples: Samples per strategy.

    Returns:
        The profile.

    Raises:
        ValueError: If a name is unknown, a number is below 1, or the data are too few.
    """
    for name, value in (("batch_size", batch_size), ("samples", samples)):
        if value < 1:
            raise ValueError(f"`{name} >= 1` must hold, but got {value}.")
    strategies = parse_menu(menu)
    data = load_dataset(data_name)
    if batch_size * _STEPS_PER_SAMPLE > len(data):
        raise ValueError(
            f"`batch_size` = {batch_size} needs {batch_size * _STEPS_PER_SAMPLE} examples for "
            f"{_STEPS_PER_SAMPLE} steps, but {data_name!r} has {len(data)}. "
            f"Take at most {len(data) // _STEPS_PER_SAMPLE}."
        )
    data = data.take(np.arange(batch_size * _STEPS_PER_SAMPLE))
    model = build_model(model_name, data.input_shape, data.num_classes, 0)
    kinds = {_kind(s): s for s in strategies if not s.is_skip}
    seconds = _time_steps(model, data, kinds, batch_size, samples)
    memory = {kind: _memory_bytes(model, data, s, batch_size) for kind, s in kinds.items()}
    return StepProfile(
        model=model_label(model_name, data.input_shape),
        batch_size=batch_size,
        strategies=strategies,
        step_seconds=np.array([seconds.get(_kind(s), 0.0) for s in strategies]),
        memory_bytes=np.array([memory.get(_kind(s), 0.0) for s in strategies]),
        origin=_origin(samples),
    )


def _kind(strategy: Strategy) -> tuple[int, int] | None:
    """What makes a difference to a step: the bits of QAT, or None for float training."""
    if strategy.method is Method.QAT:
        return strategy.weight_bits, strategy.activation_bits
    return (0, 0) if strategy.is_skip else None


def _time_steps(
    model: nn.Module,
    data: Dataset,
    kinds: dict[tuple[int, int] | None, Strategy],
    batch_size: int,
    samples: int,
) -> dict[tuple[int, int] | None, float]:
    trainer = LocalTrainer(model, TrainingSettings(batch_size=batch_size))
    weights = read_weights(model)
    times: dict[tuple[int, int] | None, list[float]] = {kind: [] for kind in kinds}
    for sample in range(samples + 1):  # the first warms up
        for kind, strategy in kinds.items():
            start = time.perf_counter()
            trainer.train(weights, data, strategy, 0.01, np.random.default_rng(sample))
            if sample:
                times[kind].append((time.perf_counter() - start) / _STEPS_PER_SAMPLE)
    return {kind: statistics.median(values) for kind, values in times.items()}


def _memory_bytes(model: nn.Module, data: Dataset, strategy: Strategy, batch_size: int) -> float:
    """Bytes that a step keeps for its backward pass, and the parameters' own."""
    kind = _kind(strategy)
    if kind is not None:
        model = copy.deepcopy(model)
        prepare_(model, Recipe(*kind))
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    # Clones: a slice would be counted with all of the data that it is cut from.
    inputs, labels = data.inputs[:batch_size].clone(), data.labels[:batch_size].clone()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = nn.functional.cross_entropy(model(inputs), labels)
    del loss
    parameters = sum(p.numel() for p in model.parameters())
    return float(sum(kept.values()) + _BYTES_PER_PARAMETER * parameters)


def _origin(samples: int) -> str:
    return (
        f"measured by `fedhq profile` on {datetime.now(UTC):%Y-%m-%d}: {platform.machine()} "
        f"{platform.system()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}, median of {samples} samples of "
        f"{_STEPS_PER_SAMPLE} steps"
    )
