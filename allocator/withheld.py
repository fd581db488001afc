"""Data that clients tell of only in part: how who withholds counts, and what noise may bring.

Who does not say how many examples it holds counts as the mean of those who do. Who withholds its
labels counts as if they were distributed as those of all who tell: the distribution of the whole
fleet stays what was told, and such a client covers every class by its share of the examples, which
is how all count where nobody tells.
"""

from __future__ import annotations

import numpy as np

from .arrays import FloatArray


def filled_examples(examples: FloatArray, counts: FloatArray | None) -> FloatArray:
    """`(clients,)` examples; of who does not tell the sum of its labels, or else an average.

    Args:
        examples: `(clients,)` as told; NaN where not.
        counts: `(clients, classes)` label counts as told, a row of NaN where withheld; or None.

    Example:
        >>> nan = float("nan")
        >>> filled_examples(np.array([6.0, nan, nan]), np.array([[6.0], [2.0], [nan]]))
        array([6., 2., 4.])
    """
    found = np.array(examples)
    if counts is not None:
        found = np.where(np.isnan(found), _cut(counts).sum(axis=1), found)
    told = found[~np.isnan(found)]
    return np.where(np.isnan(found), told.mean() if len(told) else 1.0, found)


def filled_counts(counts: FloatArray | None, examples: FloatArray) -> FloatArray:
    """`(clients, classes)` label counts >= 0; examples as of one class where nobody tells.

    Args:
        counts: `(clients, classes)` as told: noise may have made some negative, and a row of NaN is
            withheld; None where all are.
        examples: `(clients,)` of every client.

    Example:
        >>> nan = float("nan")
        >>> told = np.array([[3.0, -1.0], [0.0, 1.0], [nan, nan]])
        >>> filled_counts(told, np.array([3.0, 1.0, 8.0]))
        array([[3., 0.],
               [0., 1.],
               [6., 2.]])
    """
    if counts is None or np.isnan(counts).all():
        return np.array(examples)[:, None]
    cut = _cut(counts)
    total = np.nansum(cut, axis=0)
    even = np.full(len(total), 1 / len(total))
    typical = total / total.sum() if total.any() else even
    return np.where(np.isnan(cut), np.outer(examples, typical), cut)


def _cut(counts: FloatArray) -> FloatArray:
    """Noisy counts without what cannot be: nobody holds less than nothing."""
    return np.maximum(counts, 0.0)
