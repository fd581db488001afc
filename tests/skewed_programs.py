"""Programs with a price of unevenness, for the tests."""

from dataclasses import replace

import numpy as np

from fedhq.allocator import Coverage
from fedhq.allocator.instances.random_program import random_program

CURVE = ((0.0, 0.45), (0.1, 0.2), (0.3, 0.04), (0.6, 0.0))
PRICES = (0.3, 1.0, 3.0, 10.0)


def skewed(seed, clients, price=None):
    """A random program whose clients hold few of four classes, and a price of unevenness."""
    rng = np.random.default_rng(seed)
    problem = replace(random_program(seed, clients), groups=None)
    labels = rng.integers(1, 9, (clients, 4)) * (rng.random((clients, 4)) < 0.5) * 1.0
    labels[0] += 1
    levels = [float(str(s) == "qat-w2a2") for s in problem.strategies]
    term = Coverage(
        labels,
        np.array(levels) * rng.choice([1.0, 0.7]),
        CURVE,
        population=labels.sum(axis=0) * 1.3 if rng.random() < 0.5 else None,
        carried=rng.random(4) * 0.3 if rng.random() < 0.5 else None,
        unevenness_price=float(rng.choice(PRICES)) if price is None else price,
    )
    return replace(problem, coverage=term)
