"""Label counts that tell less: of groups of classes, or with noise (differential privacy).

`HybridAllocator` takes either as it is, and NaN for what is withheld (`withheld`). What this costs:
points of predicted accuracy lost against exact counts, means of 50 random fleets of 20 clients with
100 to 400 examples of ten classes, five of which may do QAT (`studies/bench_privacy.py` makes them,
`studies/privacy.md` records them):

    noise of epsilon 1 / 0.1 / 0.01     0.0 / 0.3 / 1.9
    classes grouped in pairs            0.5
    half of the clients, all withhold   0.6, 0.7
    five clients drawn by lot           2.4
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .arrays import FloatArray, IntArray, freeze

_LEAST_EPSILON = 1e-6  # below, noise drowns any count, and whole numbers would overflow


def grouped_counts(counts: ArrayLike, groups: Sequence[Hashable]) -> FloatArray:
    """Label counts summed up over groups of classes: which class of a group it is stays private.

    All clients of a fleet must group alike.

    Args:
        counts: `(..., classes)` label counts, of one client or many.
        groups: `(classes,)` the name of each class's group.

    Returns:
        `(..., groups)` in the order in which the groups are first named.

    Raises:
        ValueError: If a count is negative or not finite, or the groups are not one a class.

    Example:
        >>> grouped_counts([[3, 1, 4], [1, 5, 9]], ["animal", "thing", "animal"])
        array([[ 7.,  1.],
               [10.,  5.]])
    """
    table = freeze("counts", counts, np.shape(counts))
    if not table.ndim or table.shape[-1] != len(groups) or not len(groups):
        raise ValueError(
            "`groups` must name a group of each of the classes of `counts`, but names "
            f"{len(groups)} and `counts` has shape {table.shape}."
        )
    number = {name: k for k, name in enumerate(dict.fromkeys(groups))}
    member = np.zeros((len(groups), len(number)))
    member[np.arange(len(groups)), [number[name] for name in groups]] = 1.0
    return np.asarray(table @ member)


def noisy_counts(counts: ArrayLike, epsilon: float, rng: np.random.Generator) -> IntArray:
    """Label counts with epsilon-differential privacy of every single example.

    The Laplace mechanism on whole numbers: each count gets noise with `P(k) ~ exp(-epsilon |k|)`.
    One example added or removed changes one count by one (sensitivity 1 in the L1 norm), so the
    chances of any answer change by at most a factor exp(epsilon); where one example is replaced by
    another, by exp(2 epsilon). Whole noise has no digits that tell what it was added to, as
    floating-point Laplace noise has. Noisy counts may be negative; the allocator cuts them at 0.

    This protects what is told here, once. A client that tells anew whenever it is asked gives the
    noise away (epsilons add up), and an exact `num_examples` tells the sum: withhold it, its counts
    then speak for it. In Flower every reply tells it: there only the replacement of an example by
    another stays private.

    Args:
        counts: Whole numbers of any shape.
        epsilon: What an answer may give away, >= 1e-6; the noise deviates by about 1.4 / epsilon.
        rng: Whose seed nobody else knows: who can repeat the noise can take it off.

    Returns:
        Whole numbers of the same shape.

    Raises:
        ValueError: If a count is negative or not whole, or epsilon is out of its range.

    References:
        C. Dwork, F. McSherry, K. Nissim, A. Smith, "Calibrating noise to sensitivity in private
        data analysis", TCC, 2006; on whole numbers A. Ghosh, T. Roughgarden, M. Sundararajan,
        "Universally utility-maximizing privacy mechanisms", STOC, 2009; on digits I. Mironov, "On
        significance of the least significant bits for differential privacy", CCS, 2012.

    Example:
        >>> noisy_counts([120, 0, 40], epsilon=1.0, rng=np.random.default_rng(0))
        array([121,  -1,  38])
    """
    if not _LEAST_EPSILON <= epsilon < np.inf:
        raise ValueError(
            f"`{_LEAST_EPSILON:g} <= epsilon` must hold and be finite, but got {epsilon}."
        )
    table = freeze("counts", counts, np.shape(counts))
    if (table != np.floor(table)).any():
        raise ValueError(
            f"`counts` must be whole numbers, but {table[table != np.floor(table)][0]} is not: "
            "its digits would tell what the noise hides."
        )
    ends = -np.expm1(-epsilon)  # the difference of two geometric numbers falls off alike both ways
    noise = rng.geometric(ends, table.shape) - rng.geometric(ends, table.shape)
    return np.asarray(table.astype(np.int64) + noise)
