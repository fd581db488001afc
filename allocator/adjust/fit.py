"""The fitted effects and variances of the clients that were seen, and what they say of any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray, IntArray
from .effects import Effects
from .spread import Variances


@dataclass(frozen=True, eq=False)
class Fit:
    """What is known of the clients that were observed; of all others, only what their class is.

    Args:
        seen: `(seen,)` their numbers, rising.
        effects: Of them.
        variances: Of a round, in log-seconds, of them.
        weight: `(seen, strategies)` what their observations count.
    """

    seen: IntArray
    effects: Effects
    variances: Variances
    weight: FloatArray

    def place(self, clients: IntArray) -> IntArray:
        """`(clients,)` where each stands among the seen; as many as these where it does not."""
        at = np.searchsorted(self.seen, clients)
        found = np.append(self.seen, -1)[at] == clients
        return np.where(found, at, len(self.seen))

    def of(self, clients: IntArray, classes: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """`(clients, strategies)` effects, variances and weights.

        Args:
            clients: Their numbers.
            classes: `(clients,)` their classes.
        """
        at = self.place(clients)
        own = self.effects.pooled[classes] + np.append(self.effects.client, 0.0)[at][:, None]
        unseen = np.zeros((1, self.weight.shape[1]))
        scatter = np.concatenate([self.variances.of_client, unseen])[at]
        return (
            own + np.concatenate([self.effects.own, unseen])[at],
            np.where((at < len(self.seen))[:, None], scatter, self.variances.of_class[classes]),
            np.concatenate([self.weight, unseen])[at],
        )
