"""From a trial's values to who does what: the policy says how, the allocator decides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ....allocator import (
    AllocationProblem,
    Answer,
    FastestWithin,
    Frontier,
    Solution,
    Solver,
    Status,
    fitted_loss,
    solve,
)
from ....allocator.default_rule import default_pick
from ....fl_core.settings import FederationSettings
from ...arms import make_solver
from ...config import AllocationSettings, RunConfig
from ..config.settings import LOSS, ROUND, TARGET, SearchConfig, digest_of
from ..config.space import BITS, Params, Range, changed, client_key, encoded
from ..record import digits
from .known import KnownFrontier, LeastObjective, PickKnown
from .offer import Offer, check_profile, offer_of
from .shelf import Shelf

_NOTHING: Params = {}
_DIGEST = 16
_MOST_KEPT = 64
"""Offers and frontiers that are kept: one for every menu, width of the wire, seed and limit."""
_MOST_CLIENTS = 1_000
"""Of a frontier that no sort finds and no solver needs: it takes half a minute."""
_PROFILED = ("menu", BITS, "model", "training.batch_size")
"""Keys that want other step times."""
_LIMITS = ("uplink_bytes", "energy_joules", "min_participation")
"""What a policy may limit beside deadline and loss, and what makes another frontier."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What a policy makes of a round.

    Args:
        problem: The program, with the policy's limits and goal.
        solution: Who does what; without an allocation where the policy leaves none.
        offer: What it was made of.
        excess: By how much the nearest allocation exceeds deadline and maximum loss, relative to
            them; 0 where there is an allocation, 1 where it is not known.
    """

    problem: AllocationProblem
    solution: Solution
    offer: Offer
    excess: float = 0.0

    @property
    def menu(self) -> tuple[str, ...]:
        """The strategies on offer."""
        return tuple(str(s) for s in self.problem.strategies)

    @property
    def clients(self) -> tuple[int, ...]:
        """Ids of the round's clients in the fleet, in the problem's order."""
        return self.offer.clients

    @property
    def bottleneck(self) -> int | None:
        """Id of the slowest client; None if all skip."""
        row = self.solution.allocation.bottleneck
        return None if row is None else self.clients[row]

    @property
    def choice(self) -> str:
        """What each client does, a digit each, into `menu`."""
        return digits(self.solution.allocation.choice.tolist())

    @property
    def measures(self) -> dict[str, float]:
        """Round time, predicted loss and known resources of the round.

        Raises:
            InfeasibleError: If the policy leaves no allocation.
            SolverError: If none was found.
        """
        return self.offer.measures(self.solution.allocation.choice)


@dataclass(frozen=True)
class Listed:
    """A solver that gives every client of the fleet what it is told; the known-bad control.

    Args:
        strategies: `(clients,)` as text, by a client's number in the fleet.
    """

    strategies: tuple[str, ...]

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem; of a cohort its clients' names are their numbers."""
        everybody = problem.num_clients == len(self.strategies)
        rows = range(problem.num_clients) if everybody else map(int, problem.clients)
        menu = [str(s) for s in problem.strategies]
        return Answer(Status.FEASIBLE, np.array([menu.index(self.strategies[i]) for i in rows]))


