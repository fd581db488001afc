"""From prices to an allocation: everybody's best choice, then moves of one client or two.

The priced problem's own choice breaks limits by a few clients' worth, and is near the best
otherwise. Only the core may move: the clients to whom another choice is almost as good at the
prices. The best move is made until none improves `objective + penalty * what limits are missed by`;
kicks, a few random moves at once, then lead out of such ends (iterated local search).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..curves import Curves
from .balanced import balanced_choice
from .relaxation import Relaxation

_CORE = 128  # clients that may move at first
_WIDEN, _HARDER = 4, 30.0  # more clients, a larger penalty, where limits are still missed
_MOST_HARDER = 4
_PAIRED = 40  # moves that are tried two by two
_MOST_MOVES = 2_000
_KICKED, _KICK_AMONG = 3, 40
_PENALTY = 10.0  # times the largest price
_LEAST_GAIN = 1e-13  # in units


@dataclass(frozen=True, eq=False)
class _Core:
    """The clients that may move, nearest to another choice first, and what their choices bring.

    Args:
        clients: `(core,)`.
        regret: `(core, strategies)` cost at the prices above the best; infinite if not usable.
        base: `(core, strategies)` cost.
        taken: `(core, strategies, linear)` of the limits.
        covered: `(core, strategies, classes)`.
    """

    clients: IntArray
    regret: FloatArray
    base: FloatArray
    taken: FloatArray
    covered: FloatArray

    @classmethod
    def of(cls, relaxation: Relaxation, regret: FloatArray, size: int) -> _Core:
        """The clients with the smallest second-best regret."""
        second = np.partition(regret, 1, axis=1)[:, 1] if regret.shape[1] > 1 else regret[:, 0]
        near = np.arange(len(second))
        if size < len(second):
            near = np.argpartition(second, size)[:size]
        clients = near[np.lexsort((near, second[near]))]
        return cls(
            clients,
            regret[clients],
            relaxation.base[clients],
            np.moveaxis(relaxation.tables[:, clients], 0, 2),
            np.einsum("ic,s->isc", relaxation.share[clients], relaxation.teaches),
        )


@dataclass(frozen=True, eq=False)
class _Moves:
    """Moves of one core client each: which, and what they change."""

    rows: IntArray
    strategies: IntArray
    base: FloatArray
    taken: FloatArray
    covered: FloatArray

    def paired(self, first: IntArray, second: IntArray) -> _Moves:
        """Two at once; `rows` and `strategies` are those of the first."""
        return _Moves(
            self.rows[first],
            self.strategies[first],
            self.base[first] + self.base[second],
            self.taken[first] + self.taken[second],
            self.covered[first] + self.covered[second],
        )


class Recovery:
    """A choice under improvement, for one round time.

    Args:
        relaxation: The priced problem.
        prices: Near the best ones.
        mask: `(clients, strategies)` what is usable within the round time.
        width: Of the smoothing behind the prices, in units, to start from a choice that is as even
            as the smooth dual's; from everybody's best one where None.
    """

    def __init__(
        self,
        relaxation: Relaxation,
        prices: FloatArray,
        mask: BoolArray,
        width: float | None = None,
    ) -> None:
        self._relaxation = relaxation
        cost = np.where(mask, relaxation.priced(prices), np.inf)
        self.choice: IntArray = np.asarray(cost.argmin(axis=1), dtype=np.int64)
        cost -= cost.min(axis=1, keepdims=True)
        self._regret = cost
        if width is not None:
            self.choice = balanced_choice(relaxation, cost, width)
        self._penalty = _PENALTY * (1.0 / len(cost) + float(prices.max(initial=0.0)))
        self._limits = relaxation.table_limits
        rows = np.arange(len(cost))
        self._base = float(relaxation.base[rows, self.choice].sum())
        self._taken = relaxation.tables[:, rows, self.choice].sum(axis=1)
        taught = relaxation.teaches[self.choice]
        self._covered = relaxation.curves.carried + taught @ relaxation.share
        self._use_core(_CORE)

    def _use_core(self, size: int) -> None:
        self._core = _Core.of(self._relaxation, self._regret, size)
        self._now = self.choice[self._core.clients]

    @property
    def missed(self) -> float:
        """By how much limits are missed, in their units; 0 if all are kept."""
        return float(self._missed(self._taken[None].copy(), self._covered[None])[0])

    def improve(self, in_pairs: bool) -> None:
        """Moves clients until nothing improves; more of them if these cannot keep the limits."""
        self._descend(in_pairs)
        size = _CORE
        for _ in range(_MOST_HARDER):
            if self.missed <= 0:
                return
            self._penalty *= _HARDER
            size = min(size * _WIDEN, len(self.choice))
            self._use_core(size)
            self._descend(in_pairs=True)

    def kick(self, kicks: int) -> None:
        """Looks around the choice found; keeps the best.

        Args:
            kicks: How often; the same ones every time.
        """
        rng = np.random.default_rng(0)
        options = np.isfinite(self._core.regret)
        movable = np.flatnonzero(options.sum(axis=1) > 1)[:_KICK_AMONG]
        if len(movable) < _KICKED:
            return
        best = self._state()
        for _ in range(kicks):
            for row in rng.choice(movable, _KICKED, replace=False):
                others = options[row].copy()
                others[self._now[row]] = False
                self._make(int(row), int(rng.choice(np.flatnonzero(others))))
            self._descend(in_pairs=True)
            if self._merit_now() < best[0] - _LEAST_GAIN:
                best = self._state()
            else:
                self._restore(best)

    def _state(self) -> tuple[float, IntArray, float, FloatArray, FloatArray]:
        return self._merit_now(), self._now.copy(), self._base, self._taken, self._covered

    def _restore(self, state: tuple[float, IntArray, float, FloatArray, FloatArray]) -> None:
        _, now, self._base, self._taken, self._covered = state
        self._now = now.copy()
        self.choice[self._core.clients] = now

    def _descend(self, in_pairs: bool) -> None:
        for _ in range(_MOST_MOVES):
            moves = self._moves()
            if not len(moves.rows):
                return
            merit, now = self._merits(moves), self._merit_now()
            best = int(merit.argmin())
            if merit[best] < now - _LEAST_GAIN:
                self._make(int(moves.rows[best]), int(moves.strategies[best]))
                continue
            if not in_pairs:
                return
            first, second = np.triu_indices(min(_PAIRED, len(moves.rows)), 1)
            apart = moves.rows[first] != moves.rows[second]
            first, second = first[apart], second[apart]
            if not len(first):
                return
            merit = self._merits(moves.paired(first, second))
            best = int(merit.argmin())
            if not merit[best] < now - _LEAST_GAIN:
                return
            for k in (first[best], second[best]):
                self._make(int(moves.rows[k]), int(moves.strategies[k]))

    def _moves(self) -> _Moves:
        """All single moves of the core, those that cost least at the prices first."""
        core, rows = self._core, np.arange(len(self._now))
        worse = core.regret - core.regret[rows, self._now][:, None]
        worse[rows, self._now] = np.inf
        flat = worse.ravel()
        order = np.argsort(flat, kind="stable")[: int(np.isfinite(flat).sum())]
        clients, strategies = np.divmod(order, worse.shape[1])
        now = self._now[clients]
        return _Moves(
            clients,
            strategies,
            core.base[clients, strategies] - core.base[clients, now],
            core.taken[clients, strategies] - core.taken[clients, now],
            core.covered[clients, strategies] - core.covered[clients, now],
        )

    def _merit_now(self) -> float:
        curves = self._curve_cost(self._covered[None])
        return float(self._base + curves[0] + self._penalty * self.missed)

    def _merits(self, moves: _Moves) -> FloatArray:
        """`(moves,)` objective and penalty after each move."""
        covered = self._covered + moves.covered
        missed = self._missed(self._taken + moves.taken, covered)
        return self._base + moves.base + self._curve_cost(covered) + self._penalty * missed

    def _curve_cost(self, covered: FloatArray) -> FloatArray:
        return _interpolated(covered, self._relaxation.curves, self._relaxation.curve_base)

    def _missed(self, taken: FloatArray, covered: FloatArray) -> FloatArray:
        """`(moves,)` by how much limits are missed; changes `taken`."""
        if self._relaxation.has_cap:
            curves, losses = self._relaxation.curves, self._relaxation.curve_loss
            taken[:, -1] += _interpolated(covered, curves, losses)
        return np.asarray(np.maximum(taken - self._limits, 0.0).sum(axis=1))

    def _make(self, row: int, strategy: int) -> None:
        core, now = self._core, self._now[row]
        self._base += float(core.base[row, strategy] - core.base[row, now])
        self._taken = self._taken + core.taken[row, strategy] - core.taken[row, now]
        self._covered = self._covered + core.covered[row, strategy] - core.covered[row, now]
        self._now[row] = self.choice[core.clients[row]] = strategy


def _interpolated(covered: FloatArray, curves: Curves, values: FloatArray) -> FloatArray:
    """`(moves,)` sum over the curves of what each is worth at what is covered."""
    total, places = np.zeros(len(covered)), curves.at(covered)
    for part in curves.parts:
        # All of a part share a curve up to a factor, their value at 0.
        scale = values[part, 0]
        largest = int(np.argmax(scale))
        if scale[largest] > 0:
            curve = values[part][largest] / scale[largest]
            total = total + np.interp(places[:, part], curves.points, curve) @ scale
    return total
