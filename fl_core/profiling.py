"""Step profiles: measured on this machine, kept in files, or shipped."""

from __future__ import annotations

import copy
import hashlib
import platform
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..allocator.hardware import StepProfile
from ..allocator.strategy import Method, Strategy, parse_menu
from ..models import Recipe, build_model, prepare_
from ..models.operators import kept_bytes
from .data.datasets import Dataset
from .engine.local import LocalTrainer
from .predicting import predict_steps
from .settings import FederationSettings, TrainingSettings
from .weights import read_weights

_STEPS_PER_SAMPLE = 10
_SAMPLES = 30


def measure_steps(
    model: nn.Module,
    data: Dataset,
    menu: Sequence[str | Strategy],
    batch_size: int,
    label: str,
    samples: int = _SAMPLES,
    device: str = "cpu",
) -> StepProfile:
    """Times the steps of all strategies in turn, so that a busy machine slows all alike.

    The time of a strategy is the median over samples of ten steps each, through the very code
    that clients run. Memory is what a step keeps for its backward pass, and weights, gradients
    and momentum.

    Args:
        model: The network.
        data: Examples like those of clients; repeated if they are too few for ten steps.
        menu: Strategies; fp32 and ptq share one measurement, skip needs none.
        batch_size: Examples per step.
        label: What the profile calls the model.
        samples: Samples per strategy.
        device: Where steps are timed, as torch names it.

    Returns:
        The profile.

    Raises:
        ValueError: If a number is below 1, a strategy is none, or there is no example.
    """
    for name, value in (("batch_size", batch_size), ("samples", samples), ("examples", len(data))):
        if value < 1:
            raise ValueError(f"`{name} >= 1` must hold, but got {value}.")
    strategies = parse_menu([str(s) for s in menu])
    data = data.take(np.arange(batch_size * _STEPS_PER_SAMPLE) % len(data))
    kinds = {_kind(s): s for s in strategies if not s.is_skip}
    seconds = _time_steps(model, data, kinds, batch_size, samples, device)
    memory = {kind: _memory_bytes(model, data, s, batch_size) for kind, s in kinds.items()}
    return StepProfile(
        model=label,
        batch_size=batch_size,
        strategies=strategies,
        step_seconds=np.array([seconds.get(_kind(s), 0.0) for s in strategies]),
        memory_bytes=np.array([memory.get(_kind(s), 0.0) for s in strategies]),
        origin=_origin(samples),
    )


def profile_kept_at(
    path: Path,
    model: nn.Module,
    data: Dataset,
    menu: Sequence[str | Strategy],
    batch_size: int,
    label: str,
) -> StepProfile:
    """The profile of a file; measured and written there first where there is none.

    A run that is resumed must plan with the times that it began with: hence the file.

    Raises:
        ValueError: If the file is no profile, or of another model or batch size.
    """
    if not path.exists():
        profile = measure_steps(model, data, menu, batch_size, label)
        path.parent.mkdir(parents=True, exist_ok=True)
        profile.save(path)
    profile = StepProfile.load(path)
    if (profile.model, profile.batch_size) != (label, batch_size):
        raise ValueError(
            f"`profile` must be measured on {label!r} at batch size {batch_size}, but {path} is of "
            f"{profile.model!r} at {profile.batch_size}. Remove the file, or name another."
        )
    return profile


def find_profile(settings: FederationSettings, data: Dataset) -> StepProfile:
    """The step profile that settings name, or one predicted for the reference machine.

    Args:
        settings: Model, batch size, and where the profile lies.
        data: The data set.

    Raises:
        ValueError: If there is none, or it was measured on another model or batch size.
    """
    batch_size = settings.training.batch_size
    mend = (
        f"Run `fedhq profile --data {settings.data.name} --model {settings.model} "
        f'--batch-size {batch_size} --out FILE` and give `profile = "FILE"`, or `profile = '
        '"predicted"`.'
    )
    label = model_label(settings.model, data.input_shape)
    if settings.profile == "predicted":
        model = build_model(settings.model, data.input_shape, data.num_classes, settings.seed)
        return predict_steps(model, data, settings.menu, batch_size, label)
    if settings.profile == "shipped":
        profile = shipped_profile(f"{settings.data.name}-{settings.model}.json", mend)
    else:
        profile = StepProfile.load(Path(settings.profile))
    wanted = (label, batch_size)
    if (profile.model, profile.batch_size) != wanted:
        raise ValueError(
            f"`profile` must be measured on {wanted[0]!r} at batch size {batch_size}, but "
            f"{settings.profile!r} is of {profile.model!r} at {profile.batch_size}. {mend}"
        )
    return profile


def shipped_profile(name: str, mend: str) -> StepProfile:
    """A step profile that ships, or an error that ends in what to do without it.

    Raises:
        ValueError: If none of that name ships.
    """
    shipped = resources.files(__package__).joinpath("profiles").joinpath(name)
    if not shipped.is_file():
        raise ValueError(f'`profile = "shipped"` needs {name} to ship, but it does not. {mend}')
    with resources.as_file(shipped) as path:
        return StepProfile.load(path)


def model_label(model: str, input_shape: tuple[int, ...]) -> str:
    """How a step profile names a model on inputs of a shape.

    Example:
        >>> model_label("cnn", (1, 28, 28))
        'cnn 1x28x28'
    """
    return f"{model} {'x'.join(map(str, input_shape))}"


def own_label(model: nn.Module, input_shape: tuple[int, ...]) -> str:
    """How a step profile names a network of one's own: by its class and all of its layers.

    Example:
        >>> own_label(nn.Linear(4, 2), (4,))
        'Linear 4 73784f3f'
    """
    layers = [(name, type(module).__name__) for name, module in model.named_modules()]
    shapes = [(name, tuple(p.shape)) for name, p in model.named_parameters()]
    digest = hashlib.sha256(repr((layers, shapes)).encode()).hexdigest()[:8]
    return f"{model_label(type(model).__name__, input_shape)} {digest}"


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
    device: str,
) -> dict[tuple[int, int] | None, float]:
    trainer = LocalTrainer(model, TrainingSettings(batch_size=batch_size, device=device))
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
    kind = _kind(strategy)
    if kind is not None:
        model = prepare_(copy.deepcopy(model), Recipe(*kind))
    return kept_bytes(model, data.inputs[:batch_size], data.labels[:batch_size])


def _origin(samples: int) -> str:
    return (
        f"measured on {datetime.now(UTC):%Y-%m-%d}: {platform.machine()} "
        f"{platform.system()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}, median of {samples} samples of "
        f"{_STEPS_PER_SAMPLE} steps"
    )
