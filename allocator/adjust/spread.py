"""How much a client's times scatter: variances of prediction errors, shrunk like the effects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray, IntArray

_FIRST_GUESS = 0.1  # log-seconds that a round scatters by, before any was seen
_PRIOR = 4.0  # errors that the next wider level counts for
_STALL = 1.8  # times what nine of ten errors keep, 3 deviations if normal: more is a stall
_LEAST_LIMIT = 0.05  # log-seconds that are never too far: half of a fleet may have no scatter


@dataclass(frozen=True, eq=False)
class Variances:
    """Variances of log-seconds, each > 0.

    Args:
        of_class: `(classes, strategies)` of a client of which nothing else is known.
        of_client: `(clients, strategies)`.
    """

    of_class: FloatArray
    of_client: FloatArray


def fit_variances(
    client: IntArray,
    column: IntArray,
    error: FloatArray,
    weight: FloatArray,
    classes: IntArray,
    num_classes: int,
    shape: tuple[int, int],
) -> Variances:
    """Variances of log-seconds: of the fleet, then strategy, class, client, and both.

    Args:
        client: `(values,)` number of the client.
        column: `(values,)` number of the strategy.
        error: `(values,)` observed minus predicted log-seconds, predicted before they were seen.
        weight: `(values,)` how much each counts.
        classes: `(clients,)` each client's class, counted from 0.
        num_classes: Classes, with those that none of these clients is of.
        shape: `(clients, strategies)`.

    Example:
        >>> where, error = np.array([0, 0, 1, 1]), np.array([0.1, -0.1, 0.1, -0.1])
        >>> classes = np.zeros(2, np.int64)
        >>> found = fit_variances(where, where, error, np.ones(4), classes, 1, (2, 2))
        >>> found.of_client.round(3)
        array([[0.01, 0.01],
               [0.01, 0.01]])
    """
    squares = np.square(_without_stalls(error))
    fleet = (_FIRST_GUESS**2 + weight @ squares) / (1 + weight.sum())
    strategy = _shrunk(column, squares, weight, np.full(shape[1], fleet))
    of_class = np.tile(strategy, num_classes)
    pool = classes[client] * shape[1] + column
    of_class = _shrunk(pool, squares, weight, of_class)
    # A client scatters more or less than its class, whatever it does: a factor, 1 if unknown.
    factor = _shrunk(client, squares / of_class[pool], weight, np.ones(shape[0]))
    table = of_class.reshape(num_classes, shape[1])
    of_client = table[classes] * factor[:, None]
    cell = client * shape[1] + column
    return Variances(table, _shrunk(cell, squares, weight, of_client.ravel()).reshape(shape))


def _without_stalls(error: FloatArray) -> FloatArray:
    if not len(error):
        return error
    limit = max(_STALL * float(np.quantile(np.abs(error), 0.9)), _LEAST_LIMIT)
    return np.clip(error, -limit, limit)


def _shrunk(
    group: IntArray, squares: FloatArray, weight: FloatArray, wider: FloatArray
) -> FloatArray:
    """`(groups,)` mean squares, towards what is known of the wider groups."""
    total = np.bincount(group, weight * squares, len(wider))
    known = np.bincount(group, weight, len(wider))
    return np.asarray((_PRIOR * wider + total) / (_PRIOR + known))
