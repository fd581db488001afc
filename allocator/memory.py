"""What an allocator remembers of rounds: what each client did and taught, who rests, their time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import BoolArray, FloatArray, IntArray, freeze
from .fleet import FleetTables
from .goal import Outcome
from .recency import Recency
from .strategy import Strategy, teaches

_RECENCY = Recency()
_NEVER = -1  # place in the menu of what a client did that never took part


class RoundMemory:
    """What each client did last, how long it was absent, and how much of what it taught counts.

    The last is kept by client, not by class: it stays right when others join, and when a fleet
    of which nobody told labels is joined by somebody who does.

    Args:
        menu: The strategies.
        deployed: What will be deployed.
        carry: Share of a round's coverage that still counts in the next, in [0, 1).
    """

    def __init__(self, menu: tuple[Strategy, ...], deployed: Strategy, carry: float) -> None:
        if not 0 <= carry < 1:
            raise ValueError(f"`0 <= carry < 1` must hold, but got {carry}.")
        self._menu, self._deployed, self._carry = menu, deployed, carry
        self._level = teaches(menu, deployed)
        self._last: IntArray = np.zeros(0, dtype=np.int64)
        self._taught: FloatArray = np.zeros(0)
        self._inherited: FloatArray = np.zeros(1)  # coverage of which no client is known
        self._absent: IntArray = np.zeros(0, dtype=np.int64)
        self._held: FloatArray = np.zeros(0)
        self.spent_seconds = 0.0
        """What all rounds took together, as far as anybody told."""

    def join(self, num_clients: int) -> None:
        """More clients, that never took part."""
        self._last = np.append(self._last, np.full(num_clients, _NEVER, dtype=np.int64))
        self._taught = np.append(self._taught, np.zeros(num_clients))
        self._absent = np.append(self._absent, np.zeros(num_clients, dtype=np.int64))
        self._held = np.append(self._held, np.zeros(num_clients))

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """Takes in a round's outcomes; one without a usable update leaves what the weights hold."""
        taught = self._taught.copy()
        absent = self._absent + ((self._absent > 0) | (self._last != _NEVER))
        level = np.zeros_like(self._held)
        for outcome in outcomes:
            column = self._menu.index(outcome.strategy)
            absent[outcome.client] = self._absent[outcome.client] + 1
            if not outcome.strategy.is_skip:
                self._last[outcome.client] = column
            if outcome.succeeded:
                taught[outcome.client] += self._level[column]
                level[outcome.client] = self._level[column]
                absent[outcome.client] = 0
        self._taught = self._carry * taught
        self._inherited = self._carry * self._inherited
        self._absent = absent
        if any(o.succeeded and not o.strategy.is_skip for o in outcomes):
            self._held = _RECENCY.after(self._held, level)
        self.spent_seconds += max((o.seconds for o in outcomes if o.seconds is not None), default=0)

    def taught(self, fleet: FleetTables) -> FloatArray:
        """`(classes,)` share of a class's examples that the weights were taught, by recency."""
        return fleet.covered(self._held)

    def absent_rounds(self, rows: IntArray) -> IntArray:
        """`(cohort,)` rounds since an update of a client's was last used, or it was first asked."""
        return self._absent[rows]

    def carried(self, fleet: FleetTables) -> FloatArray:
        """`(classes,)` coverage that recent rounds still give."""
        return np.asarray(self._inherited + fleet.covered(self._taught))

    def changes(self, rows: IntArray) -> BoolArray:
        """`(cohort, strategies)` whether a choice is another than the client's last; skip never."""
        last = self._last[rows][:, None]
        takes_part = np.array([not s.is_skip for s in self._menu])
        changed = (last != _NEVER) & (np.arange(len(self._menu)) != last)
        return np.asarray(changed & takes_part)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep, ready for JSON."""
        known, teachers = np.flatnonzero(self._last != _NEVER), np.flatnonzero(self._taught)
        resting, held = np.flatnonzero(self._absent), np.flatnonzero(self._held)
        return {
            "carried": self._inherited.tolist(),
            "taught": [teachers.tolist(), self._taught[teachers].tolist()],
            "last": [known.tolist(), self._last[known].tolist()],
            "absent": [resting.tolist(), self._absent[resting].tolist()],
            "held": [held.tolist(), self._held[held].tolist()],
            "spent_seconds": self.spent_seconds,
        }

    def loaded(self, state: Mapping[str, Any], num_classes: int) -> RoundMemory:
        """The memory that a state holds; what an older one does not hold is forgotten.

        Raises:
            ValueError: If it belongs to another set of labels or fleet.
        """
        memory = RoundMemory(self._menu, self._deployed, self._carry)
        carried = state["carried"]
        shape = (1,) if len(carried) == 1 else (num_classes,)
        memory._inherited = freeze("carried", carried, shape)
        memory._last = _placed("last", state, np.full_like(self._last, _NEVER))
        memory._taught = _placed("taught", state, np.zeros_like(self._taught))
        memory._absent = _placed("absent", state, np.zeros_like(self._absent))
        memory._held = _placed("held", state, np.zeros_like(self._held))
        memory.spent_seconds = float(freeze("spent_seconds", state.get("spent_seconds", 0.0), ()))
        return memory


def _placed(name: str, state: Mapping[str, Any], array: NDArray[Any]) -> NDArray[Any]:
    """An array with the values that a state holds of some clients."""
    clients, values = state.get(name, ([], []))
    where = np.array(clients, dtype=np.int64)
    if len(where) != len(values) or not ((0 <= where) & (where < len(array))).all():
        raise ValueError(
            f"`{name}` of a state must be values of clients in 0 ... {len(array) - 1}, but it is "
            f"of clients {clients[:5]} ({len(where)} in all) and has {len(values)} values."
        )
    array[where] = values
    return array
