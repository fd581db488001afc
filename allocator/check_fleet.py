"""Checks what `HybridAllocator` is given about its fleet, and what it is asked and told later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .arrays import FloatArray, IntArray, freeze_told_counts
from .hardware import HardwareTables
from .strategy import Method, Strategy


def check_menu(menu: tuple[Strategy, ...], hardware: HardwareTables) -> None:
    """Raises a `ValueError` unless the menu is that of the tables."""
    if menu != hardware.strategies:
        raise ValueError(
            "`menu` must be the strategies of `hardware`, in their order, "
            f"{[str(s) for s in hardware.strategies]}, but got {[str(s) for s in menu]}. "
            "Give hardware.strategies."
        )


def check_deployed(menu: tuple[Strategy, ...], deployed: Strategy) -> None:
    """Raises a `ValueError` unless the menu serves the deployment."""
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


def check_label_counts(label_counts: ArrayLike | None, num_clients: int) -> FloatArray | None:
    """`(clients, classes)` counts as told; None where nobody tells."""
    if label_counts is None:
        return None
    counts = freeze_told_counts(label_counts)
    if len(counts) != num_clients:
        raise ValueError(f"`label_counts` must have {num_clients} clients, but has {len(counts)}.")
    return counts


def check_client(client: int, num_clients: int) -> None:
    """Raises a `ValueError` unless a client is of the fleet."""
    if not 0 <= client < num_clients:
        raise ValueError(f"`client` must be in 0 ... {num_clients - 1}, but got {client}.")


def check_outcome(
    client: int, strategy: Strategy, menu: Sequence[Strategy], num_clients: int
) -> None:
    """Raises a `ValueError` unless a client is of the fleet and what it did of the menu."""
    check_client(client, num_clients)
    if strategy not in menu:
        raise ValueError(
            f"a client's `strategy` must be in the menu {[str(s) for s in menu]}, "
            f"but that of client {client} is {str(strategy)!r}."
        )


def check_state(state: Mapping[str, Any], menu: Sequence[Strategy], num_clients: int) -> None:
    """Raises a `ValueError` unless a saved state is of the menu and as many clients.

    Those of older versions hold neither.
    """
    if "carried" not in state:
        raise ValueError(
            "a state must hold `carried` (see `state_dict`), but this one holds only "
            f"{sorted(state)}. Load it into what saved it."
        )
    names = [str(s) for s in menu]
    found = state.get("num_clients", num_clients), state.get("menu", names)
    if found != (num_clients, names):
        raise ValueError(
            f"a state must be of {num_clients} clients and the menu {names}, "
            f"but is of {found[0]} and {found[1]}. Load it into what saved it."
        )


def check_cohort(cohort: Sequence[int] | None, num_clients: int) -> IntArray:
    """The clients of a cohort, all where None; a `ValueError` unless they are different ones."""
    if not num_clients:
        raise ValueError(
            "a fleet must have a client before a round of it is planned, but nobody has joined. "
            "Call `join` first."
        )
    rows = tuple(range(num_clients) if cohort is None else map(int, cohort))
    if not rows or len(set(rows)) < len(rows) or not all(0 <= i < num_clients for i in rows):
        raise ValueError(
            f"`cohort` must name different clients in 0 ... {num_clients - 1}, but got {rows}."
        )
    return np.array(rows, dtype=np.int64)
