"""What a time model remembers: the newest observations of every client and strategy."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from ..arrays import FloatArray, IntArray

KEPT = 6
"""Newest observations that are kept of each client and strategy."""


@dataclass(frozen=True, eq=False)
class ObservationLog:
    """The observations that are kept, sorted by client, strategy and time.

    Args:
        client: `(values,)` number of the client.
        column: `(values,)` number among the strategies that take part.
        stamp: `(values,)` the client's how-many-th observation it was, counted from 1.
        ratio: `(values,)` log of the seconds over the table's.
        error: `(values,)` the same over what was predicted just before.
        level: `(values,)` the client's level then; NaN while the present one is the best guess.

    Raises:
        ValueError: If the arrays are not of one length.
    """

    client: IntArray
    column: IntArray
    stamp: IntArray
    ratio: FloatArray
    error: FloatArray
    level: FloatArray

    def __post_init__(self) -> None:
        for f in fields(self):
            kind = np.int64 if f.name in ("client", "column", "stamp") else np.float64
            array = np.array(getattr(self, f.name), dtype=kind)
            if array.shape != np.shape(self.client) or array.ndim != 1:
                raise ValueError(
                    f"`{f.name}` of an observation log must have as many values as `client`, "
                    f"{np.shape(self.client)}, but has {array.shape}."
                )
            object.__setattr__(self, f.name, array)

    @classmethod
    def empty(cls) -> ObservationLog:
        """No observation at all."""
        none, never = np.zeros(0), np.zeros(0, dtype=np.int64)
        return cls(never, never, never, none, none, none)

    def rank(self) -> IntArray:
        """`(values,)` how many newer ones there are of the same client and strategy."""
        key = np.stack([self.client, self.column])
        last = np.append((np.diff(key) != 0).any(axis=0), True)[: len(self.client)]
        ends = np.flatnonzero(last)
        place = np.arange(len(self.client))
        return np.asarray(ends[np.searchsorted(ends, place)] - place, dtype=np.int64)

    def with_new(self, new: ObservationLog) -> ObservationLog:
        """With more observations, without those that are too old."""
        both = [np.concatenate([getattr(self, f.name), getattr(new, f.name)]) for f in fields(self)]
        merged = ObservationLog(*both)
        merged = merged._take(np.lexsort((merged.stamp, merged.column, merged.client)))
        return merged._take(np.flatnonzero(merged.rank() < KEPT))

    def measured_against(self, log_ratio: FloatArray) -> ObservationLog:
        """The same observations, where the table that they are ratios to has changed.

        Args:
            log_ratio: `(clients, strategies)` log of the old table over the new one.
        """
        if not log_ratio.any():
            return self
        return replace(
            self,
            ratio=self.ratio + log_ratio[self.client, self.column],
            level=self.level + log_ratio.mean(axis=1)[self.client],
        )

    def _take(self, places: IntArray) -> ObservationLog:
        return ObservationLog(*(getattr(self, f.name)[places] for f in fields(self)))
