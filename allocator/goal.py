"""What a round must keep, and what its clients did: the two values that `HybridAllocator` takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import FloatArray, IntArray, freeze
from .hardware import HardwareTables
from .recency import check_rounds
from .strategy import Strategy
from .terms import Budget, Count


@dataclass(frozen=True)
class Outcome:
    """What one client of a round did.

    Args:
        client: Its number in the fleet.
        strategy: What it was told to do.
        seconds: How long the round took it; of one that did not succeed, how long it was waited
            for. None where that is not known.
        succeeded: Whether its update arrived and was used.

    Raises:
        ValueError: If the client is negative, or the seconds are negative or not finite.

    Example:
        >>> late = Outcome(3, Strategy.parse("qat-w2a2"), 60.0, succeeded=False)
        >>> silent = Outcome(4, Strategy.parse("qat-w2a2"), None, succeeded=False)
    """

    client: int
    strategy: Strategy
    seconds: float | None
    succeeded: bool

    def __post_init__(self) -> None:
        if self.client < 0:
            raise ValueError(f"`client >= 0` must hold for an outcome, but got {self.client}.")
        if self.seconds is not None:
            freeze("seconds", self.seconds, ())


@dataclass(frozen=True)
class ServerAccuracy:
    """How good the server's weights are after a round, on examples of the server's own.

    No client and no test should have these. The trainer takes the very examples that the deployed
    model's ranges are calibrated on: its deployed accuracy flatters, and its gap is too small, if
    anything.

    Args:
        deployed: Accuracy of the quantized model that would be shipped, in [0, 1].
        in_float: Accuracy of the float model with the same weights, on the same examples.
        num_examples: How many these are.

    Raises:
        ValueError: If an accuracy is not in [0, 1], or there is no example.

    Example:
        >>> round(ServerAccuracy(deployed=0.81, in_float=0.9, num_examples=100).gap, 6)
        0.09
    """

    deployed: float
    in_float: float
    num_examples: int

    def __post_init__(self) -> None:
        if not (0 <= self.deployed <= 1 and 0 <= self.in_float <= 1):
            raise ValueError(
                "`0 <= deployed <= 1` and `0 <= in_float <= 1` must hold (accuracies), but got "
                f"{self.deployed} and {self.in_float}. Give fractions, not percent."
            )
        if self.num_examples < 1:
            raise ValueError(
                f"`num_examples >= 1` must hold, but got {self.num_examples}. Leave the accuracy "
                "out of a round that was not evaluated."
            )

    @property
    def gap(self) -> float:
        """What quantization takes from these weights; noise may make it negative."""
        return self.in_float - self.deployed

    @property
    def gap_variance(self) -> float:
        """Of the gap, for the examples' being few.

        Half of what two accuracies on different examples would have, and with one example more of
        each kind, so that it is never 0: both models err on the same examples. Half is what
        `studies.gaps` measured.
        """
        right = np.array([self.deployed, self.in_float]) * self.num_examples + 1
        share = right / (self.num_examples + 2)
        return float((share * (1 - share)).sum() / (2 * self.num_examples))


@dataclass(frozen=True)
class Goal:
    """What a round must keep, and what is minimised; see `AllocationProblem`.

    Args:
        tradeoff: Seconds per unit of loss.
        deadline_seconds: Upper limit of the round time.
        max_loss: Upper limit of the predicted loss.
        uplink_bytes: Upper limit of what a round's clients send together.
        min_participation: Least share of the cohort's examples that must not skip.
        counts: How many clients must or may do some strategies.
        holds_with: Probability with which the round keeps its planned time: every client is
            planned with a quantile of its time (see `quantile_seconds`) instead of the typical one,
            which half of its rounds exceed. The typical one where None.
        energy_joules: Upper limit of what a round's clients need together to train.
        total_seconds: Upper limit of what all rounds take together; given `rounds`, a schedule (see
            `plan_schedule`) says how long each may be, from what is left of both, and the loss is
            minimised within. All limits beside it hold in every round; a price of switching and
            `carry` (see `HybridAllocator`) do not count, the default rule gives up no loss for
            speed, and the loss of a plan is that in the end (see `pacing.pace`).
        rounds: How many there will be; given with a total time or a finish.
        finish: Share of the rounds, the last whole ones of it and at least one, that give nothing
            up for speed: they are the fastest of the least predicted loss, whoever decides in the
            others, within all other limits but a tradeoff. What the last rounds teach lasts, and
            mends what faster rounds left out: where it does, `default_rule` hurries before. 0 has
            none; a quarter is what `fedhq study headline` judges.

    Raises:
        ValueError: If `0 < holds_with < 1` or `0 <= finish <= 1` does not hold, `rounds` lacks or
            has nothing to count for, or a total time is given with a tradeoff, a maximum loss or a
            finish.

    Example:
        >>> goal = Goal(rounds=20, finish=0.25)
        >>> [t for t in range(1, 21) if goal.is_finish(t)]
        [16, 17, 18, 19, 20]
    """

    tradeoff: float | None = None
    deadline_seconds: float | None = None
    max_loss: float | None = None
    uplink_bytes: float | None = None
    min_participation: float | None = None
    counts: Sequence[Count] = ()
    holds_with: float | None = None
    energy_joules: float | None = None
    total_seconds: float | None = None
    rounds: int | None = None
    finish: float = 0.0

    def __post_init__(self) -> None:
        if self.holds_with is not None and not 0 < self.holds_with < 1:
            raise ValueError(
                f"`0 < holds_with < 1` must hold (a probability), but got {self.holds_with}."
            )
        if not 0 <= self.finish <= 1:
            raise ValueError(
                f"`0 <= finish <= 1` must hold (a share of the rounds), but got {self.finish}."
            )
        self._check_rounds()
        self._check_total()

    def _check_rounds(self) -> None:
        is_needed = self.total_seconds is not None or self.finish > 0
        if is_needed != (self.rounds is not None):
            raise ValueError(
                "`rounds` must be given with `total_seconds` or `finish`, and only then, but got "
                f"rounds={self.rounds}, total_seconds={self.total_seconds}, finish={self.finish:g}."
            )
        if self.rounds is not None:
            check_rounds(self.rounds)

    def _check_total(self) -> None:
        if self.total_seconds is None:
            return
        freeze("total_seconds", self.total_seconds, ())
        if self.finish:
            raise ValueError(
                f"`total_seconds` = {self.total_seconds:g} says how long each round may be, and so "
                f"does `finish` = {self.finish:g}. Leave one out."
            )
        if self.tradeoff is not None:
            raise ValueError(
                f"`total_seconds` = {self.total_seconds:g} and `tradeoff` = {self.tradeoff:g} both "
                "say what time is worth, but one must. Leave one out."
            )
        if self.max_loss is not None:
            raise ValueError(
                f"`max_loss` = {self.max_loss:g} is of one round, which a `total_seconds` = "
                f"{self.total_seconds:g} does not look at alone: early rounds may teach nothing. "
                "Leave one out; `fastest_schedule` finds the least time within a loss."
            )

    def is_finish(self, round_number: int) -> bool:
        """Whether a round, counted from 1, gives nothing up for speed; see `finish`."""
        last = self.finish_rounds
        return last > 0 and round_number > (self.rounds or 0) - last

    @property
    def finish_rounds(self) -> int:
        """How many rounds the finish has."""
        if self.finish == 0 or self.rounds is None:
            return 0
        return max(1, int(self.finish * self.rounds + 1e-9))

    @property
    def counts_time(self) -> bool:
        """Whether the round time is part of what is minimised."""
        if self.total_seconds is not None:
            return False
        only_loss_limited = self.max_loss is not None and self.deadline_seconds is None
        return self.tradeoff is not None or only_loss_limited

    def budgets(self, hardware: HardwareTables, clients: IntArray) -> list[Budget]:
        """The fleet-wide limits on what a round's clients send and use.

        Args:
            hardware: Of the whole fleet.
            clients: `(cohort,)` numbers in it.

        Raises:
            ValueError: If energy is limited, but that of a client is not known.
        """
        budgets = []
        if self.uplink_bytes is not None:
            usage = hardware.uplink_bytes[clients]
            budgets.append(Budget("uplink_bytes", usage, self.uplink_bytes))
        if self.energy_joules is not None:
            usage = _known_energy(hardware, clients)
            budgets.append(Budget("energy_joules", usage, self.energy_joules))
        return budgets


def _known_energy(hardware: HardwareTables, clients: IntArray) -> FloatArray:
    """`(cohort, strategies)` the joules of all choices; what is not known cannot be limited."""
    usage = hardware.joules[clients]
    unknown = np.flatnonzero(np.isnan(usage).any(axis=1))
    if len(unknown):
        raise ValueError(
            "`energy_joules` of a goal needs `hardware.energy_joules` of every client, but that of "
            f"client {clients[unknown[0]]} ({len(unknown)} in all) is not known. Give each device "
            "its `active_watts`, or limit no energy."
        )
    return usage
