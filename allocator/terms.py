"""Fleet-wide limits that a problem may be given any number of: budgets and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .arrays import BoolArray, FloatArray, freeze
from .strategy import Strategy, parse_strategy


@dataclass(frozen=True, eq=False)
class Budget:
    """A fleet-wide limit on a resource: `sum usage[i, s] x[i, s] <= limit`.

    Args:
        resource: Name that ends in its unit, for instance `uplink_bytes` or `energy_joules`.
        usage: `(clients, strategies)` what each choice takes of the resource.
        limit: What the fleet may take in a round.

    Raises:
        ValueError: If `usage` is no matrix of finite numbers >= 0, or `limit` is not such a number.

    Example:
        >>> Budget("uplink_bytes", [[0, 10], [0, 20]], 15).limit
        15.0
    """

    resource: str
    usage: FloatArray
    limit: float

    def __init__(self, resource: str, usage: ArrayLike, limit: float) -> None:
        if np.ndim(usage) != 2:
            raise ValueError(
                f"`usage` of budget {resource!r} must have shape (clients, strategies), "
                f"but got {np.shape(usage)}."
            )
        object.__setattr__(self, "resource", resource)
        object.__setattr__(self, "usage", freeze(f"usage of {resource}", usage, np.shape(usage)))
        object.__setattr__(self, "limit", float(freeze(f"limit of {resource}", limit, ())))


@dataclass(frozen=True)
class Count:
    """How many clients must do, or may do, one of some strategies: `at_least <= n <= at_most`.

    Args:
        strategies: One or more of the menu, as `Strategy` or text; kept in alphabetical order.
        at_least: Least number of clients.
        at_most: Largest number of clients; no limit where None.

    Raises:
        ValueError: If no strategy is given, or `0 <= at_least <= at_most` does not hold.

    Example:
        >>> str(Count(["qat-w2a2"], at_least=2, at_most=5))
        'count of qat-w2a2'
    """

    strategies: tuple[Strategy, ...]
    at_least: int
    at_most: int | None

    def __init__(
        self, strategies: Sequence[Strategy | str], at_least: int = 0, at_most: int | None = None
    ) -> None:
        if isinstance(strategies, str) or not strategies:
            raise ValueError(
                f"`strategies` of a count must be a list of strategies, but got {strategies!r}. "
                "Write for example ['qat-w2a2']."
            )
        if not 0 <= at_least <= (np.inf if at_most is None else at_most):
            raise ValueError(
                f"`0 <= at_least <= at_most` must hold, but got at_least={at_least} and "
                f"at_most={at_most}."
            )
        read = {str(s): s for s in map(parse_strategy, strategies)}
        object.__setattr__(self, "strategies", tuple(read[text] for text in sorted(read)))
        object.__setattr__(self, "at_least", int(at_least))
        object.__setattr__(self, "at_most", None if at_most is None else int(at_most))

    def __str__(self) -> str:
        return f"count of {' or '.join(map(str, self.strategies))}"

    def columns(self, menu: Sequence[Strategy]) -> BoolArray:
        """`(strategies,)` which of a menu it counts."""
        return np.array([s in self.strategies for s in menu])
