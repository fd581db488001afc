"""Checks what `HybridAllocator` is given about its fleet, and what it is asked and told later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from .arrays import FloatArray, IntArray, freeze_counts
from .goal import Outcome
from .hardware import HardwareTables
from .strategy import Method, Strategy


def check_menu(menu: tuple[Strategy, ...], hardware: HardwareTables, deployed: Strategy) -> None:
    """Raises a `ValueError` unless the menu is that of the tables and serves the deployment."""
    if menu != hardware.strategies:
        raise ValueError(
            "`menu` must be the strategies of `hardware`, in their order, "
            f"{[str(s) for s in hardware.strategies]}, but got {[str(s) for s in menu]}. "
            "Give hardware.strategies."
        )
    quantized = [s for s in (*menu, deployed) if s.method in (Method.PTQ, Method.QAT)]
    if deployed not in quantized:
        raise ValueError(
            f"`deployed` must be a ptq or qat strategy, but got {str(deployed)!r}. "
            "Write for example 'qat-w2a2'."
        )
    bits = [(s.weight_bits, s.activation_bits) for s in quantized]
    if len(bits) > 1 and bits[-1] not in bits[:-1]:
        raise ValueError(
            f"`deployed` must have the bits of a strategy of the menu {[str(s) for s in menu]}, "
            f"but got {str(deployed)!r}: nothing would teach it. Change one of the two."
        )


def check_label_counts(label_counts: ArrayLike | None, num_examples: FloatArray) -> FloatArray:
    """`(clients, classes)` counts; examples as of one class where they are not known."""
    counts = freeze_counts(num_examples[:, None] if label_counts is None else label_counts)
    if len(counts) != len(num_examples):
        raise ValueError(
            f"`label_counts` must have {len(num_examples)} clients, but has {len(counts)}."
        )
    return counts


def check_outcome(outcome: Outcome, menu: Sequence[Strategy], num_clients: int) -> None:
    """Raises a `ValueError` unless an outcome is of the fleet and the menu."""
    if outcome.client >= num_clients:
        raise ValueError(
            f"an outcome's `client` must be in 0 ... {num_clients - 1}, but got {outcome.client}."
        )
    if outcome.strategy not in menu:
        raise ValueError(
            f"an outcome's `strategy` must be in the menu {[str(s) for s in menu]}, "
            f"but client {outcome.client} did {str(outcome.strategy)!r}."
        )


def check_cohort(cohort: Sequence[int] | None, num_clients: int) -> IntArray:
    """The clients of a cohort, all where None; a `ValueError` unless they are different ones."""
    rows = tuple(range(num_clients) if cohort is None else map(int, cohort))
    if not rows or len(set(rows)) < len(rows) or not all(0 <= i < num_clients for i in rows):
        raise ValueError(
            f"`cohort` must name different clients in 0 ... {num_clients - 1}, but got {rows}."
        )
    return np.array(rows, dtype=np.int64)
