"""Batches as loaders of Flower apps give them: pairs, or columns by name."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ...data.convert import INPUT_COLUMNS, LABEL_COLUMNS, find_column

Batch = tuple[Tensor, Tensor] | list[Tensor] | Mapping[str, Tensor]


def parts_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """Inputs and labels of a batch.

    Args:
        batch: A pair, or a mapping with one of `INPUT_COLUMNS` and one of `LABEL_COLUMNS`.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> import torch
        >>> parts_of({"img": torch.ones(1), "label": torch.zeros(1)})
        (tensor([1.]), tensor([0.]))
    """
    if isinstance(batch, Mapping):
        names = [*batch]
        inputs, labels = find_column(names, INPUT_COLUMNS), find_column(names, LABEL_COLUMNS)
        return batch[inputs], batch[labels]
    if len(batch) != 2:
        raise ValueError(f"a batch must be (inputs, labels), but holds {len(batch)} parts.")
    return batch[0], batch[1]
