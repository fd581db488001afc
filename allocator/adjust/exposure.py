"""What the weights still know of each client's data at the deployed precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import FloatArray, freeze
from ..fleet import FleetTables
from ..goal import Outcome
from ..strategy import Strategy, teaches

MEMORY = 0.9
"""Share of what the weights know that outlives a round: measured by `studies.gaps`."""


class Exposure:
    """How much each client taught the deployed precision of late: a decayed mean over rounds.

    The gap that a server measures is of weights that many rounds made, so the loss is learned from
    this, and not from the coverage of the last round alone. Kept by client, so that it stays right
    when label counts are told anew or others join.

    Args:
        menu: The strategies.
        deployed: What will be deployed.

    Example:
        >>> from fedhq.allocator import parse_menu
        >>> menu = parse_menu(["ptq-w2a2", "qat-w2a2"])
        >>> exposure = Exposure(menu, menu[1])
        >>> exposure.join(2)
        >>> for strategy in menu:
        ...     exposure.observe([Outcome(0, strategy, 1.0, True), Outcome(1, menu[1], 1.0, True)])
        >>> exposure.of_clients.round(3)
        array([0.526, 1.   ])
    """

    def __init__(self, menu: tuple[Strategy, ...], deployed: Strategy) -> None:
        self._menu, self._deployed = menu, deployed
        self._level = teaches(menu, deployed)
        self._taught: FloatArray = np.zeros(0)
        self._rounds = 0.0

    @property
    def of_clients(self) -> FloatArray:
        """`(clients,)` in [0, 1]."""
        return np.asarray(self._taught / max(self._rounds, 1.0))

    def covered(self, fleet: FleetTables) -> FloatArray:
        """`(classes,)` share of each class that was taught, in the mean of the recent rounds."""
        return fleet.covered(self.of_clients)

    def join(self, num_clients: int) -> None:
        """More clients, that taught nothing so far."""
        self._taught = np.append(self._taught, np.zeros(num_clients))

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """Takes in a round; one without any usable update left the weights as they were."""
        used = [o for o in outcomes if o.succeeded and not o.strategy.is_skip]
        if not used:
            return
        taught = MEMORY * self._taught
        for outcome in used:
            taught[outcome.client] += self._level[self._menu.index(outcome.strategy)]
        self._taught = taught
        self._rounds = MEMORY * self._rounds + 1.0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep, ready for JSON."""
        return {"rounds": self._rounds, "taught": self._taught.tolist()}

    def loaded(self, state: Mapping[str, Any] | None) -> Exposure:
        """That of a saved state; as before the first round where there is none.

        Raises:
            ValueError: If it is of another fleet.
        """
        exposure = Exposure(self._menu, self._deployed)
        exposure.join(len(self._taught))
        if state is not None:
            exposure._taught = freeze("taught", state["taught"], self._taught.shape)
            exposure._rounds = float(freeze("rounds", state["rounds"], ()))
        return exposure