class Policies:
    """Plans the first round of policies; what they share is worked out once.

    In the model `solver = "fedhq"` and `"dual"` read a frontier that is computed once for all
    policies that change neither menu nor budgets, and `"exact"` does where one sort proves it.

    Args:
        config: Of the search.
        folder: The search's, where processes find each other's frontiers; None keeps them here.

    Raises:
        ValueError: If the configuration does not fit its data or profile, or an objective or limit
            is of something that is not known of the fleet.
    """

    def __init__(self, config: SearchConfig, folder: Path | None = None) -> None:
        self.config = config
        self._offers: dict[FederationSettings, Offer] = {}
        self._known: dict[tuple[object, ...], KnownFrontier] = {}
        self._keeps_frontiers = not any(
            isinstance(config.space.get(f"allocation.{name}"), Range) for name in _LIMITS
        )
        self._shelf = Shelf(folder if self._keeps_frontiers else None)
        self._check_measures()
        self._check_profiles()

    @cached_property
    def base(self) -> Offer:
        """The round of the first seed without a trial's values."""
        return self._laid_out({}, self.config.search.seeds[0])[0]

    @property
    def num_clients(self) -> int:
        """Of the fleet."""
        return self.base.num_clients

    def plan(self, params: Params, seed: int | None = None) -> Plan:
        """Who does what in the first round of a policy.

        Args:
            params: A trial's parameters, as Optuna has them; what is missing is the
                configuration's own.
            seed: Of the federation; the search's first where None.

        Raises:
            ValueError: If values break a rule, or the solver cannot express a term.
            SolverError: If a solver crashes.

        Example:
            >>> from ..config.settings import read_search_config
            >>> policies = Policies(read_search_config("demo"))
            >>> plans = [policies.plan({"allocation.pick_loss": p}) for p in (0.01, 0.3)]
            >>> plans[0].measures["round_seconds"] > plans[1].measures["round_seconds"]
            True
        """
        seed = self.config.search.seeds[0] if seed is None else seed
        offer, allocation, federation = self._laid_out(params, seed)
        problem = offer.limited(allocation)
        known = self._known_of(problem, allocation, federation)
        listed = listed_clients(params, self.num_clients)
        solver = listed or self._solver(problem, allocation, known, seed)
        solution = solve(problem, solver, explain_infeasible=False)
        if solution.status.has_allocation:
            return Plan(problem, solution, offer)
        excess = known.excess(problem) if isinstance(solver, PickKnown) else 1.0
        return Plan(problem, solution, offer, excess or 1.0)

    def frontier(self, params: Params = _NOTHING) -> Frontier | None:
        """The exact frontier that a policy chooses from, for the first seed.

        Args:
            params: Of the policy; the configuration's own where nothing is given.

        Returns:
            The frontier; None where no allocation keeps the limits, or where it takes longer than
            it is worth: beyond 1 000 clients, unless one sort finds it or `fedhq` picks from it.
        """
        offer, allocation, federation = self._laid_out(params, self.config.search.seeds[0])
        problem = offer.limited(allocation)
        known = self._known_of(problem, allocation, federation)
        is_needed = allocation.solver == "fedhq" or problem.num_clients <= _MOST_CLIENTS
        return known.within(problem) if is_needed or known.is_sorted else None

    def problem(self) -> AllocationProblem:
        """The program of the configuration's own policy, for the first seed."""
        offer, allocation, _ = self._laid_out({}, self.config.search.seeds[0])
        return offer.limited(allocation)

    def digest(self, params: Params) -> str:
        """Of the configuration with a trial's values, whatever its seed: names its folder."""
        table = changed(self.config.table, params)
        if (listed := listed_clients(params, self.num_clients)) is not None:
            table["clients"] = listed.strategies
        return digest_of(table)[:_DIGEST]

    def _laid_out(
        self, params: Params, seed: int
    ) -> tuple[Offer, AllocationSettings, FederationSettings | None]:
        read = self.config.with_values(params)
        if isinstance(read, AllocationSettings):
            assert self.config.problem is not None
            return Offer.of_table(self.config.problem.problem), read, None
        federation = replace(read.federation, seed=seed)
        if federation not in self._offers:
            _make_room(self._offers)
            self._offers[federation] = offer_of(federation)
        return self._offers[federation], read.allocation, federation

    def _known_of(
        self,
        problem: AllocationProblem,
        allocation: AllocationSettings,
        federation: FederationSettings | None,
    ) -> KnownFrontier:
        key = (federation, *(getattr(allocation, name) for name in _LIMITS))
        if key not in self._known:
            _make_room(self._known)
            self._known[key] = KnownFrontier.of(problem, self._shelf)
        return self._known[key]

    def _solver(
        self,
        problem: AllocationProblem,
        allocation: AllocationSettings,
        known: KnownFrontier,
        seed: int,
    ) -> Solver:
        if problem.switching_seconds is None:  # a frontier has no place for it
            if allocation.solver == "fedhq":
                if allocation.pick_loss is not None:
                    return PickKnown(FastestWithin(allocation.pick_loss), known)
                return PickKnown(default_pick(allocation.tradeoff, fitted_loss()), known)
            pays = self._keeps_frontiers and problem.num_clients <= _MOST_CLIENTS
            reads = {"dual": known.is_sorted or pays, "exact": known.is_sorted}
            if reads.get(allocation.solver) and problem.has_goal:
                goal = LeastObjective(problem.time_weight, problem.loss_weight)
                return PickKnown(goal, known, proves=True)
        return make_solver(allocation, seed)

    def _check_measures(self) -> None:
        search = self.config.search
        known = {ROUND, LOSS, *self.base.usage}
        if not self.config.is_modelled:
            known.add(TARGET)
        for place, names in (("objectives", search.objectives), ("limits", tuple(search.limits))):
            if missing := [name for name in names if name not in known]:
                raise ValueError(
                    f"search.{place}: {missing[0]} is not known of this fleet, only "
                    f"{', '.join(sorted(known))}. Give each device its active_watts (energy), a "
                    "table a budget of that name, or leave it out."
                )

    def _check_profiles(self) -> None:
        """Now, not in the trial that is the first to need a strategy that was never measured."""
        for key in _PROFILED:
            values = self.config.space.get(key)
            for value in () if values is None else values.all():
                read = self.config.with_values({key: encoded(value)})
                assert isinstance(read, RunConfig), "of a table these are no keys"
                try:
                    check_profile(read.federation)
                except ValueError as error:
                    raise ValueError(f"search.space.{key}: of {value!r}, {error}") from None


def listed_clients(params: Params, num_clients: int) -> Listed | None:
    """What a trial's categories of clients say; None if it has none."""
    if client_key(0) not in params:
        return None
    return Listed(tuple(params[client_key(i)] for i in range(num_clients)))


def _make_room(kept: dict[Any, Any]) -> None:
    """Lets the oldest go, in place."""
    if len(kept) >= _MOST_KEPT:
        del kept[next(iter(kept))]
