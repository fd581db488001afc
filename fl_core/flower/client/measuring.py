"""What a client measures of itself: steps of its model on its data, memory, labels."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from ....allocator.hardware import StepProfile
from ....allocator.strategy import Strategy
from ...data.convert import as_dataset
from ...data.datasets import Dataset
from ...profiling import measure_steps
from .batches import parts_of

_BATCH_SIZE = 32
_MEASURED_BATCHES = 4


def measure_on(
    model: nn.Module,
    data: object,
    menu: Sequence[Strategy | str],
    batch_size: int | None,
    samples: int,
    device: str,
) -> tuple[StepProfile, int]:
    """Measured steps of a model on a client's data, and how many examples it has.

    Args:
        model: Stays as it is.
        data: A `DataLoader`, of which a few batches are read, or what `as_dataset` takes.
        menu: Strategies.
        batch_size: Examples a step; the loader's, else 32, where None.
        samples: Samples of ten steps.
        device: Where steps are timed.

    Raises:
        ValueError: If the data cannot be read.
    """
    if isinstance(data, DataLoader):
        examples, num_examples = _of_loader(data)
        batch_size = batch_size or data.batch_size
    else:
        examples = as_dataset(data)
        num_examples = len(examples)
    label = type(model).__name__
    size = batch_size or min(_BATCH_SIZE, num_examples)
    steps = measure_steps(without_statistics(model), examples, menu, size, label, samples, device)
    return steps, num_examples


def without_statistics(model: nn.Module) -> nn.Module:
    """A copy on the CPU whose layers keep no running statistics: its steps take as long."""
    model = copy.deepcopy(model).cpu()
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.track_running_stats = False  # type: ignore[assignment]
            module.running_mean = module.running_var = None  # type: ignore[assignment]
            module.num_batches_tracked = None  # type: ignore[assignment]
    return model


def count_labels(labels: Iterable[int], num_classes: int | None) -> tuple[float, ...]:
    """`(classes,)` how often each label is there.

    Raises:
        ValueError: If the classes are not told, or a label is none of them.

    Example:
        >>> count_labels([0, 2, 2], 4)
        (1.0, 0.0, 2.0, 0.0)
    """
    values = np.asarray(list(labels), np.int64)
    if num_classes is None:
        raise ValueError("`num_classes` must be given with `labels`: all clients count the same.")
    if values.size and not 0 <= values.min() <= values.max() < num_classes:
        raise ValueError(
            f"`0 <= label < {num_classes}` must hold, but labels are from {values.min()} to "
            f"{values.max()}."
        )
    return tuple(map(float, np.bincount(values, minlength=num_classes)))


def free_bytes(device: str) -> float:
    """Memory of a device that is free now; infinite where nobody tells.

    On Linux that of the machine, whatever a container may take of it.
    """
    if torch.device(device).type == "cuda":
        return float(torch.cuda.mem_get_info(torch.device(device))[0])
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return np.inf


def _of_loader(loader: DataLoader[Any]) -> tuple[Dataset, int]:
    """A few batches of a loader as a data set, and the number of its examples."""
    batches = [parts_of(batch) for batch in islice(loader, _MEASURED_BATCHES)]
    if not batches:
        raise ValueError("`data` must give a batch, but the loader is empty.")
    inputs, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    try:
        num_examples = len(loader.dataset)  # type: ignore[arg-type]
    except TypeError:  # an endless one
        num_examples = len(labels)
    return as_dataset((inputs, labels)), num_examples
