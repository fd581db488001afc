"""What an allocator knows of its clients: their tables, what they did last, how long they take."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from .adjust.exposure import Exposure
from .adjust.loss_model import LossModel
from .adjust.model import TimeModel
from .arrays import FloatArray
from .check_fleet import check_client, check_outcome, check_state
from .data import FittedLoss
from .fleet import FleetTables
from .goal import Goal, Outcome, ServerAccuracy
from .hardware import HardwareTables
from .memory import RoundMemory
from .strategy import Strategy


class FleetKnowledge:
    """Of a fleet without a client at first; what is learned of it is what a checkpoint keeps.

    Args:
        menu: The strategies.
        deployed: What will be deployed.
        carry: Share of a round's coverage that still counts in the next.
        learns: Whether the times are learned.
        fitted: The loss model; None where the loss is not learned.
    """

    def __init__(
        self,
        menu: tuple[Strategy, ...],
        deployed: Strategy,
        carry: float,
        learns: bool,
        fitted: FittedLoss | None,
    ) -> None:
        self._menu, self._learns = menu, learns
        self.fleet = FleetTables.of(HardwareTables.unknown(menu, 0), [])
        self.memory = RoundMemory(menu, deployed, carry)
        self.times = TimeModel(menu, self.fleet.hardware.seconds)
        self.exposure = Exposure(menu, deployed)
        self.loss = (
            None if fitted is None else LossModel(fitted.loss_curve, fitted.unevenness_price)
        )

    def join(
        self, more: FleetTables, device_classes: Sequence[Hashable] | None, goal: Goal
    ) -> range:
        """Takes in more clients; nothing has changed if that raises."""
        before, fleet = len(self.fleet), self.fleet.joined(more)
        fleet.check(goal)
        self.times.join(more.hardware.seconds, device_classes)
        self.memory.join(len(more))
        self.exposure.join(len(more))
        self.fleet = fleet
        return range(before, len(fleet))

    def forbid(self, client: int, strategy: Strategy) -> None:
        """Takes a choice from a client; nothing has changed if that raises."""
        check_outcome(client, strategy, self._menu, len(self.fleet))
        self.fleet = self.fleet.without(client, self._menu.index(strategy))

    def tell(self, client: int, examples: float, counts: FloatArray | None, goal: Goal) -> None:
        """Takes in what a client says anew of its data; nothing has changed if that raises."""
        check_client(client, len(self.fleet))
        fleet = self.fleet.retold(client, examples, counts)
        fleet.check(goal)
        before, self.fleet = self.fleet, fleet
        if self.loss is not None:  # old counts may have explained its gaps wrongly
            self.loss.forget(self._change(before))

    def observe(self, outcomes: Sequence[Outcome], accuracy: ServerAccuracy | None = None) -> None:
        """Takes in a round; the order of its outcomes does not matter."""
        for outcome in outcomes:
            check_outcome(outcome.client, outcome.strategy, self._menu, len(self.fleet))
        ordered = sorted(outcomes, key=lambda o: (o.client, self._menu.index(o.strategy)))
        self.memory.observe(ordered)
        if self._learns:
            self.times.observe(ordered)
        self.exposure.observe(ordered)
        if self.loss is not None and accuracy is not None:
            weights = _class_weights(self.fleet)
            self.loss.observe(self.exposure.covered(self.fleet), weights, accuracy)
        elif self.loss is not None:
            self.loss.miss()

    def _change(self, before: FleetTables) -> float:
        """Of the population's distribution and of what the recent rounds covered of it."""
        old, new = _class_weights(before), _class_weights(self.fleet)
        if len(old) != len(new):  # nobody tells labels any more
            return 1.0
        covered = self.exposure.covered(self.fleet) - self.exposure.covered(before)
        return float(np.abs(new - old).sum() / 2 + np.abs(covered) @ new)

    def state_dict(self) -> dict[str, Any]:
        """What was learned, ready for JSON."""
        return {
            "menu": [str(s) for s in self._menu],
            "num_clients": len(self.fleet),
            "forbidden": np.argwhere(self.fleet.forbidden).tolist(),
            **self.memory.state_dict(),
            "times": self.times.state_dict(),
            "exposure": self.exposure.state_dict(),
            **({} if self.loss is None else {"loss": self.loss.state_dict()}),
        }

    def load_state_dict(self, state: Mapping[str, Any], goal: Goal) -> None:
        """Takes up a saved state; nothing has changed if that raises."""
        check_state(state, self._menu, len(self.fleet))
        fleet = self.fleet.with_forbidden(state.get("forbidden", ()))
        fleet.check(goal)
        memory = self.memory.loaded(state, fleet.label_counts.shape[1])
        exposure = self.exposure.loaded(state.get("exposure"))  # older states do not have it
        loss = None if self.loss is None else self.loss.loaded(state.get("loss"))
        if "times" in state:
            self.times.load_state_dict(state["times"])
        else:
            self.times.forget()
        self.fleet, self.memory, self.exposure, self.loss = fleet, memory, exposure, loss


def _class_weights(fleet: FleetTables) -> FloatArray:
    """`(classes,)` distribution of the population; even where nobody holds an example."""
    whole = np.maximum(fleet.population, np.finfo(float).tiny)
    return np.asarray(whole / whole.sum())
