"""Where the fit of unknown times starts: strategies compared on the same client only.

Slow clients soon do one strategy and fast ones another. Fitted by turns from nothing, strategies
then take the blame for their clients for hundreds of turns; from here on a few turns suffice.
"""

from __future__ import annotations

import numpy as np

from ..arrays import FloatArray, IntArray

_TURNS = 6
_CONNECTED = 1e-9  # of the largest: below, no client did both of two groups of strategies


def within_clients(
    client: IntArray,
    column: IntArray,
    value: FloatArray,
    weight: FloatArray,
    shape: tuple[int, int],
    clip: float,
) -> tuple[FloatArray, FloatArray]:
    """Effects of strategies and clients: re-weighted least squares with the clients eliminated.

    Args:
        client: `(values,)` number of the client.
        column: `(values,)` number of the strategy.
        value: `(values,)` log-seconds.
        weight: `(values,)` >= 0.
        shape: `(clients, strategies)`.
        clip: Log-seconds beyond which a value only votes for a direction.

    Returns:
        `(strategies,)` effects, alike where no client tells them apart, and `(clients,)`.

    Example:
        >>> client, column = np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1])
        >>> value = np.array([0.0, 1.0, 1.5, 3.5])  # the slowest never did the faster strategy
        >>> strategy, of_client = within_clients(client, column, value, np.ones(4), (3, 2), 0.1)
        >>> (strategy - strategy[0]).round(6), (of_client + strategy[0]).round(6)
        (array([0. , 0.5]), array([0., 1., 3.]))
    """
    cell, trust = client * shape[1] + column, weight
    for _ in range(_TURNS):
        weights = np.bincount(cell, trust, shape[0] * shape[1]).reshape(shape)
        sums = np.bincount(cell, trust * value, weights.size).reshape(shape)
        total = np.maximum(weights.sum(axis=1), np.finfo(float).tiny)
        shares = weights / total[:, None]
        normal = np.diag(weights.sum(axis=0)) - shares.T @ weights
        right = sums.sum(axis=0) - shares.T @ sums.sum(axis=1)
        strategy = np.linalg.pinv(normal, rcond=_CONNECTED, hermitian=True) @ right
        of_client = (sums.sum(axis=1) - weights @ strategy) / total
        left = np.abs(value - strategy[column] - of_client[client])
        trust = weight / np.maximum(left / clip, 1.0)
    return strategy, of_client
