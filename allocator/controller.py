"""`HybridAllocator`: plan a round, observe what came of it; all that an FL code base needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .arrays import FloatArray, freeze, freeze_counts
from .coverage import Coverage
from .data import FittedLoss, fitted_loss, separable_loss
from .hardware import HardwareTables
from .problem import AllocationProblem
from .solution import Allocation, Solver
from .solve import solve
from .strategy import Method, Strategy, parse_menu, parse_strategy, teaches
from .terms import Budget

_NAMED_CLIENTS = 5


@dataclass(frozen=True)
class Outcome:
    """What one client of a round did.

    Args:
        client: Its number in the fleet.
        strategy: What it was told to do.
        seconds: How long the round took it.
        succeeded: Whether its update arrived and was used.

    Raises:
        ValueError: If the client is negative, or the seconds are negative or not finite.
    """

    client: int
    strategy: Strategy
    seconds: float
    succeeded: bool

    def __post_init__(self) -> None:
        if self.client < 0:
            raise ValueError(f"`client >= 0` must hold for an outcome, but got {self.client}.")
        freeze("seconds", self.seconds, ())


@dataclass(frozen=True)
class Goal:
    """What a round must keep, and what is minimised; see `AllocationProblem`.

    Args:
        tradeoff: Seconds per unit of loss.
        deadline_seconds: Upper limit of the round time.
        max_loss: Upper limit of the predicted loss.
        uplink_bytes: Upper limit of what a round's clients send together.
        min_participation: Least share of the cohort's examples that must not skip.
    """

    tradeoff: float | None = None
    deadline_seconds: float | None = None
    max_loss: float | None = None
    uplink_bytes: float | None = None
    min_participation: float | None = None


class HybridAllocator:
    """Decides, round by round, which client does what.

    Args:
        menu: The strategies on offer, as `Strategy` or text; those of `hardware`, in that order.
        hardware: Seconds, bytes and feasibility of every strategy for the whole fleet.
        deployed: A strategy with the bits that will be deployed, for instance `"qat-w2a2"`.
        solver: Who decides: an exact solver, a rule, or `FrontierPick`.
        num_examples: `(clients,)` examples of every client of the fleet.
        label_counts: `(clients, classes)`; None where labels are private: coverage then counts
            examples as of one class.
        goal: What is minimised and what every round must keep.
        carry: Share of a round's coverage that still counts in the next, in [0, 1).
        fitted: The loss model.

    Raises:
        ValueError: If a table has a wrong shape, the menu is not that of `hardware`, or `deployed`
            has no bits of the menu.

    Example:
        >>> from fedhq.allocator import DeviceProfile, HardwareOnly, StepProfile, analyse_hardware
        >>> menu = parse_menu(["ptq-w2a2", "qat-w2a2"])
        >>> profile = StepProfile("toy", 32, menu, np.array([.01, .02]), np.zeros(2), "by hand")
        >>> devices = [DeviceProfile("fast", 1, 1e6, 1e6), DeviceProfile("slow", 9, 1e6, 1e6)]
        >>> hardware = analyse_hardware(devices, [10, 10], profile, [0, 0], 0)
        >>> allocator = HybridAllocator(menu, hardware, "qat-w2a2", HardwareOnly(menu[1], menu[0]),
        ...                             num_examples=[100, 100])
        >>> [str(s) for s in map(allocator.plan(1).strategy, range(2))]
        ['qat-w2a2', 'ptq-w2a2']
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
    ) -> None:
        num_clients = hardware.seconds.shape[0]
        self.menu = parse_menu(menu)
        self.hardware = hardware
        self.deployed = parse_strategy(deployed)
        _check_menu(self.menu, hardware, self.deployed)
        self.solver = solver
        self.goal = goal or Goal()
        self.fitted = fitted or fitted_loss()
        self.num_examples = freeze("num_examples", num_examples, (num_clients,))
        counts = self.num_examples[:, None] if label_counts is None else label_counts
        self.label_counts = freeze_counts(counts)
        if len(self.label_counts) != num_clients:
            raise ValueError(
                f"`label_counts` must have {num_clients} clients, but has {len(self.label_counts)}."
            )
        if not 0 <= carry < 1:
            raise ValueError(f"`0 <= carry < 1` must hold, but got {carry}.")
        self._carry = carry
        self._carried: FloatArray = np.zeros(self.label_counts.shape[1])
        self._planned: tuple[tuple[tuple[int, ...], bytes], Allocation] | None = None

    def problem(self, cohort: Sequence[int] | None = None) -> AllocationProblem:
        """The program of the next round.

        Args:
            cohort: The clients that are there, by their number in the fleet; all where None.

        Raises:
            ValueError: If the cohort is empty, names a client twice or one that does not exist, or
                holds no example at all.
        """
        rows = np.array(self._checked(cohort))
        goal = self.goal
        budgets = []
        if goal.uplink_bytes is not None:
            usage = self.hardware.uplink_bytes[rows]
            budgets.append(Budget("uplink_bytes", usage, goal.uplink_bytes))
        examples = self.num_examples[rows]
        if not examples.any():
            raise ValueError(
                "a cohort must hold at least one example, but its clients "
                f"{rows[:_NAMED_CLIENTS].tolist()} ({len(rows)} in all) hold none. "
                "Add a client that has data, or leave the round out."
            )
        return AllocationProblem(
            self.menu,
            self.hardware.seconds[rows],
            separable_loss(self.menu, examples / examples.sum(), self.fitted),
            goal.tradeoff,
            deadline_seconds=goal.deadline_seconds,
            max_loss=goal.max_loss,
            allowed=self.hardware.allowed[rows],
            budgets=budgets,
            coverage=Coverage(
                self.label_counts[rows],
                teaches(self.menu, self.deployed),
                self.fitted.loss_curve,
                population=self.label_counts.sum(axis=0),
                carried=self._carried,
            ),
            num_examples=examples,
            min_participation=goal.min_participation,
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
            InfeasibleError: If the limits cannot be kept.
            SolverError: If the solver found nothing in its own limits.
        """
        state = (self._checked(cohort), self._carried.tobytes())
        if self._planned is None or self._planned[0] != state:
            self._planned = (state, solve(self.problem(cohort), self.solver).allocation)
        return self._planned[1]

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """Takes in what a round's clients really did: their coverage carries over, decayed.

        Raises:
            ValueError: If an outcome's client is not of the fleet or its strategy not in the menu.
        """
        for outcome in outcomes:
            self._check_outcome(outcome)
        if not self._carry:
            return
        level = dict(zip(self.menu, teaches(self.menu, self.deployed), strict=True))
        population = self.label_counts.sum(axis=0)
        taught = np.zeros(len(population))
        for outcome in outcomes:
            if outcome.succeeded:
                taught += level[outcome.strategy] * self.label_counts[outcome.client]
        self._carried = self._carry * (self._carried + taught / np.maximum(population, 1.0))

    def state_dict(self) -> dict[str, list[float]]:
        """What a checkpoint must keep, ready for JSON."""
        return {"carried": [float(v) for v in self._carried]}

    def load_state_dict(self, state: Mapping[str, Sequence[float]]) -> None:
        """Takes up a saved state.

        Raises:
            ValueError: If it is no such state, or belongs to a fleet with other classes.
        """
        if "carried" not in state:
            raise ValueError(
                "a state must hold `carried` (see `state_dict`), but this one holds only "
                f"{sorted(state)}. Load it into what saved it."
            )
        self._carried = freeze("carried", state["carried"], self._carried.shape)

    def _check_outcome(self, outcome: Outcome) -> None:
        if outcome.client >= len(self.num_examples):
            raise ValueError(
                f"an outcome's `client` must be in 0 ... {len(self.num_examples) - 1}, "
                f"but got {outcome.client}."
            )
        if outcome.strategy not in self.menu:
            raise ValueError(
                f"an outcome's `strategy` must be in the menu {[str(s) for s in self.menu]}, "
                f"but client {outcome.client} did {str(outcome.strategy)!r}."
            )

    def _checked(self, cohort: Sequence[int] | None) -> tuple[int, ...]:
        num_clients = len(self.num_examples)
        rows = tuple(range(num_clients) if cohort is None else map(int, cohort))
        if not rows or len(set(rows)) < len(rows) or not all(0 <= i < num_clients for i in rows):
            raise ValueError(
                f"`cohort` must name different clients in 0 ... {num_clients - 1}, but got {rows}."
            )
        return rows


def _check_menu(menu: tuple[Strategy, ...], hardware: HardwareTables, deployed: Strategy) -> None:
    if menu != hardware.strategies:
        raise ValueError(
            "`menu` must be the strategies of `hardware`, in their order, "
            f"{[str(s) for s in hardware.strategies]}, but got {[str(s) for s in menu]}. "
            "Give hardware.strategies."
        )
    quantized = [s for s in (*menu, deployed) if s.method in (Method.PTQ, Method.QAT)]
    if deployed not in quantized:
        raise ValueError(
            f"`deployed` must be a ptq or qat strategy, but got {str(deployed)!r}. "
            "Write for example 'qat-w2a2'."
        )
    bits = [(s.weight_bits, s.activation_bits) for s in quantized]
    if len(bits) > 1 and bits[-1] not in bits[:-1]:
        raise ValueError(
            f"`deployed` must have the bits of a strategy of the menu {[str(s) for s in menu]}, "
            f"but got {str(deployed)!r}: nothing would teach it. Change one of the two."
        )
