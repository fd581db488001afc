"""What a model says about examples, and how often it is right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts a model in eval mode without gradients; afterwards every module has its mode back.

    Example:
        >>> model = nn.Dropout()
        >>> with evaluating(model):
        ...     model(torch.ones(3))
        tensor([1., 1., 1.])
        >>> model.training
        True
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def predict(model: nn.Module, inputs: Tensor, batch_size: int) -> Tensor:
    """The class with the largest logit, for each example, or each character of a text.

    Args:
        model: From `(examples, ...)` inputs to `(examples, classes)` logits, or of texts to
            `(examples, classes, time)`; its mode stays.
        inputs: `(examples, ...)`, at least one example.
        batch_size: How many examples go through at once.

    Returns:
        `(examples,)` classes, int64; of texts `(examples, time)`.

    Raises:
        ValueError: If there is no example, or the batch size is not positive.

    Example:
        >>> predict(nn.Identity(), torch.tensor([[0.1, 0.9], [0.8, 0.2]]), batch_size=1)
        tensor([1, 0])
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size >= 1` must hold, but got {batch_size}.")
    if len(inputs) == 0:
        raise ValueError("`inputs` must hold at least one example, but it is empty.")
    with evaluating(model):
        return torch.cat([model(batch).argmax(dim=1) for batch in torch.split(inputs, batch_size)])


def _hits(model: nn.Module, inputs: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    """Whether each label is predicted rightly, shape of `labels`."""
    predicted = predict(model, inputs, batch_size)
    if labels.shape != predicted.shape:
        raise ValueError(
            f"`labels` must have shape {tuple(predicted.shape)}, one per prediction, "
            f"but got {tuple(labels.shape)}."
        )
    return predicted == labels


def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor, batch_size: int) -> float:
    """Share of examples, or characters of texts, that the model classifies rightly.

    Args:
        model: As `predict` takes it.
        inputs: `(examples, ...)`, at least one example.
        labels: `(examples,)` classes; of texts `(examples, time)`.
        batch_size: How many examples go through at once; does not change the result.

    Returns:
        A share in [0, 1].

    Raises:
        ValueError: If there is no example, or labels and predictions differ in shape.

    Example:
        >>> logits = torch.tensor([[0.1, 0.9], [0.8, 0.2]])
        >>> accuracy(nn.Identity(), logits, torch.tensor([1, 1]), batch_size=2)
        0.5
    """
    return float(_hits(model, inputs, labels, batch_size).double().mean())


def per_class_accuracy(
    model: nn.Module, inputs: Tensor, labels: Tensor, batch_size: int, num_classes: int
) -> NDArray[np.float64]:
    """Share of each class's examples, or characters, that the model classifies rightly.

    Args:
        model: As `predict` takes it.
        inputs: `(examples, ...)`, at least one example.
        labels: `(examples,)` classes in `0 .. num_classes - 1`; of texts `(examples, time)`.
        batch_size: How many examples go through at once; does not change the result.
        num_classes: How many classes.

    Returns:
        `(classes,)` shares in [0, 1]; NaN for a class without examples.

    Raises:
        ValueError: If there is no example, labels and predictions differ in shape, or a label is
            no class.

    Example:
        >>> logits = torch.tensor([[0.1, 0.9], [0.8, 0.2]])
        >>> per_class_accuracy(nn.Identity(), logits, torch.tensor([1, 1]), 2, num_classes=2)
        array([nan, 0.5])
    """
    hits = _hits(model, inputs, labels, batch_size)
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise ValueError(
            f"`0 <= labels < {num_classes}` must hold, but they range from "
            f"{int(labels.min())} to {int(labels.max())}."
        )
    right = np.bincount(labels[hits].cpu().numpy(), minlength=num_classes)
    count = np.bincount(labels.flatten().cpu().numpy(), minlength=num_classes)
    return np.where(count > 0, right / np.maximum(count, 1), np.nan)
