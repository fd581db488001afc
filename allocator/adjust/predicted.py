"""What is expected of clients' times, and what a whole round keeps with a probability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # loads `scipy.special`, which takes 150 ms, when it is first used
from numpy.typing import ArrayLike

from ..arrays import FloatArray, freeze

LONGEST = 20.0
"""Log-seconds that a time may be off the table, or a quantile off the median: all stays finite."""


@dataclass(frozen=True, eq=False)
class PredictedTimes:
    """What a time model expects of some clients.

    Args:
        seconds: `(clients, strategies)` typical time: half of the rounds take longer.
        log_spread: `(clients, strategies)` standard deviation of log-seconds of one round.
        log_error: `(clients, strategies)` the part of it that trying the strategy would remove.
    """

    seconds: FloatArray
    log_spread: FloatArray
    log_error: FloatArray


def quantile_seconds(
    seconds: ArrayLike, log_spread: ArrayLike, holds_with: float, num_clients: int
) -> FloatArray:
    """Seconds that a whole round keeps with a probability, as a table for `AllocationProblem`.

    Each client's time is lognormal and taken at the quantile `1 - (1 - holds_with) / num_clients`:
    the chances to be late add up to at most `1 - holds_with`, however the times hang together
    (the union bound).

    Args:
        seconds: `(clients, strategies)` typical (median) times.
        log_spread: `(clients, strategies)` standard deviation of log-seconds.
        holds_with: Probability in (0, 1).
        num_clients: Clients that take part in the round.

    Returns:
        `(clients, strategies)`; exactly `seconds` where the spread is 0.

    Raises:
        ValueError: If a value is out of its range, or the shapes differ.

    Example:
        >>> quantile_seconds([[10.0, 10.0]], [[0.0, 0.1]], holds_with=0.9, num_clients=10).round(2)
        array([[10.  , 12.62]])
    """
    if not 0 < holds_with < 1 or num_clients < 1:
        raise ValueError(
            "`0 < holds_with < 1` and `num_clients >= 1` must hold, but got "
            f"{holds_with} and {num_clients}. The first is a probability: 0.9 holds nine of ten "
            "rounds."
        )
    typical = freeze("seconds", seconds, np.shape(seconds))
    spread = freeze("log_spread", log_spread, typical.shape)
    deviations = -scipy.special.ndtri((1 - holds_with) / num_clients)
    return np.asarray(typical * np.exp(np.minimum(deviations * spread, LONGEST)))
