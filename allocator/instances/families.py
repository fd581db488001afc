"""All families of problems to test and to measure solvers with: pure functions of seed and size.

Every function takes `(seed, num_clients, separable=False)` and builds any size from one client to a
million without loops over clients. `separable` leaves out what `Sweep` refuses. Some families are
like real fleets, the others are there because they are hard or awkward.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Protocol

from ..problem import AllocationProblem
from .fleet_programs import federated, one_giant, uneven
from .hard_programs import (
    all_equal,
    extreme_scales,
    feasible_by_a_hair,
    infeasible_by_a_hair,
    strongly_correlated,
    subset_sum,
    ties,
)
from .random_program import random_program


class Family(Protocol):
    """Builds a problem of a family."""

    def __call__(self, seed: int, num_clients: int, /) -> AllocationProblem:
        """The problem of a seed and a size; the same seed and size give the same problem."""
        ...


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "random": random_program,
        "federated": federated,
        "strongly correlated": strongly_correlated,
        "subset sum": subset_sum,
        "ties": ties,
        "one giant": one_giant,
        "uneven": uneven,
        "all equal": all_equal,
        "extreme scales": extreme_scales,
        "infeasible by a hair": infeasible_by_a_hair,
        "feasible by a hair": feasible_by_a_hair,
    }
)
"""All families by name, as whole programs."""

SEPARABLE_FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "random": partial(random_program, separable=True),
        "federated": partial(federated, separable=True),
        "strongly correlated": partial(strongly_correlated, separable=True),
        "ties": partial(ties, separable=True),
        "one giant": partial(one_giant, separable=True),
        "all equal": partial(all_equal, separable=True),
        "extreme scales": partial(extreme_scales, separable=True),
        "infeasible by a hair": partial(infeasible_by_a_hair, separable=True),
        "feasible by a hair": partial(feasible_by_a_hair, separable=True),
    }
)
"""The separable variants; a family without one is missing."""
