"""Random problems that every test file of this folder shares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fedhq.allocator import AllocationProblem, Budget, Coverage

MENUS = (
    ("skip", "ptq-w2a2", "qat-w2a2"),
    ("ptq-w2a2", "qat-w2a2"),
    ("skip", "fp32", "ptq-w2a2", "qat-w2a2"),
)
CURVE = ((0, 0.45), (0.1, 0.2), (0.3, 0.04), (0.6, 0))


def random_problem(seed: int, separable: bool = False, max_clients: int = 5) -> AllocationProblem:
    """A small problem with masks and ties; without coverage and budgets where separable."""
    rng = np.random.default_rng(seed)
    n, menu = int(rng.integers(1, max_clients + 1)), MENUS[rng.integers(len(MENUS))]
    shape = n, len(menu)
    tied = rng.random() < 0.5
    seconds = rng.integers(1, 6, shape).astype(float) if tied else rng.lognormal(0, 1, shape)
    seconds[:, np.array(menu) == "skip"] = 0
    loss = rng.integers(0, 4, shape) / 20 if tied else rng.random(shape) * 0.2
    allowed = rng.random(shape) < 0.85
    allowed[np.arange(n), rng.integers(0, shape[1], n)] = True
    settings = _goal(rng, shape)
    if not separable:
        settings |= _whole_program(rng, menu, shape)
    return AllocationProblem(menu, seconds, loss, allowed=allowed, **settings)


def _goal(rng: np.random.Generator, shape: tuple[int, int]) -> dict:
    match rng.integers(4):
        case 0:
            switching = rng.random(shape) if rng.random() < 0.5 else None
            return {"tradeoff": rng.choice([0.5, 5, 50]), "switching_seconds": switching}
        case 1:
            return {"deadline_seconds": rng.choice([1, 2, 4])}
        case 2:
            return {"max_loss": rng.choice([0.1, 0.3, 0.6])}
    limits = {"deadline_seconds": rng.choice([1, 3, 4]), "max_loss": rng.choice([0.3, 0.6])}
    return {"tradeoff": 5.0} | limits


def _whole_program(rng: np.random.Generator, menu: tuple[str, ...], shape: tuple[int, int]) -> dict:
    settings = {}
    if rng.random() < 0.7:
        counts = rng.integers(0, 9, (shape[0], 3)).astype(float)
        counts[0] += 1
        settings["coverage"] = Coverage(
            counts,
            [float("qat" in s) for s in menu],
            CURVE,
            population=counts.sum(axis=0) * 1.5 if rng.random() < 0.5 else None,
            carried=rng.random(3) * 0.3 if rng.random() < 0.5 else None,
        )
    if rng.random() < 0.6:
        usage = [rng.random(shape), rng.integers(0, 3, shape)]
        limits = [shape[0] * rng.uniform(0.2, 0.6), shape[0]]
        count = rng.integers(1, 3)
        settings["budgets"] = tuple(
            Budget(f"resource_{r}_bytes", usage[r], limits[r]) for r in range(count)
        )
    if rng.random() < 0.5:
        settings["min_participation"] = rng.random()
        settings["num_examples"] = rng.integers(1, 9, shape[0])
    return settings


@pytest.fixture(scope="session")
def make_problem() -> Callable[..., AllocationProblem]:
    """`make_problem(seed, separable=False, max_clients=5)`."""
    return random_problem


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
