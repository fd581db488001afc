"""`Dominant`: the exact frontier where no client has to choose between own loss and coverage.

If of all strategies that a client can end within a time one has the least own loss, teaches most
and takes part, whichever time, then everybody's such strategy is the best that a round of that time
can give: there is nothing to trade between clients, unless a budget or a count ties them. With
skip, ptq and qat at one width of the wire it is so, and the whole frontier is one sort; not where
unevenness has a price, since then to teach more may cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import BoolArray, FloatArray, IntArray
from ..check import least_with_tolerance, with_tolerance, within_deadline
from ..problem import AllocationProblem


@dataclass(frozen=True, eq=False)
class Dominant:
    """The least loss as a function of the round time, as its steps.

    Args:
        thresholds: `(steps,)` round times in seconds, rising, that some allocation keeps.
        losses: `(steps,)` the least loss of an allocation that ends by the threshold.
    """

    thresholds: FloatArray
    losses: FloatArray
    _switches: _Switches

    @classmethod
    def of(cls, problem: AllocationProblem) -> Dominant | None:
        """The steps of a problem without groups; None where clients have to choose.

        Example:
            >>> from fedhq.allocator import Coverage
            >>> coverage = Coverage([[5], [5]], (0, 1), ((0, .4), (1, 0)))
            >>> problem = AllocationProblem(("ptq-w2a2", "qat-w2a2"), [[1, 2], [3, 5]],
            ...                             [[0, 0], [0, 0]], coverage=coverage)
            >>> steps = Dominant.of(problem)
            >>> steps.thresholds, steps.losses, steps.choose(3.0)
            (array([3., 5.]), array([0.2, 0. ]), array([1, 0]))
        """
        if problem.coverage is None or problem.budgets or problem.counts:
            return None
        if problem.coverage.has_unevenness:
            return None
        switches = _Switches.of(problem)
        if switches is None:
            return None
        thresholds, losses, parts = switches.totals(problem)
        keep = parts >= max(least_with_tolerance(problem.min_participation), 0.0)
        keep &= switches.takes_part(thresholds)
        if problem.max_loss is not None:
            keep &= losses <= with_tolerance(problem.max_loss)
        return cls(thresholds[keep], losses[keep], switches)

    def choose(self, threshold: float) -> IntArray:
        """`(clients,)` everybody's best strategy that ends by the threshold."""
        return self._switches.choose(threshold)


@dataclass(frozen=True, eq=False)
class _Switches:
    """What each client does best from which time on.

    Args:
        client: `(switches,)` by rising time, of equal times in the client's order.
        before: `(switches,)` strategy that it leaves; -1 where it is its first.
        after: `(switches,)` strategy that it takes.
        seconds: `(switches,)` the time from which it can.
        num_clients: Clients.
        first_part: Time from which somebody takes part; infinite if nobody can.
    """

    client: IntArray
    before: IntArray
    after: IntArray
    seconds: FloatArray
    num_clients: int
    first_part: float

    @classmethod
    def of(cls, problem: AllocationProblem) -> _Switches | None:
        """Those of a problem; None where some client must choose between own loss and coverage."""
        assert problem.coverage is not None
        allowed = within_deadline(problem)
        times = np.where(allowed, problem.seconds, np.inf)
        shape, rows = times.shape, np.arange(len(times))
        ranks = (-problem.loss, problem.coverage.teaches, problem.participates)
        quality: FloatArray = np.stack([np.broadcast_to(rank, shape) for rank in ranks])
        order = np.argsort(times, axis=1, kind="stable")
        best, found = order[:, 0], [(rows, np.full(len(rows), -1), order[:, 0])]
        for column in order.T[1:]:
            old, new = quality[:, rows, best], quality[:, rows, column]
            can = np.isfinite(times[rows, column])
            no_worse, no_better = (new >= old).all(axis=0), (new <= old).all(axis=0)
            if (can & ~no_worse & ~no_better).any():
                return None
            better = can & no_worse & ~no_better
            at = np.flatnonzero(better)
            found.append((at, best[at], column[at]))
            best = np.where(better, column, best)
        client, before, after = (np.concatenate(part) for part in zip(*found, strict=True))
        seconds = times[client, after]
        by_time = np.argsort(seconds, kind="stable")
        taking = seconds[problem.participates[after]]
        return cls(
            client=client[by_time],
            before=before[by_time],
            after=after[by_time],
            seconds=seconds[by_time],
            num_clients=len(times),
            first_part=float(taking.min(initial=np.inf)),
        )

    def totals(self, problem: AllocationProblem) -> tuple[FloatArray, FloatArray, FloatArray]:
        """`(steps,)` times from which everybody can do something, losses, participation."""
        term = problem.coverage
        assert term is not None
        is_first = self.before < 0
        floor = float(self.seconds[is_first].max())

        def gain(value: FloatArray) -> FloatArray:
            return np.asarray(value[self.after] - np.where(is_first, 0.0, value[self.before]))

        left = np.where(is_first, 0.0, problem.loss[self.client, self.before])
        own = np.cumsum(problem.loss[self.client, self.after] - left)
        share = term.share[self.client]
        covered = term.carried + np.cumsum(gain(term.teaches)[:, None] * share, axis=0)
        joined = gain(problem.participates.astype(float)) * problem.example_shares[self.client]
        losses = own + term.phi(covered) @ term.class_weights
        last = np.append(self.seconds[1:] > self.seconds[:-1], True)
        keep = last & (self.seconds >= floor) & np.isfinite(self.seconds)
        return self.seconds[keep], losses[keep], np.cumsum(joined)[keep]

    def takes_part(self, thresholds: FloatArray) -> BoolArray:
        """`(steps,)` whether somebody takes part by then."""
        return np.asarray(thresholds >= self.first_part)

    def choose(self, threshold: float) -> IntArray:
        choice = np.zeros(self.num_clients, dtype=np.int64)
        done = int(np.searchsorted(self.seconds, threshold, side="right"))
        choice[self.client[:done]] = self.after[:done]  # of several the last counts
        return choice
