"""Federated averaging (McMahan et al. 2017, arXiv 1602.05629, algorithm 1), in a fixed order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .client import Weights
from .wire import Update


def federated_average(weights: Weights, updates: Sequence[Update]) -> Weights:
    """Adds the mean of the updates, weighted by examples, to the server's weights.

    Summed in float64 in the order of the clients' numbers, so that the order of arrival does not
    matter.

    Args:
        weights: The server's float weights.
        updates: Decoded updates, at least one.

    Returns:
        New weights, float32.

    Raises:
        ValueError: If there is no update, or none holds an example.
    """
    ordered = sorted(updates, key=lambda update: update.client)
    total = sum(update.num_examples for update in ordered)
    if total <= 0:
        raise ValueError(
            f"at least one update with examples is needed to average, but got {len(ordered)} "
            f"updates with {total} examples."
        )
    averaged = {}
    for name, old in weights.items():
        change = np.zeros(old.shape, dtype=np.float64)
        for update in ordered:
            change += (update.num_examples / total) * update.tensors[name].astype(np.float64)
        averaged[name] = (old + change).astype(np.float32)
    return averaged
