"""Federated averaging (McMahan et al. 2017, arXiv 1602.05629, algorithm 1), in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter

import torch

from ..weights import Weights
from ..wire.codec import Update
from ..wire.rounding import add_decoded


def federated_average(weights: Weights, updates: Sequence[Update]) -> Weights:
    """Adds the mean of the updates, weighted by examples, to the server's weights.

    The updates of a width are decoded and added up in one pass, a cache's worth of the sum at a
    time; no update is ever held as floats. Widths rise, clients of a width come in the order of
    their numbers, so that the order of arrival does not matter.

    The sum is float32: of n updates u with shares w of the examples, the mean errs by at most
    (n + 4) * 2**-24 * sum(w * abs(u)) (each term is rounded at most four times, each of the n
    sums once; sums of n**2 * 2**-48 left out), for 1000 clients 6e-5 of what they send. Rounding
    to 4 bits alone errs by up to 1/7 of a row's greatest value.

    Args:
        weights: The server's float weights.
        updates: Decoded updates, at least one.

    Returns:
        New weights, float32.

    Raises:
        ValueError: If there is no update, or none holds an example.
    """
    total = sum(update.num_examples for update in updates)
    if total <= 0:
        raise ValueError(
            f"at least one update with examples is needed to average, but got {len(updates)} "
            f"updates with {total} examples."
        )
    groups = [(group, [u.num_examples / total for u in group]) for group in _by_width(updates)]
    averaged: Weights = {}
    for name, old in weights.items():
        change = torch.zeros(old.shape)
        for group, shares in groups:
            add_decoded([update.coded[name] for update in group], shares, change)
        averaged[name] = change.numpy()
        averaged[name] += old
    return averaged


def _by_width(updates: Sequence[Update]) -> Iterator[list[Update]]:
    ordered = sorted(updates, key=attrgetter("wire_bits", "client"))
    return (list(group) for _, group in groupby(ordered, attrgetter("wire_bits")))
