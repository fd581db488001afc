"""`HybridAllocator`: plan a round, observe what came of it; all that an FL code base needs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .adjust.model import TimeModel, quantile_seconds
from .arrays import FloatArray, IntArray, freeze
from .check_fleet import check_cohort, check_label_counts, check_menu, check_outcome
from .coverage import Coverage
from .data import FittedLoss, fitted_loss, separable_loss
from .goal import Goal, Outcome
from .hardware import HardwareTables
from .problem import AllocationProblem
from .relax import settle
from .solution import Allocation, Solver
from .solve import solve
from .strategy import Strategy, parse_menu, parse_strategy, teaches

__all__ = ["Goal", "HybridAllocator", "Outcome"]

_NAMED_CLIENTS = 5
_NEVER = -1  # place in the menu of what a client did that never took part


class HybridAllocator:
    """Decides, round by round, which client does what, and learns from what came of it.

    It never fails a round: if no allocation keeps every limit, limits are relaxed in the order of
    `relax.RELAXED_FIRST_TO_LAST` to the nearest feasible values; if the solver finds nothing even
    then, everybody does the fastest strategy that it is allowed. `note` says what was given up.

    Args:
        menu: The strategies on offer, as `Strategy` or text; those of `hardware`, in that order.
        hardware: Seconds, bytes, joules and feasibility of every strategy for the whole fleet;
            seconds may be NaN where they are unknown.
        deployed: A strategy with the bits that will be deployed, for instance `"qat-w2a2"`.
        solver: Who decides: an exact solver, a rule, or `FrontierPick`.
        num_examples: `(clients,)` examples of every client of the fleet.
        label_counts: `(clients, classes)`; None where labels are private: coverage then counts
            examples as of one class.
        goal: What is minimised and what every round must keep.
        carry: Share of a round's coverage that still counts in the next, in [0, 1).
        fitted: The loss model.
        device_classes: `(clients,)` names of classes of like devices, which learn from each other;
            one class where None.
        groups: `(clients,)` a name each, or None: those of one name must do the same.
        switching_seconds: Price of a client's change of strategy against the last round it took
            part in; counts where the goal has a time in its objective. To skip is free.
        explore: Standard errors by which the time of a strategy that a client did not try lately is
            taken to be shorter, so that it is tried at times. 0 plans with what is most likely, and
            repeats a run whose times are as predicted exactly; 1 tries what may well pay.
        learn: Whether the times are learned, with `TimeModel`; otherwise those of `hardware` stay.
        strict: Whether a round whose limits cannot be kept raises instead of relaxing them: for
            studies, where an answer to another question is worse than none.

    Raises:
        ValueError: If a table has a wrong shape, the menu is not that of `hardware`, `deployed`
            has no bits of the menu, a client or group has nothing allowed, energy is limited but
            not known, or a number is out of its range.

    Example:
        >>> from fedhq.allocator import DeviceProfile, HardwareOnly, StepProfile, analyse_hardware
        >>> menu = parse_menu(["ptq-w2a2", "qat-w2a2"])
        >>> profile = StepProfile("toy", 32, menu, np.array([.01, .02]), np.zeros(2), "by hand")
        >>> devices = [DeviceProfile("fast", 1, 1e6, 1e6), DeviceProfile("slow", 9, 1e6, 1e6)]
        >>> hardware = analyse_hardware(devices, [10, 10], profile, [0, 0], 0)
        >>> allocator = HybridAllocator(menu, hardware, "qat-w2a2", HardwareOnly(menu[1], menu[0]),
        ...                             num_examples=[100, 100])
        >>> [str(s) for s in map(allocator.plan(1).strategy, range(2))], allocator.note
        (['qat-w2a2', 'ptq-w2a2'], '')
    """

    def __init__(
        self,
        menu: Sequence[Strategy | str],
        hardware: HardwareTables,
        deployed: Strategy | str,
        solver: Solver,
        *,
        num_examples: ArrayLike,
        label_counts: ArrayLike | None = None,
        goal: Goal | None = None,
        carry: float = 0.0,
        fitted: FittedLoss | None = None,
        device_classes: Sequence[Hashable] | None = None,
        groups: Sequence[Hashable | None] | None = None,
        switching_seconds: float = 0.0,
        explore: float = 0.0,
        learn: bool = True,
        strict: bool = False,
    ) -> None:
        shape = hardware.seconds.shape
        self.menu = parse_menu(menu)
        self.hardware = hardware
        self.deployed = parse_strategy(deployed)
        check_menu(self.menu, hardware, self.deployed)
        self.solver = solver
        self.goal = goal or Goal()
        self.fitted = fitted or fitted_loss()
        self.num_examples = freeze("num_examples", num_examples, shape[:1])
        self.label_counts = check_label_counts(label_counts, self.num_examples)
        self._population: FloatArray = self.label_counts.sum(axis=0)
        if not 0 <= carry < 1:
            raise ValueError(f"`0 <= carry < 1` must hold, but got {carry}.")
        self.time_model = TimeModel(self.menu, hardware.seconds, device_classes)
        # Raises now, not in some round, if groups, counts, budgets or masks cannot be.
        zeros = np.zeros(shape)
        whole = AllocationProblem(
            self.menu,
            zeros,
            zeros,
            allowed=hardware.allowed,
            groups=groups,
            counts=self.goal.counts,
            budgets=self.goal.budgets(hardware, np.arange(shape[0])),
        )
        self._groups = whole.groups
        self._switching_price = float(freeze("switching_seconds", switching_seconds, ()))
        self._explore = float(freeze("explore", explore, ()))
        self._learns, self._strict, self._carry = learn, strict, carry
        self._carried: FloatArray = np.zeros(self.label_counts.shape[1])
        self._last: IntArray = np.full(shape[0], _NEVER, dtype=np.int64)
        self._planned: tuple[tuple[object, ...], Solver, Allocation, str] | None = None
        self._fresh = self.state_dict()

    @property
    def note(self) -> str:
        """What the last plan gave up, in words; empty if nothing."""
        return "" if self._planned is None else self._planned[3]

    def problem(self, cohort: Sequence[int] | None = None) -> AllocationProblem:
        """The program of the next round.

        Args:
            cohort: The clients that are there, by their number in the fleet; all where None.

        Raises:
            ValueError: If the cohort is empty, names a client twice or one that does not exist, or,
                with `strict`, holds no example at all.
        """
        rows = check_cohort(cohort, len(self.num_examples))
        goal = self.goal
        examples, population = self._examples(rows), self._population
        return AllocationProblem(
            self.menu,
            self._seconds(rows),
            separable_loss(self.menu, examples / examples.sum(), self.fitted),
            goal.tradeoff,
            deadline_seconds=goal.deadline_seconds,
            max_loss=goal.max_loss,
            allowed=self.hardware.allowed[rows],
            budgets=goal.budgets(self.hardware, rows),
            coverage=Coverage(
                self.label_counts[rows],
                teaches(self.menu, self.deployed),
                self.fitted.loss_curve,
                population=population if population.any() else np.ones(len(population)),
                carried=self._carried,
            ),
            num_examples=examples,
            min_participation=goal.min_participation,
            switching_seconds=self._switching(rows),
            counts=goal.counts,
            groups=None if self._groups is None else [self._groups[i] for i in rows],
            clients=[str(i) for i in rows],
        )

    def plan(self, round_number: int, cohort: Sequence[int] | None = None) -> Allocation:
        """Decides what every client of the cohort does in a round.

        Args:
            round_number: The round, counted from 1; part of the call for solvers to come.
            cohort: The clients that are there; all where None.

        Returns:
            The allocation, in the cohort's order.

        Raises:
            InfeasibleError: With `strict`, if the limits cannot be kept.
            SolverError: With `strict`, if the solver found nothing in its own limits.
            ValueError: If the cohort is impossible (see `problem`), or the solver cannot express a
                term of the problem.
        """
        problem = self.problem(cohort)
        tables = (problem.seconds, problem.switching_seconds, self._carried)
        arrays = (None if t is None else t.tobytes() for t in tables)
        state = (problem.clients, self.goal, repr(self.solver), *arrays)
        planned = self._planned
        if planned is None or planned[0] != state or planned[1] is not self.solver:
            self._planned = None  # no note of another round, should this one raise
            self._planned = planned = (state, self.solver, *self._decide(problem))
        return planned[2]

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """Takes in what a round's clients really did; their order does not matter.

        Their times are learned, their strategies remembered, and their coverage carries over,
        decayed.

        Raises:
            ValueError: If an outcome's client is not of the fleet or its strategy not in the menu.
        """
        for outcome in outcomes:
            check_outcome(outcome, self.menu, len(self.num_examples))
        ordered = sorted(outcomes, key=lambda o: (o.client, self.menu.index(o.strategy)))
        for outcome in ordered:
            if not outcome.strategy.is_skip:
                self._last[outcome.client] = self.menu.index(outcome.strategy)
        if self._learns:
            self.time_model.observe(ordered)
        if self._carry:
            self._carry_over(ordered)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep, ready for JSON."""
        known = np.flatnonzero(self._last != _NEVER)
        return {
            "carried": self._carried.tolist(),
            "menu": [str(s) for s in self.menu],
            "num_clients": len(self._last),
            "last": [known.tolist(), self._last[known].tolist()],
            "times": self.time_model.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a saved state; of one of an older version, what it holds.

        Raises:
            ValueError: If it is no such state, or belongs to another fleet, menu or label set.
        """
        if "carried" not in state:
            raise ValueError(
                "a state must hold `carried` (see `state_dict`), but this one holds only "
                f"{sorted(state)}. Load it into what saved it."
            )
        full = {**self._fresh, **state}
        if any(full[name] != self._fresh[name] for name in ("menu", "num_clients")):
            raise ValueError(
                f"a state must be of {len(self._last)} clients and the menu "
                f"{self._fresh['menu']}, but is of {full['num_clients']} and {full['menu']}. "
                "Load it into what saved it."
            )
        last = np.full_like(self._last, _NEVER)
        clients, columns = full["last"]
        last[clients] = columns
        carried = freeze("carried", full["carried"], self._carried.shape)
        self.time_model.load_state_dict(full["times"])
        self._carried, self._last = carried, last

    def _decide(self, problem: AllocationProblem) -> tuple[Allocation, str]:
        if self._strict:
            return solve(problem, self.solver).allocation, ""
        allocation, note = settle(problem, self.solver)
        rows = [int(name) for name in problem.clients]
        if not self.num_examples[rows].any():
            note = f"No client of the cohort holds an example: all count alike. {note}".strip()
        return allocation, note

    def _examples(self, rows: IntArray) -> FloatArray:
        """`(cohort,)` examples; those of a cohort without any count alike, unless strict."""
        examples = self.num_examples[rows]
        if examples.any():
            return examples
        if self._strict:
            raise ValueError(
                "a cohort must hold at least one example, but its clients "
                f"{rows[:_NAMED_CLIENTS].tolist()} ({len(rows)} in all) hold none. "
                "Add a client that has data, or leave the round out."
            )
        return np.ones(len(rows))

    def _seconds(self, rows: IntArray) -> FloatArray:
        """`(cohort, strategies)` the times to plan with."""
        times = self.time_model.predict(rows)
        seconds = times.seconds * np.exp(-self._explore * times.log_error)
        if (holds_with := self.goal.holds_with) is None:
            return seconds
        return quantile_seconds(seconds, times.log_spread, holds_with, len(rows))

    def _switching(self, rows: IntArray) -> FloatArray | None:
        """`(cohort, strategies)` the price of a change; None where it cannot count."""
        if not self._switching_price or not self.goal.counts_time:
            return None
        last = self._last[rows][:, None]
        takes_part = np.array([not s.is_skip for s in self.menu])
        changes = (last != _NEVER) & (np.arange(len(self.menu)) != last) & takes_part
        return np.where(changes, self._switching_price, 0.0)

    def _carry_over(self, outcomes: Sequence[Outcome]) -> None:
        level = dict(zip(self.menu, teaches(self.menu, self.deployed), strict=True))
        population = self._population
        taught = np.zeros(len(population))
        for outcome in outcomes:
            if outcome.succeeded:
                taught += level[outcome.strategy] * self.label_counts[outcome.client]
        self._carried = self._carry * (self._carried + taught / np.maximum(population, 1.0))
