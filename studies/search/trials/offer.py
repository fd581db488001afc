"""What the clients of a round can do and what it costs, before a policy says what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ....allocator import AllocationProblem, Budget, parse_menu
from ....allocator.arrays import FloatArray, IntArray
from ....fl_core.settings import FederationSettings
from ...config import AllocationSettings, RunConfig

if TYPE_CHECKING:
    from ....fl_core.federation import Federation

UPLINK, ENERGY = "uplink_bytes", "energy_joules"


@dataclass(frozen=True, eq=False)
class Offer:
    """A round before the policy: its clients, their tables, and what can be measured of it.

    Args:
        problem: Without a policy's limits and goal; of a table of clients with its own.
        usage: By resource, `(clients, strategies)` what each choice takes; what is not known of
            every client is missing.
        num_clients: Of the whole fleet.
        clients: `(clients,)` ids in the fleet of those that the tables are about, rising.
    """

    problem: AllocationProblem
    usage: Mapping[str, FloatArray]
    num_clients: int
    clients: tuple[int, ...]

    @classmethod
    def of_table(cls, problem: AllocationProblem) -> Offer:
        """Of a table of clients, whose budgets are what is measured."""
        usage, count = {b.resource: b.usage for b in problem.budgets}, problem.num_clients
        return cls(problem, usage, count, tuple(range(count)))

    def limited(self, settings: AllocationSettings) -> AllocationProblem:
        """The program of a policy: its goal, and limits in place of the problem's own.

        Raises:
            ValueError: If a resource is limited of which the use is not known.
        """
        own = self.problem
        budgets = {b.resource: b for b in own.budgets}
        for name, limit in ((UPLINK, settings.uplink_bytes), (ENERGY, settings.energy_joules)):
            if limit is not None:
                budgets[name] = Budget(name, self._usage(name), limit)
        return replace(
            own,
            budgets=tuple(budgets.values()),
            tradeoff=_first(settings.tradeoff, own.tradeoff),
            deadline_seconds=_first(settings.deadline_seconds, own.deadline_seconds),
            max_loss=_first(settings.max_loss, own.max_loss),
            min_participation=_first(settings.min_participation, own.min_participation) or 0.0,
        )

    def _usage(self, name: str) -> FloatArray:
        if name not in self.usage:
            raise ValueError(
                f"allocation.{name}: the {name} of every choice must be known to be limited, but "
                f"there are only {', '.join(self.usage) or 'none'}. Give each device its "
                "active_watts (energy), a table a budget of that name, or leave it out."
            )
        return self.usage[name]

    def measures(self, choice: IntArray) -> dict[str, float]:
        """What a choice takes: round time, predicted loss, and the known resources."""
        rows = np.arange(len(choice))
        return {
            "round_seconds": self.problem.round_seconds(choice),
            "accuracy_loss": self.problem.total_loss(choice),
            **{name: float(table[rows, choice].sum()) for name, table in self.usage.items()},
        }


def _first(wanted: float | None, own: float | None) -> float | None:
    return own if wanted is None else wanted


def offer_of(settings: FederationSettings) -> Offer:
    """The first round of a federation: all clients with data that are online, or its cohort.

    Raises:
        ValueError: If the settings do not fit together, or a profile lacks a strategy.
    """
    from ....fl_core.federation import Federation
    from ...arms import make_allocator

    federation = Federation.build(settings)
    allocator = make_allocator(RunConfig(settings, AllocationSettings()), federation)
    cohort = first_cohort(federation)
    hardware = federation.hardware
    usage = {UPLINK: hardware.uplink_bytes[cohort]}
    joules = hardware.energy_joules
    if joules is not None and not np.isnan(joules[cohort]).any():
        usage[ENERGY] = joules[cohort]
    ids = cohort.tolist()
    return Offer(allocator.problem(ids), usage, len(federation.clients), tuple(ids))


def first_cohort(federation: Federation) -> IntArray:
    """`(cohort,)` who is asked in the first round.

    Where a cohort is drawn by availability, as if all who are there stayed as long.
    """
    from ....fl_core.rounds.cohort import sample_cohort

    holders = np.flatnonzero(federation.num_examples > 0)
    start = federation.fleet.next_available(0.0, holders)
    if np.isinf(start):
        return holders  # a run says what is wrong
    ready = holders[federation.fleet.available(start)[holders]]
    settings = federation.participation
    by_examples = settings.sampling == "examples"
    weights = federation.num_examples[ready].astype(np.float64) if by_examples else None
    return sample_cohort(settings, 1, federation.seed, ready, weights, len(federation.clients))


def check_profile(settings: FederationSettings) -> None:
    """Raises a `ValueError` unless the settings' step profile has all strategies of their menu."""
    from ....fl_core.data.registry import load_dataset
    from ....fl_core.profiling import find_profile

    profile = find_profile(settings, load_dataset(settings.data.name))
    profile.select(parse_menu(settings.menu))
