"""A choice that changes client by client, and what every next change would bring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ....allocator import AllocationProblem
from ....allocator.arrays import BoolArray, FloatArray, IntArray
from ....allocator.check import with_tolerance
from ....allocator.rows import Rows

_AT_ONCE = 100  # a hundredth of the clients moves between two looks at all of them
_MOST_LOOKS = 1_000
_NOTHING = 1e-12  # relative: what is gained by rounding only
_FREE = 1e-9  # of a limit, or of the cost: what takes less counts as free


@dataclass(frozen=True, eq=False)
class Changes:
    """What a change of one client leads to, for some clients: all `(some clients, strategies)`.

    Args:
        cost: Weighted loss and switching price afterwards; the round time does not count.
        missed: By how much limits are missed afterwards, each relative to its size.
        taken: What the change takes of the limits, relative to their sizes, >= 0.
    """

    cost: FloatArray
    missed: FloatArray
    taken: FloatArray


class Walk:
    """A choice on its way within what is usable; `choice` is where it stands.

    Args:
        problem: With a goal, without groups.
        usable: `(clients, strategies)` what may be chosen; at least one strategy a client.
        choice: `(clients,)` where it begins; what takes least of the limits where None, of equals
            the fastest.
    """

    def __init__(
        self, problem: AllocationProblem, usable: BoolArray, choice: IntArray | None = None
    ) -> None:
        self._problem, self._usable = problem, usable
        rows = Rows.of(problem).all
        tables = [row.table / row.scale for row in rows]
        self._tables = np.array(tables).reshape(len(rows), *usable.shape)
        self._limits = np.array([row.limit / row.scale for row in rows])
        self._price = problem.loss_weight * problem.loss
        if problem.switching_seconds is not None:
            self._price = self._price + problem.switching_seconds
        self._everybody = np.arange(problem.num_clients)
        self._share = np.zeros((problem.num_clients, 0))
        if problem.coverage is not None:
            self._share = problem.coverage.share
        self.choice = self._least_taken() if choice is None else choice.copy()
        self._sum_up()

    @property
    def missed(self) -> float:
        """By how much limits are missed, each relative to its size; 0 if all are kept."""
        return self._missed

    def repair(self, is_late: Callable[[], bool]) -> None:
        """Changes what removes most of what limits are missed by, for its cost, until none is."""

        def worth(changes: Changes) -> FloatArray:
            less = self._missed - changes.missed
            more_cost = np.maximum(changes.cost - self._cost, 0.0)
            free = _FREE * max(abs(self._cost), _NOTHING)
            return np.where(less > _NOTHING, less / (more_cost + free), 0.0)

        self._walk(worth, is_late)

    def improve(self, is_late: Callable[[], bool]) -> None:
        """Changes what saves most cost for what it takes of the limits, until nothing saves any."""

        def worth(changes: Changes) -> FloatArray:
            gain = self._cost - changes.cost
            better = (gain > _NOTHING * abs(self._cost)) & (changes.missed <= self._missed)
            return np.where(better, gain / (changes.taken + _FREE), 0.0)

        self._walk(worth, is_late)

    def _walk(self, worth: Callable[[Changes], FloatArray], is_late: Callable[[], bool]) -> None:
        """Makes the changes of most worth > 0, a hundredth of the clients at a time."""
        at_once = 1 + len(self._everybody) // _AT_ONCE
        for _ in range(_MOST_LOOKS):
            if is_late():
                return
            value = self._worth(worth, self._everybody).max(axis=1)
            best = np.argsort(-value, kind="stable")[:at_once]
            if not value[best[0]] > 0:
                return
            for client in best[value[best] > 0]:
                own = self._worth(worth, client[None])[0]  # after the changes before
                if own.max() > 0:
                    self._change(int(client), int(own.argmax()))

    def _worth(self, worth: Callable[[Changes], FloatArray], clients: IntArray) -> FloatArray:
        return np.where(self._usable[clients], worth(self.changes(clients)), 0.0)

    def _least_taken(self) -> IntArray:
        taken = np.where(self._usable, self._tables.sum(axis=0), np.inf)
        least = taken <= taken.min(axis=1, keepdims=True)
        seconds = np.where(least, self._problem.seconds, np.inf)
        return np.asarray(seconds.argmin(axis=1), dtype=np.int64)

    def _sum_up(self) -> None:
        """What the choice takes, costs and covers."""
        at, problem = (self._everybody, self.choice), self._problem
        self._taken = self._tables[:, *at].sum(axis=1)
        self._own_price, self._own_loss = self._price[at].sum(), problem.loss[at].sum()
        if problem.coverage is not None:
            self._covered = problem.coverage.covered(self.choice)
        self._stand()

    def _change(self, client: int, strategy: int) -> None:
        """Changes one client's strategy, and the sums by what that brings."""
        new, old = (client, strategy), (client, int(self.choice[client]))
        self._taken = self._taken + self._tables[:, *new] - self._tables[:, *old]
        self._own_price += self._price[new] - self._price[old]
        self._own_loss += self._problem.loss[new] - self._problem.loss[old]
        if (term := self._problem.coverage) is not None:
            more = term.teaches[strategy] - term.teaches[old[1]]
            self._covered = self._covered + more * self._share[client]
        self.choice[client] = strategy
        self._stand()

    def _stand(self) -> None:
        """Cost and missed limits of the choice: those of a change to what a client does already."""
        here = self.changes(self._everybody[:1])
        self._cost = float(here.cost[0, self.choice[0]])
        self._missed = float(here.missed[0, self.choice[0]])

    def changes(self, clients: IntArray) -> Changes:
        """What each change of one of some clients leads to."""
        problem, now = self._problem, self.choice[clients]
        at = (clients, now)
        loss, price = problem.loss, self._price
        classes = self._class_loss(clients)
        cost = self._own_price + price[clients] - price[at][:, None]
        cost = cost + problem.loss_weight * classes
        more = self._tables[:, clients] - self._tables[:, *at][..., None]
        beyond = self._taken[:, None, None] + more - self._limits[:, None, None]
        missed = np.maximum(beyond, 0.0).sum(axis=0)
        if problem.max_loss is not None:
            whole = self._own_loss + loss[clients] - loss[at][:, None] + classes
            limit = with_tolerance(problem.max_loss)
            missed = missed + np.maximum(whole - limit, 0.0) / (limit or 1.0)
        return Changes(cost, missed, np.maximum(more, 0.0).sum(axis=0))

    def _class_loss(self, clients: IntArray) -> FloatArray:
        """`(some clients, strategies)` the loss by coverage after each change."""
        term = self._problem.coverage
        if term is None:
            return np.zeros((len(clients), self._usable.shape[1]))
        more = term.teaches - term.teaches[self.choice[clients], None]
        covered = self._covered + more[:, :, None] * self._share[clients, None]
        return term.losses(covered)
