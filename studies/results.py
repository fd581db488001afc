"""What runs gave: read from their records, summarised by scenario and arm, printed as a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..allocator.arrays import FloatArray
from ..fl_core.records.recorder import read_clients, read_rounds
from ..fl_core.records.records import ClientRecord, RoundRecord


@dataclass(frozen=True)
class RunResult:
    """The records of one run.

    Args:
        scenario: Its scenario.
        arm: Its arm.
        seed: Its seed.
        rounds: One record a round, in order.
        clients: One record a client and round, in order.
    """

    scenario: str
    arm: str
    seed: int
    rounds: tuple[RoundRecord, ...]
    clients: tuple[ClientRecord, ...]

    @classmethod
    def read(cls, folder: Path, scenario: str, arm: str, seed: int) -> RunResult:
        """Reads a run's folder."""
        rounds, clients = tuple(read_rounds(folder)), tuple(read_clients(folder))
        return cls(scenario, arm, seed, rounds, clients)

    @property
    def deployed_accuracy(self) -> float:
        """Deployed accuracy after the last round."""
        value = self.rounds[-1].deployed_accuracy
        assert value is not None, "the last round is always evaluated"
        return value

    @property
    def seconds_per_round(self) -> float:
        """Mean simulated time of a round."""
        return self.rounds[-1].simulated_seconds / len(self.rounds)

    @property
    def uplink_bytes(self) -> int:
        """Bytes that all clients sent in all rounds."""
        return sum(r.uplink_bytes for r in self.rounds)

    def seconds_to(self, target_accuracy: float) -> float | None:
        """Simulated time at which the deployed accuracy first reached the target, if it did."""
        for record in self.rounds:
            if record.deployed_accuracy is not None and record.deployed_accuracy >= target_accuracy:
                return record.simulated_seconds
        return None


@dataclass(frozen=True, eq=False)
class FrontierView:
    """A frontier with the point that was chosen.

    Args:
        scenario: Where it holds.
        seed: Of the federation.
        round_seconds: `(points,)` rising.
        loss: `(points,)` falling.
        chosen: Index of the chosen point.
    """

    scenario: str
    seed: int
    round_seconds: FloatArray
    loss: FloatArray
    chosen: int


@dataclass(frozen=True)
class Comparison:
    """All runs of a comparison.

    Args:
        name: Its name.
        target_accuracy: Deployed accuracy whose first time is reported.
        scenarios: Names, in order.
        arms: Names, in order.
        results: All finished runs.
        frontiers: The first seed's, one a scenario with a fedhq arm.
        command: What reproduces it; empty where it was not run from the command line.
    """

    name: str
    target_accuracy: float
    scenarios: tuple[str, ...]
    arms: tuple[str, ...]
    results: tuple[RunResult, ...]
    frontiers: tuple[FrontierView, ...]
    command: str = ""

    def of(self, scenario: str, arm: str) -> tuple[RunResult, ...]:
        """The runs of an arm in a scenario, by seed."""
        mine = [r for r in self.results if (r.scenario, r.arm) == (scenario, arm)]
        return tuple(sorted(mine, key=lambda r: r.seed))


@dataclass(frozen=True)
class Row:
    """An arm's summary in a scenario, over its seeds.

    Args:
        scenario: The scenario.
        arm: The arm.
        seeds: How many.
        accuracy: Mean deployed accuracy after the last round.
        accuracy_spread: Its standard deviation over seeds; None for one seed.
        seconds_per_round: Mean simulated time of a round.
        seconds_to_target: Mean over the seeds that reached the target; None if none did.
        reached: How many seeds reached the target.
        uplink_bytes: Mean bytes sent by all clients in all rounds.
    """

    scenario: str
    arm: str
    seeds: int
    accuracy: float
    accuracy_spread: float | None
    seconds_per_round: float
    seconds_to_target: float | None
    reached: int
    uplink_bytes: float


def summarise(comparison: Comparison) -> tuple[Row, ...]:
    """One row an arm and scenario that has finished runs."""
    rows = []
    for scenario in comparison.scenarios:
        for arm in comparison.arms:
            runs = comparison.of(scenario, arm)
            if runs:
                rows.append(_row(runs, comparison.target_accuracy))
    return tuple(rows)


def _row(runs: Sequence[RunResult], target_accuracy: float) -> Row:
    accuracy = [r.deployed_accuracy for r in runs]
    times = [t for t in (r.seconds_to(target_accuracy) for r in runs) if t is not None]
    return Row(
        scenario=runs[0].scenario,
        arm=runs[0].arm,
        seeds=len(runs),
        accuracy=statistics.fmean(accuracy),
        accuracy_spread=statistics.stdev(accuracy) if len(runs) > 1 else None,
        seconds_per_round=statistics.fmean(r.seconds_per_round for r in runs),
        seconds_to_target=statistics.fmean(times) if times else None,
        reached=len(times),
        uplink_bytes=statistics.fmean(r.uplink_bytes for r in runs),
    )


def cells(row: Row) -> tuple[str, ...]:
    """A row as text: arm, accuracy, seconds a round, seconds to target, megabytes up."""
    accuracy = f"{row.accuracy:.3f}"
    if row.accuracy_spread is not None:
        accuracy += f" ± {row.accuracy_spread:.3f}"
    if row.seconds_to_target is None:
        target = "not reached"
    else:
        target = f"{row.seconds_to_target:.1f}"
        if row.reached < row.seeds:
            target += f" ({row.reached} of {row.seeds} seeds)"
    return (
        row.arm,
        accuracy,
        f"{row.seconds_per_round:.2f}",
        target,
        f"{row.uplink_bytes / 1e6:.2f}",
    )


def headings(target_accuracy: float) -> tuple[str, ...]:
    """The headings of `cells`."""
    return (
        "arm",
        "deployed accuracy",
        "simulated s / round",
        f"simulated s to {target_accuracy:g}",
        "MB up",
    )
