"""Problems like those of real fleets: device classes, skewed labels, two budgets."""

from __future__ import annotations

import numpy as np

from ..arrays import FloatArray
from ..coverage import Coverage
from ..problem import AllocationProblem
from ..terms import Budget

MENU = ("skip", "ptq-w2a2", "qat-w2a2")
TEACHES = (0.0, 0.0, 1.0)
WORK = np.array([0.0, 1.0, 1.5])  # of skip, PTQ and QAT, relative to a float step
LOSS_CURVE = ((0.0, 0.45), (0.1, 0.2), (0.3, 0.04), (0.6, 0.0))

_FLAT_CURVE = ((0.0, 0.1), (0.3, 0.04), (1.0, 0.0))
_CLASSES = 10
_DEVICE_SHARES = (0.5, 0.3, 0.2)
_STEP_SECONDS = np.array([1.0, 2.5, 8.0])  # of the three device classes
_WATTS = np.array([8.0, 5.0, 2.0])
_UPDATE_BYTES = 5e5


def federated(seed: int, num_clients: int, separable: bool = False) -> AllocationProblem:
    """A fleet as one meets it: three device classes, lognormal speeds, skewed labels.

    Two budgets (uplink and energy), the coverage of ten classes, and participation; where separable
    QAT's worth is a loss of every client instead.

    Args:
        seed: Of all random numbers.
        num_clients: Clients of the cohort.
        separable: Without budgets, coverage and participation.

    Example:
        >>> problem = federated(0, 4)
        >>> problem.seconds.shape, [b.resource for b in problem.budgets]
        ((4, 3), ['uplink_bytes', 'energy_joules'])
    """
    return _fleet(np.random.default_rng(seed), np.ones(num_clients), separable)


def one_giant(seed: int, num_clients: int, separable: bool = False) -> AllocationProblem:
    """`federated`, but one client has a thousand times the data and takes that much longer.

    Args:
        seed: Of all random numbers.
        num_clients: Clients of the cohort.
        separable: Without budgets, coverage and participation.

    Example:
        >>> seconds = one_giant(0, 50).seconds
        >>> bool(seconds.max() > 50 * np.median(seconds[:, 2]))
        True
    """
    rng = np.random.default_rng(seed)
    size = np.ones(num_clients)
    size[rng.integers(num_clients)] = 1e3
    return _fleet(rng, size, separable)


def uneven(seed: int, num_clients: int) -> AllocationProblem:
    """A fleet whose clients hold a class or two, and unevenness has a price: more QAT may cost.

    No budgets: without the price, everybody would do QAT who can in time. There is no separable
    variant.

    Args:
        seed: Of all random numbers; every third one limits the loss in place of a trade-off.
        num_clients: Clients of the cohort.

    Example:
        >>> problem = uneven(0, 6)
        >>> only_one = np.where(np.arange(6) == 0, 2, 1)
        >>> bool(problem.total_loss(only_one) > problem.total_loss(np.full(6, 1)))
        True
    """
    rng = np.random.default_rng(seed)
    step = rng.lognormal(0, 0.6, (num_clients, 1)) * WORK
    labels = np.ceil(rng.dirichlet(np.full(_CLASSES, 0.05), num_clients) * 100 - 0.5)
    labels[:, 0] += 1
    coverage = Coverage(labels, TEACHES, _FLAT_CURVE, unevenness_price=float(rng.choice([0.3, 1])))
    loss = labels.sum(axis=1, keepdims=True) / labels.sum() * np.array([0.3, 0.02, 0.02])
    has_limit = seed % 3 == 2
    return AllocationProblem(
        MENU,
        step,
        loss,
        tradeoff=None if has_limit else 20.0,
        max_loss=0.08 if has_limit else None,
        coverage=coverage,
    )


def _fleet(rng: np.random.Generator, size: FloatArray, separable: bool) -> AllocationProblem:
    n = len(size)
    device = rng.choice(3, n, p=_DEVICE_SHARES)
    step = (_STEP_SECONDS[device] * rng.lognormal(0, 0.3, n) * size)[:, None] * WORK
    seconds = step + rng.lognormal(-1, 0.8, (n, 1)) * (WORK > 0)
    examples = rng.lognormal(5, 0.7, (n, 1)) * size[:, None]
    labels = np.ceil(rng.dirichlet(np.full(_CLASSES, 0.3), n) * examples)
    share = labels.sum(axis=1, keepdims=True) / labels.sum()
    allowed = np.ones((n, 3), dtype=bool)
    allowed[:, 2] = (device < 2) | (rng.random(n) < 0.7)  # some small devices lack the memory
    if separable:
        loss = share * np.array([0.6, 0.2, 0.0])
        return AllocationProblem(MENU, seconds, loss, 30.0, allowed=allowed)
    energy = step * _WATTS[device][:, None]
    uplink = np.tile(_UPDATE_BYTES * (WORK > 0), (n, 1))
    return AllocationProblem(
        MENU,
        seconds,
        share * np.array([0.4, 0.02, 0.02]),
        tradeoff=30.0,
        allowed=allowed,
        budgets=[
            Budget("uplink_bytes", uplink, _UPDATE_BYTES * np.ceil(0.8 * n)),
            Budget("energy_joules", energy, 0.8 * energy[:, 2].sum()),
        ],
        coverage=Coverage(labels, TEACHES, LOSS_CURVE),
        min_participation=0.5,
    )
