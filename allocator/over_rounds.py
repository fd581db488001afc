"""The program over all rounds: one total time, and coverage that adds up over rounds.

    minimise  sum_t w_t loss(x_t) + sum_c g_c phi(past_c + sum_t w_t coverage_c(x_t))
    such that sum_t round_seconds(x_t) <= total, and every round keeps its own limits

and the unevenness of what is covered in the end. With a price for every curve (`Curves`) these
terms become linear, and with a price of time the rounds come apart: each is a sweep. Schedules
found so are columns of a small linear program, whose own prices ask for the next one
(Dantzig-Wolfe); what prices cannot better is proven.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy  # loads `scipy.optimize` when it is first used

from .arrays import FloatArray, IntArray
from .check import exceeds
from .coverage import Coverage
from .curves import Curves
from .frontier import Frontier, find_frontier
from .problem import AllocationProblem
from .solvers.knapsack import pack

_MOST_STEPS = 15
_MOST_SOLVED = 16  # points of a frontier that no sort finds, and then ...
_FEW_STEPS = 3  # ... a round must not wait for its plan


@dataclass(frozen=True, eq=False)
class Spread:
    """What every round does.

    Args:
        choices: `(kinds, clients)` the different rounds' choices.
        kinds: `(rounds,)` which of them a round does.
        seconds: `(rounds,)` round times.
        loss: Predicted loss of the last model.
        bound: No schedule within the total time has a lower one.
        price: Loss that one more second would save.
    """

    choices: IntArray
    kinds: IntArray
    seconds: FloatArray
    loss: float
    bound: float
    price: float


@dataclass(frozen=True, eq=False)
class _Column:
    """A schedule, its separable loss, and what it covers of the classes in the end."""

    choices: IntArray
    kinds: IntArray
    seconds: FloatArray
    own: float
    covered: FloatArray


def spread(
    problem: AllocationProblem,
    weights: FloatArray,
    total_seconds: float,
    past: FloatArray | None = None,
    gap: float = 0.0,
) -> Spread | None:
    """Spreads a total time over rounds.

    Args:
        problem: Of one round; what recent rounds carry over to it does not count here.
        weights: `(rounds,)` what each still weighs in the end.
        total_seconds: Of all rounds.
        past: `(classes,)` coverage that earlier rounds still give in the end; none where None.
        gap: Loss that one need not tell apart.

    Returns:
        The schedule; None if no allocation keeps a round's limits, or the rounds do not fit.
    """
    rounds = _Rounds(problem, weights, total_seconds, past)
    columns: list[_Column] = []
    prices, bound, price, best = rounds.first_prices(), -np.inf, 0.0, np.inf
    for _ in range(rounds.most_steps):
        frontier = rounds.frontier(prices)
        if frontier is None or exceeds(
            len(weights) * float(frontier.round_seconds[0]), total_seconds
        ):
            return None
        found = pack(frontier.round_seconds, frontier.loss, weights, total_seconds, gap / 2)
        columns.append(rounds.column(frontier, found.points))
        proven = found.bound - frontier.gap * float(weights.sum()) + rounds.rest(prices)
        if proven > bound:
            bound, price = proven, found.price
        best = min(rounds.loss(c) for c in columns)
        mixture = rounds.mixed(columns)
        if mixture is None:
            break
        columns.extend(rounds.rounded(columns, mixture.shares))
        best, prices = min(rounds.loss(c) for c in columns), mixture.prices
        if min(best, mixture.loss) - bound <= gap:
            break
    chosen = min(columns, key=rounds.loss)
    return Spread(chosen.choices, chosen.kinds, chosen.seconds, best, min(bound, best), price)


def one_of_many(problem: AllocationProblem) -> AllocationProblem:
    """A round's program without what only counts where there is one round."""
    return replace(problem, max_loss=None, tradeoff=None, switching_seconds=None)


@dataclass(frozen=True, eq=False)
class _Mixture:
    """Shares of columns, `(columns,)`, their loss, and the `(curves,)` prices of coverage there."""

    loss: float
    shares: FloatArray
    prices: FloatArray


