"""A choice whose coverage is near that of the smooth dual's fractional one: where evenness counts.

At prices that make classes even, whether to teach is a matter of nothing for whole classes of
clients, and everybody's best choice is far from even. The fractional allocation behind the smooth
dual is not; it is rounded client by client, each time to what keeps the coverage nearest to it.
"""

from __future__ import annotations

import numpy as np

from ..arrays import FloatArray, IntArray
from .relaxation import Relaxation

_DECIDED = 1e-3  # share below which a choice is none
_MOST = 3_000  # clients that are rounded one by one: the largest
_LEAST_EXPONENT = -60.0  # below, a share is nothing


def balanced_choice(relaxation: Relaxation, regret: FloatArray, width: float) -> IntArray:
    """`(clients,)` the rounded choice.

    Args:
        relaxation: The priced problem.
        regret: `(clients, strategies)` cost at the prices above the best; infinite if not usable.
        width: Of the smoothing, in units.
    """
    shares = np.exp(np.maximum(-regret * (len(regret) / width), _LEAST_EXPONENT))
    shares[~np.isfinite(regret)] = 0.0
    shares /= shares.sum(axis=1, keepdims=True)
    choice = np.asarray(regret.argmin(axis=1), dtype=np.int64)
    teaches, curves = relaxation.teaches, relaxation.curves
    mean = shares @ teaches
    undecided = (shares > _DECIDED) & (np.abs(teaches - mean[:, None]) > _DECIDED)
    clients = np.flatnonzero(undecided.any(axis=1))
    largest = np.argsort(-relaxation.share[clients].sum(axis=1), kind="stable")[:_MOST]
    clients = clients[largest]
    share = relaxation.share * np.sqrt(curves.weights[: curves.num_classes])
    # By how much what is taught falls short of the fractional coverage; of the rest at first.
    short = mean - teaches[choice]
    short[clients] = 0.0
    missing = short @ share
    for i in clients.tolist():
        possible = np.flatnonzero(shares[i] > _DECIDED)
        after = missing + (mean[i] - teaches[possible, None]) * share[i]
        best = int(np.einsum("sc,sc->s", after, after).argmin())
        choice[i], missing = possible[best], after[best]
    return choice
