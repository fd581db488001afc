"""`ClientExplanation`: why one client does what it does, and what would change that."""

from __future__ import annotations

from dataclasses import dataclass

from ..problem import AllocationProblem
from ..solution import Allocation
from ..strategy import Strategy
from .quantities import POINTS, SECONDS, Unit, number
from .uses import LimitUse
from .whatif import Alternative

_UNCHANGED = 1e-9  # of the value: rounding


@dataclass(frozen=True, eq=False)
class ClientExplanation:
    """One client's strategy against every other of the menu, all other clients unchanged.

    Printed, it is a text to read.

    Args:
        client: Its name.
        strategy: What it does.
        seconds: Its own time; of a group that of the slowest.
        loss: Its own loss, without coverage; of a group the sum.
        alternatives: The other strategies that it is allowed, in the order of the menu.
        not_allowed: Those that it is not allowed.
        moved_with: The other clients of its group: they would have to do the same.
    """

    client: str
    strategy: Strategy
    seconds: float
    loss: float
    alternatives: tuple[Alternative, ...]
    not_allowed: tuple[Strategy, ...]
    moved_with: tuple[str, ...]
    _problem: AllocationProblem
    _allocation: Allocation

    @property
    def next_better(self) -> Alternative | None:
        """The alternative with the smallest gain in whole loss; None if none loses less."""
        better = [a for a in self.alternatives if a.change.loss < 0]
        return max(better, key=lambda a: a.change.loss, default=None)

    @property
    def next_faster(self) -> Alternative | None:
        """The slowest of the alternatives that take less time; of equals the least loss."""
        faster = [a for a in self.alternatives if a.seconds < self.seconds]
        return max(faster, key=lambda a: (a.seconds, -a.change.loss), default=None)

    def __str__(self) -> str:
        lines = [self._head()]
        for alternative in self.alternatives:
            lines.append(f"  {alternative.strategy}: {self.outcome(alternative)}")
            more = (self._flips(alternative), self._reduced_cost(alternative))
            lines += [f"    {words}" for words in more if words]
        if self.not_allowed:
            lines.append(f"  Not allowed: {', '.join(map(str, self.not_allowed))}.")
        if self.alternatives:
            faster, better = self.next_faster, self.next_better
            lines.append(
                f"  Next faster: {faster.strategy if faster else 'none'}. "
                f"Next with less loss: {better.strategy if better else 'none'}."
            )
        lines.append(self._foot())
        return "\n".join(lines)

    def _reduced_cost(self, alternative: Alternative) -> str:
        if alternative.priced is None:
            return ""
        cost = objective_unit(self._problem).text(alternative.priced, sign=True)
        return f"With limits and coverage at their prices: {cost}."

    def outcome(self, alternative: Alternative) -> str:
        """What an alternative would change, and whether it keeps the limits, in words."""
        return f"{self._effects(alternative)}; {_verdict(alternative)}."

    def _head(self) -> str:
        if self.strategy.is_skip:
            return f"{self.client!r} skips."
        time, whole = SECONDS.text(self.seconds), self._allocation.round_seconds
        words = f"{self.client!r} does {self.strategy} in {time}"
        if self.seconds >= whole:
            return f"{words} and sets the round time."
        return f"{words}, {SECONDS.text(whole - self.seconds)} before the round ends."

    def _foot(self) -> str:
        if not self.moved_with:
            return f"All this is about {self.client!r} alone, with every other client unchanged."
        more = ", ".join(repr(c) for c in self.moved_with[:3])
        rest = len(self.moved_with) - 3
        return (
            f"{self.client!r} moves with its group ({more}"
            f"{f' and {rest} more' if rest > 0 else ''}): times are the slowest's, losses their "
            "sum, and every other client is unchanged."
        )

    def _effects(self, alternative: Alternative) -> str:
        now, change = self._allocation, alternative.change
        parts = []
        for name, unit, value, by in (
            ("round time", SECONDS, now.round_seconds, change.round_seconds),
            ("loss", POINTS, now.loss, change.loss),
            ("objective", objective_unit(self._problem), now.objective, change.objective),
        ):
            if abs(by) > _UNCHANGED * abs(value):  # not NaN: there may be no objective
                parts.append(f"{name} {unit.text(value + by)} ({unit.text(by, sign=True)})")
        if change.switching_seconds:
            parts.append(f"switching {SECONDS.text(change.switching_seconds, sign=True)}")
        for budget, used in zip(self._problem.budgets, change.usage, strict=True):
            if used:
                unit = Unit.of(budget.resource)
                parts.append(f"{budget.resource} {unit.text(used, sign=True)}")
        return ", ".join(parts) or "nothing would change"

    def _flips(self, alternative: Alternative) -> str:
        flips, parts = alternative.flips, []
        if flips.tradeoff is not None:
            given = self._problem.tradeoff
            now = f"now {number(given)}; " if given is not None else ""
            side = "above" if alternative.change.loss < 0 else "below"
            value = number(flips.tradeoff)
            parts.append(f"a tradeoff of {value} s per unit of loss ({now}better {side})")
        for name, unit, flip, present in (
            ("an own time", SECONDS, flips.seconds, alternative.seconds),
            ("an own loss", POINTS, flips.loss, alternative.loss),
        ):
            if flip is not None:
                parts.append(f"{name} of {unit.text(flip)} (now {unit.text(present)})")
        if parts:
            return f"As good at {' or '.join(parts)}."
        if alternative.change.objective > 0:
            return "No tradeoff, time or loss of its own would by itself make it as good."
        return ""


def objective_unit(problem: AllocationProblem) -> Unit:
    """What the objective is measured in: seconds, or points where only the loss is minimised."""
    return POINTS if problem.has_goal and problem.time_weight == 0 else SECONDS


def _verdict(alternative: Alternative) -> str:
    if alternative.needed:
        return f"breaks {', '.join(_excess(use) for use in alternative.needed)}"
    if alternative.broken:
        return f"breaks a limit: {'; '.join(alternative.broken)}"
    return "keeps every limit"


def _excess(use: LimitUse) -> str:
    lack = "too little" if use.limit.kind.is_lower else "too much"
    return f"{use.limit} ({use}, {use.unit.text(-use.slack)} {lack})"
