"""Every client's strategies in the order of their times, for many clients at once.

NumPy sorts short rows slowly. Here a block of clients lies transposed, one contiguous line per
strategy, and a sorting network orders all its clients by a few minima and maxima of whole lines.
What is sorted are integers that order like the times and carry the strategy in their lowest bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..arrays import FloatArray, IntArray

_T = TypeVar("_T")

_BLOCK_ENTRIES = 1 << 17  # a block's temporaries stay in the second-level cache
_THREADS = 2  # NumPy works beside itself on lines this long; more threads wait for each other


def each_block(shape: tuple[int, ...], work: Callable[[slice], _T]) -> list[_T]:
    """What some work gives for each block of clients that fits the cache, in their order.

    Args:
        shape: Of a `(clients, strategies)` table.
        work: Takes a slice of clients; runs in several threads at once.

    Example:
        >>> each_block((3, 2), lambda clients: clients.stop - clients.start)
        [3]
    """
    clients, strategies = shape
    step = max(1, _BLOCK_ENTRIES // strategies)
    parts = [slice(start, min(start + step, clients)) for start in range(0, clients, step)]
    if len(parts) == 1:
        return [work(parts[0])]
    from concurrent.futures import ThreadPoolExecutor  # brings logging; few problems are so large

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(work, parts))


def sort_columns(keys: NDArray[np.signedinteger]) -> None:
    """Sorts every column of `(strategies, clients)` integers in place.

    Example:
        >>> keys = np.array([[3, 1], [2, 5]])
        >>> sort_columns(keys)
        >>> keys
        array([[2, 1],
               [3, 5]])
    """
    spare = np.empty_like(keys[: (len(keys) + 1) // 2])
    for low, high in _network(len(keys)):
        least = np.minimum(keys[low], keys[high], out=spare[: len(keys[low])])
        np.maximum(keys[low], keys[high], out=keys[high])
        keys[low] = least


def places(keys: NDArray[np.signedinteger], code_bits: int) -> IntArray:
    """`(strategies, clients)` places in the block's flat table of what the keys stand for."""
    strategies, clients = keys.shape
    found = np.empty(keys.shape, dtype=np.int64)
    np.bitwise_and(keys, (1 << code_bits) - 1, out=found)
    found += np.arange(0, clients * strategies, strategies)
    return found


def least_costs(cost: FloatArray, place: IntArray) -> FloatArray:
    """`(strategies, clients)` the least cost among a client's strategies up to each in order."""
    least = cost.ravel().take(place)
    for before, line in pairwise(least):
        np.minimum(before, line, out=line)
    return least


@cache
def _network(lines: int) -> tuple[tuple[slice, slice], ...]:
    """Lines to compare, in turn: merge exchange (Knuth, TAOCP vol. 3, algorithm 5.2.2 M).

    Line i meets line i + distance for all i with `i & p == r`: either runs of p neighbours, or p
    times every 2p-th line, whichever are fewer slices.
    """
    steps = []
    top = 1 << max(lines - 1, 0).bit_length() >> 1
    p = top
    while p > 0:
        q, r, distance = top, 0, p
        while True:
            end = lines - distance
            runs = [(a, min(a + p, end), 1) for a in range(r, end, 2 * p)]
            combs = [(a, end, 2 * p) for a in range(r, min(r + p, end))]
            for start, stop, step in min(runs, combs, key=len):
                low = slice(start, stop, step)
                steps.append((low, slice(start + distance, stop + distance, step)))
            if q == p:
                break
            distance, q, r = q - p, q >> 1, p
        p >>= 1
    return tuple(steps)
