"""Random problems that every test file of this folder shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fedhq.allocator import AllocationProblem
from fedhq.allocator.instances.random_program import random_program


def make(seed: int, separable: bool = False, max_clients: int = 5) -> AllocationProblem:
    """A small random problem without the terms that only `solve` or few solvers handle."""
    num_clients = min(1 + seed % (max_clients + 2), max_clients)  # the largest most often
    return replace(random_program(seed, num_clients, separable), groups=None, counts=())


@pytest.fixture(scope="session")
def make_problem() -> Callable[..., AllocationProblem]:
    """`make_problem(seed, separable=False, max_clients=5)`."""
    return make


@pytest.fixture
def pair() -> AllocationProblem:
    """Two clients, each with a cheap and an accurate strategy; small enough for the head."""
    return AllocationProblem(
        ("ptq-w2a2", "qat-w2a2"),
        [[1, 2], [3, 5]],
        [[0.1, 0], [0.1, 0]],
        tradeoff=10.0,
        clients=["phone", "watch"],
    )