class _Rounds:
    """The terms of the program over all rounds."""

    def __init__(
        self,
        problem: AllocationProblem,
        weights: FloatArray,
        total_seconds: float,
        past: FloatArray | None,
    ) -> None:
        term = problem.coverage or Coverage(
            np.ones((problem.num_clients, 1)), np.zeros(len(problem.strategies)), ((0.0, 0.0),)
        )
        self._problem, self._term = problem, term
        self._weights, self._total = weights, total_seconds
        self._past = np.zeros(len(term.population)) if past is None else past
        self._curves = Curves.of(term, self._past, float(weights.sum()))
        self._sorts = not (problem.budgets or problem.counts)

    @property
    def most_steps(self) -> int:
        return _MOST_STEPS if self._sorts else _FEW_STEPS

    def first_prices(self) -> FloatArray:
        """`(curves,)` of coverage: what it is worth on the average of the curve; 0 of leads."""
        (_, top), (end, low) = self._term.loss_curve[0], self._term.loss_curve[-1]
        prices = np.zeros(len(self._curves.weights))
        worth = self._term.class_weights * ((top - low) / end if end else 0.0)
        prices[: len(worth)] = worth
        return prices

    def frontier(self, prices: FloatArray) -> Frontier | None:
        """A round's least loss, coverage priced in, as a function of its time."""
        teaches, problem = self._term.teaches, self._problem
        worth = self._term.share @ self._curves.of_classes(prices)
        untaught = np.outer(np.maximum(worth, 0.0), float(teaches.max()) - teaches)
        harm = np.outer(np.minimum(worth, 0.0), teaches)
        nothing = Coverage(np.ones((problem.num_clients, 1)), np.zeros(len(teaches)), ((0.0, 0.0),))
        priced = replace(
            one_of_many(problem),
            loss=problem.loss + untaught - harm,
            coverage=nothing if problem.min_participation else None,
        )
        return find_frontier(priced, most_solved=_MOST_SOLVED)

    def rest(self, prices: FloatArray) -> float:
        """What a bound with prices has beside the rounds."""
        curves, most, share = self._curves, self._term.teaches.max(), self._term.share
        values = curves.weights[:, None] * curves.values
        least = (values + np.outer(prices, curves.points)).min(axis=1)
        whole = curves.moved(most * share.sum(axis=0))
        rest = float((least - prices * (curves.start + self._weights.sum() * whole)).sum())
        # Of those whose teaching harms nothing has to be given back: a round charges it itself.
        harm = np.minimum(share @ curves.of_classes(prices), 0.0).sum()
        return rest + float(self._weights.sum() * most * harm)

    def column(self, frontier: Frontier, points: IntArray) -> _Column:
        used, kinds = np.unique(points, return_inverse=True)
        choices = np.stack([frontier.allocation(int(k)).choice for k in used])
        return self._column(choices, kinds)

    def _column(self, choices: IntArray, kinds: IntArray) -> _Column:
        rows = np.arange(self._problem.num_clients)
        own = self._problem.loss[rows, choices].sum(axis=1)
        covered = self._term.teaches[choices] @ self._term.share
        seconds = self._problem.seconds[rows, choices].max(axis=1)
        w = np.bincount(kinds, self._weights, len(choices))
        return _Column(choices, kinds, seconds[kinds], float(w @ own), w @ covered)

    def loss(self, column: _Column) -> float:
        """Predicted loss of the last model."""
        return column.own + self._term.loss(self._past + column.covered)

    def mixed(self, columns: list[_Column]) -> _Mixture | None:
        """The best mixture of schedules; None where the linear program fails on its numbers."""
        slopes, offsets = self._curves.lines
        (curves, lines), n = slopes.shape, len(columns)
        places = self._curves.moved(np.stack([c.covered for c in columns]))  # (columns, curves)
        above = np.zeros((curves, lines, n + curves))
        above[:, :, :n] = slopes[:, :, None] * places.T[:, None, :]
        above[np.arange(curves), :, n + np.arange(curves)] = -1.0
        limits = -offsets - self._curves.start[:, None] * slopes
        found = scipy.optimize.linprog(
            np.append([c.own for c in columns], self._curves.weights),
            above.reshape(-1, n + curves),
            limits.ravel(),
            np.append(np.ones(n), np.zeros(curves))[None],
            [1.0],
        )
        if found.x is None or found.fun is None:
            return None
        duals = found.ineqlin.marginals.reshape(curves, lines)
        prices = np.concatenate([duals[p] @ slopes[p.start] for p in self._curves.parts])
        return _Mixture(float(found.fun), found.x[:n], np.maximum(prices, 0.0))

    def rounded(self, columns: list[_Column], shares: FloatArray) -> Iterator[_Column]:
        """A schedule near a mixture: each round does as the one most short of its share does."""
        missing = shares * self._weights.sum()
        if np.count_nonzero(shares > 1e-9) < 2:
            return
        taken = np.zeros(len(self._weights), dtype=np.int64)
        for t in np.argsort(-self._weights, kind="stable").tolist():
            taken[t] = missing.argmax()
            missing[taken[t]] -= self._weights[t]
        starts = np.cumsum([0] + [len(c.choices) for c in columns])
        kinds = np.array([starts[j] + columns[j].kinds[t] for t, j in enumerate(taken)])
        used, kinds = np.unique(kinds, return_inverse=True)
        column = self._column(np.concatenate([c.choices for c in columns])[used], kinds)
        if not exceeds(float(column.seconds.sum()), self._total):
            yield column
