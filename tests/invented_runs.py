"""Runs that nobody trained: accuracies by a formula, so that what must come of them is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from fedhq.studies.runs import RunSpec, TrainedRun

ROUNDS = 20


class InventedStore:
    """A store whose runs are accurate as a function of their spec says.

    Args:
        end: From a spec to the accuracy that it ends at; None where it is not trained.
        in_float: Accuracy of the float model at the end; as deployed where None.
    """

    def __init__(
        self, end: Callable[[RunSpec], float | None], in_float: float | None = None
    ) -> None:
        self._end, self._in_float = end, in_float

    def find(self, spec: RunSpec) -> TrainedRun | None:
        end = self._end(spec)
        if end is None:
            return None
        rise = np.minimum(1, np.arange(1, ROUNDS + 1) / 10)
        curve = tuple(end * rise)
        above = curve if self._in_float is None else tuple(self._in_float * rise)
        return TrainedRun(spec.key, curve, above, curve, above, 1.0)


def qat_share(spec: RunSpec) -> float:
    """Share of clients and rounds that train with QAT."""
    texts: Iterable[str] = (text for row in spec.plan for text in row)
    return float(np.mean([text.startswith("qat") for text in texts]))
