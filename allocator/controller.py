"""`HybridAllocator`: plan a round, observe what came of it; all that an FL code base needs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .adjust.loss_model import LossModel
from .adjust.model import TimeModel
from .arrays import FloatArray
from .check_fleet import check_cohort, check_menu
from .data import FittedLoss, fitted_loss
from .default_rule import GIVES_UP_NOTHING, default_rule
from .fleet import FleetTables
from .goal import Goal, Outcome, ServerAccuracy
from .hardware import HardwareTables
from .knowledge import FleetKnowledge
from .pacing import pace
from .problem import AllocationProblem
from .relax import settle
from .round_program import RoundRules, round_problem
from .solution import Allocation, Solver
from .solve import solve
from .strategy import Strategy, parse_strategy

__all__ = ["Goal", "HybridAllocator", "Outcome", "ServerAccuracy"]


class HybridAllocator:
    """Decides, round by round, which client does what, and learns from what came of it.

    The one object that an FL code base needs, whatever trains and sends there:

    - `plan(round)` says who does what; `observe(outcomes, accuracy)` takes in what came of it;
    - `join(...)` adds clients at any time, to this fleet or to one that `open(...)` began empty;
    - `forbid(client, strategy)` takes out what a client turned out not to be able to do;
    - `tell(client, ...)` replaces what a client said of its data;
    - `state_dict()` and `load_state_dict(state)` keep all that was learned, as JSON. The fleet
      itself joins anew, in the same order.

    It holds NumPy arrays, no tensor, knows no framework, and takes a client for its number, in the
    order of joining. `examples/plain_loop.py` has it in a bare loop, `examples/nvflare` in NVIDIA
    FLARE.

    It never fails a round: if no allocation keeps every limit, limits are relaxed in the order of
    `relax.RELAXED_FIRST_TO_LAST` to the nearest feasible values; if the solver finds nothing even
    then, everybody does the fastest strategy that it is allowed. `note` says what was given up.

    Args:
        menu: The strategies on offer, as `Strategy` or text; those of `hardware`, in that order.
        hardware: Seconds, bytes, joules and feasibility of every strategy for the whole fleet;
            seconds may be NaN where they are unknown.
        deployed: A strategy with the bits that will be deployed, for instance `"qat-w2a2"`.
        solver: Who decides: an exact solver, a rule, or `FrontierPick`; `default_rule` where None.
        num_examples: `(clients,)` examples of every client of the fleet; NaN where one does not
            tell: its label counts then speak for it, or else it counts as the mean of those known.
        label_counts: `(clients, classes)`, exact, grouped (`grouped_counts`) or noisy
            (`noisy_counts`: what is below 0 is cut at 0); a row of NaN where a client withholds
            them: its examples then count as distributed like those of all who tell. None where
            all withhold them: coverage then counts examples as of one class.
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
            repeats a run whose times are as predicted exactly; 1 tries what may well pay. Times
            only: what would show the loss is not explored, but see `probe`.
        learn: Whether the times are learned, with `TimeModel`; otherwise those of `hardware` stay.
        learn_loss: Whether the coverage term is learned too, with `LossModel`, from accuracies told
            to `observe`; without any, the fitted one stays. It also stays, to the byte, until these
            refute it.
        probe: Rounds at the start that are planned as if quantization did not hurt, which shows how
            much it does: at the coverage that a plan buys there is little to see. Such rounds are
            fast, and later ones make up for them. A round whose float model is not yet halfway
            between guessing and perfect shows nothing: so many others, or twice as many in all.
            They end with the first round that is not evaluated, and are left out where a goal does
            not count time. 5 will do.
        strict: Whether a round whose limits cannot be kept raises instead of relaxing them: for
            studies, where an answer to another question is worse than none.

    Raises:
        ValueError: If a table has a wrong shape, the menu is not that of `hardware`, `deployed`
            has no bits of the menu, a client or group has nothing allowed, energy is limited but
            not known, or a number is out of its range.

    Example:
        >>> import numpy as np
        >>> from fedhq.allocator import DeviceProfile, HardwareOnly, StepProfile
        >>> from fedhq.allocator import analyse_hardware, parse_menu
        >>> profile = StepProfile("toy", 32, parse_menu(["ptq-w2a2", "qat-w2a2"]),
        ...                       np.array([.01, .02]), np.zeros(2), "by hand")
        >>> devices = [DeviceProfile("fast", 1, 1e6, 1e6), DeviceProfile("slow", 9, 1e6, 1e6)]
        >>> hardware = analyse_hardware(devices, [10, 10], profile, [0, 0], 0)
        >>> allocator = HybridAllocator(hardware.strategies, hardware, "qat-w2a2",
        ...                             HardwareOnly("qat-w2a2", "ptq-w2a2"), num_examples=[9, 9])
        >>> plan = allocator.plan(1)
        >>> [str(plan.strategy(i)) for i in range(2)], allocator.note
        (['qat-w2a2', 'ptq-w2a2'], '')
        >>> for _ in range(3):  # as it turns out, the fast one is the slow one
        ...     allocator.observe([Outcome(0, plan.strategy(0), 7.5, succeeded=True),
        ...                        Outcome(1, plan.strategy(1), 0.5, succeeded=True)])
        >>> str(allocator.plan(2).strategy(0))
        'ptq-w2a2'
    """

    def __init__(
        self,
        menu: Sequence[Strategy | str],
        hardware: HardwareTables,
        deployed: Strategy | str,
        solver: Solver | None = None,
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
        learn_loss: bool = True,
        probe: int = 0,
        strict: bool = False,
    ) -> None:
        if not len(hardware.seconds):
            raise ValueError(
                "`hardware` must have at least one client, but it is empty. "
                "Call `HybridAllocator.open` for a fleet that is yet to come."
            )
        fit = fitted or fitted_loss()
        rules = RoundRules.of(menu, deployed, fit, switching_seconds, explore, probe, strict)
        check_menu(rules.menu, hardware)
        self._start(rules, solver, goal or Goal(), carry, learn, learn_loss)
        clients = FleetTables.of(hardware, num_examples, label_counts, groups)
        self._known.join(clients, device_classes, self.goal)

    @classmethod
    def open(
        cls,
        menu: Sequence[Strategy | str],
        deployed: Strategy | str,
        solver: Solver | None = None,
        *,
        goal: Goal | None = None,
        carry: float = 0.0,
        fitted: FittedLoss | None = None,
        switching_seconds: float = 0.0,
        explore: float = 1.0,
        learn: bool = True,
        learn_loss: bool = True,
        probe: int = 0,
        strict: bool = False,
    ) -> HybridAllocator:
        """An allocator of a fleet that nobody knows yet: clients `join`, then rounds are planned.

        The arguments are those of the class. It explores by default: of times that nobody knows,
        those of what nobody tried would else stay a guess for ever.

        Raises:
            ValueError: As for the class.

        Example:
            >>> allocator = HybridAllocator.open(["skip", "ptq-w2a2", "qat-w2a2"], "qat-w2a2")
            >>> allocator.join(HardwareTables.unknown(allocator.menu, 2), num_examples=[50, 50])
            range(0, 2)
            >>> [str(s) for s in map(allocator.plan(1).strategy, range(2))]
            ['qat-w2a2', 'qat-w2a2']
        """
        fit = fitted or fitted_loss()
        rules = RoundRules.of(menu, deployed, fit, switching_seconds, explore, probe, strict)
        allocator = cls.__new__(cls)
        allocator._start(rules, solver, goal or Goal(), carry, learn, learn_loss)
        return allocator

    def _start(
        self,
        rules: RoundRules,
        solver: Solver | None,
        goal: Goal,
        carry: float,
        learn: bool,
        learn_loss: bool,
    ) -> None:
        """Begins without a client."""
        fitted = rules.fitted if learn_loss else None
        self._rules, self.goal = rules, goal
        self.solver = solver or default_rule(goal, rules.fitted)
        self._known = FleetKnowledge(rules.menu, rules.deployed, carry, learn, fitted)
        self._known.fleet.check(goal)
        self._planned: tuple[tuple[object, ...], Solver, Allocation, str] | None = None

    @property
    def menu(self) -> tuple[Strategy, ...]:
        """The strategies on offer."""
        return self._rules.menu

    @property
    def deployed(self) -> Strategy:
        """A strategy with the bits that will be deployed."""
        return self._rules.deployed

    @property
    def fitted(self) -> FittedLoss:
        """The loss model."""
        return self._rules.fitted

    @property
    def num_clients(self) -> int:
        """Clients of the fleet."""
        return len(self._known.fleet)

    @property
    def hardware(self) -> HardwareTables:
        """Cost tables of the whole fleet."""
        return self._known.fleet.hardware

    @property
    def num_examples(self) -> FloatArray:
        """`(clients,)` examples; an average where a client does not tell."""
        return self._known.fleet.num_examples

    @property
    def label_counts(self) -> FloatArray:
        """`(clients, classes)` labels; average ones where withheld, one class where all are."""
        return self._known.fleet.label_counts

    @property
    def time_model(self) -> TimeModel:
        """How long every client is expected to take."""
        return self._known.times

    @property
    def loss_model(self) -> LossModel | None:
        """How much quantization is expected to hurt; None where that is not learned."""
        return self._known.loss

    @property
    def note(self) -> str:
        """What the last plan gave up, in words; empty if nothing."""
        return "" if self._planned is None else self._planned[3]

    def join(
        self,
        hardware: HardwareTables,
        *,
        num_examples: ArrayLike,
        label_counts: ArrayLike | None = None,
        device_classes: Sequence[Hashable] | None = None,
        groups: Sequence[Hashable | None] | None = None,
    ) -> range:
        """Clients that come to the fleet, now or at any time; all that was learned stays.

        Later plans are those of an allocator that had these clients from the start, unless
        newcomers bring times that others did not know. Earlier rounds were then judged by a guess:
        predictions differ a little, and by how much the guess was off stays in the spread of times,
        which `explore` and `holds_with` look at, until newer rounds of the same clients replace it.

        Args:
            hardware: Tables of the new clients; seconds NaN where they are to be learned
                (`HardwareTables.unknown` if nothing is known).
            num_examples: `(new clients,)` examples; 0 or NaN where a client does not tell.
            label_counts: `(new clients, classes)`; see the class. None where all withhold them.
            device_classes: `(new clients,)` names of classes of like devices.
            groups: `(new clients,)` a name each, or None.

        Returns:
            The numbers of the new clients, in the order of the tables.

        Raises:
            ValueError: If a table has a wrong shape, menu or number of classes, or no round of
                these clients could be planned; nothing has changed then.

        Example:
            >>> allocator = HybridAllocator.open(["ptq-w2a2", "qat-w2a2"], "qat-w2a2")
            >>> first = allocator.join(HardwareTables.unknown(allocator.menu), num_examples=[50])
            >>> allocator.join(HardwareTables.unknown(allocator.menu, 3), num_examples=[50, 9, 0])
            range(1, 4)
        """
        more = FleetTables.of(hardware, num_examples, label_counts, groups).with_empty_untold()
        numbers = self._known.join(more, device_classes, self.goal)
        self._planned = None
        return numbers

    def forbid(self, client: int, strategy: Strategy | str) -> None:
        """Never plans a strategy of a client again, for instance since it said that it cannot.

        Part of the state.

        Raises:
            ValueError: If there is no such client or strategy, or nothing would be left that the
                client, or its group, may do; nothing has changed then.

        Example:
            >>> allocator = HybridAllocator.open(["ptq-w2a2", "qat-w2a2"], "qat-w2a2")
            >>> client, = allocator.join(HardwareTables.unknown(allocator.menu), num_examples=[50])
            >>> allocator.forbid(client, "qat-w2a2")
            >>> str(allocator.plan(1).strategy(0))
            'ptq-w2a2'
        """
        self._known.forbid(client, parse_strategy(strategy))
        self._planned = None

    def problem(
        self, cohort: Sequence[int] | None = None, *, is_finish: bool = False
    ) -> AllocationProblem:
        """The program of the next round.

        Args:
            cohort: The clients that are there, by their number in the fleet; all where None.
            is_finish: Whether the round is one of the finish, which no probe takes.

        Raises:
            ValueError: If the cohort is empty, names a client twice or one that does not exist, or,
                with `strict`, holds no example at all.
        """
        rows = check_cohort(cohort, self.num_clients)
        return round_problem(self._rules, self.goal, self._known, rows, is_finish=is_finish)

    def plan(self, round_number: int, cohort: Sequence[int] | None = None) -> Allocation:
        """Decides what every client of the cohort does in a round.

        Args:
            round_number: The round, counted from 1; counts where the goal counts rounds.
            cohort: The clients that are there; all where None.

        Returns:
            The allocation, in the cohort's order.

        Raises:
            InfeasibleError: With `strict`, if the limits cannot be kept.
            SolverError: With `strict`, if the solver found nothing in its own limits.
            ValueError: If the round is not one of 1, 2, ..., the cohort is impossible (see
                `problem`), or the solver cannot express a term of the problem.
        """
        if round_number < 1:
            raise ValueError(
                f"`round_number >= 1` must hold, but got {round_number}. Count rounds from 1: "
                "`range(1, rounds + 1)`."
            )
        is_finish, planned = self.goal.is_finish(round_number), self._planned
        problem = self.problem(cohort, is_finish=is_finish)
        state = self._state(problem, round_number)
        if planned is None or planned[0] != state or planned[1] is not self.solver:
            self._planned = None  # no note of another round, should this one raise
            allocation, note = self._decide(problem, round_number)
            self._planned = planned = (state, self.solver, allocation, note)
        return planned[2]

    def tell(
        self,
        client: int,
        *,
        num_examples: float = math.nan,
        label_counts: ArrayLike | None = None,
    ) -> None:
        """Replaces what a client said of its data, for instance since it collects other data now.

        It is part of the fleet, not of the state: who goes on from a saved state joins with what
        was told last. Gaps observed before count the less, the more this changes of the coverage or
        of the population's distribution, and not at all from a tenth on: other data made them.

        Args:
            client: Its number.
            num_examples: Examples that it holds; NaN where it does not tell.
            label_counts: `(classes,)`; None where it withholds them.

        Raises:
            ValueError: If there is no such client, or a value or shape is impossible; nothing has
                changed then.

        Example:
            >>> allocator = HybridAllocator.open(["ptq-w2a2", "qat-w2a2"], "qat-w2a2")
            >>> tables = HardwareTables.unknown(allocator.menu, 2)
            >>> allocator.join(tables, num_examples=[9, 9], label_counts=[[9, 0], [9, 0]])
            range(0, 2)
            >>> allocator.tell(1, label_counts=[2, 5])
            >>> allocator.label_counts[1], allocator.num_examples[1]
            (array([2., 5.]), np.float64(7.0))
        """
        counts = None if label_counts is None else np.array(label_counts, dtype=np.float64)
        self._known.tell(client, num_examples, counts, self.goal)
        self._planned = None

    def observe(self, outcomes: Sequence[Outcome], accuracy: ServerAccuracy | None = None) -> None:
        """Takes in what a round's clients really did; their order does not matter.

        Their times are learned, their strategies remembered, and their coverage carries over,
        decayed. From the gap between an accuracy's two figures it is learned how much quantization
        hurts here (see `LossModel`; plans lag behind it, on the side of the fitted curve).

        Args:
            outcomes: What the clients did.
            accuracy: Of the weights after this round; None where they were not evaluated.

        Raises:
            ValueError: If an outcome's client is not of the fleet or its strategy not in the menu.
        """
        self._known.observe(outcomes, accuracy)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep, ready for JSON; not the fleet itself, which joins anew."""
        return self._known.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a saved state; of one of an older version, what it holds.

        The fleet must be the one that was saved, in its order, however its clients joined.

        Raises:
            ValueError: If it is no such state, or belongs to another fleet, menu or label set;
                nothing has changed then.
        """
        self._known.load_state_dict(state, self.goal)
        self._planned = None

    def _state(self, problem: AllocationProblem, round_number: int) -> tuple[object, ...]:
        """All that a plan depends on: what is equal is planned once."""
        assert problem.coverage is not None
        term, memory = problem.coverage, self._known.memory
        tables = [problem.seconds, problem.loss, problem.switching_seconds]
        tables += [term.carried, term.loss_curve]
        when: tuple[object, ...] = (self.goal.is_finish(round_number),)
        if self.goal.total_seconds is not None:
            when = (round_number, memory.spent_seconds, memory.taught(self._known.fleet).tobytes())
        arrays = (None if t is None else t.tobytes() for t in tables)
        return (problem.clients, self.goal, when, repr(self.solver), *arrays)

    def _decide(self, problem: AllocationProblem, round_number: int) -> tuple[Allocation, str]:
        strict, memory = self._rules.strict, self._known.memory
        taught, spent = memory.taught(self._known.fleet), memory.spent_seconds
        paced, short = pace(problem, self.goal, round_number, spent, taught, strict=strict)
        solver = GIVES_UP_NOTHING if self.goal.is_finish(round_number) else self.solver
        if strict:
            return solve(paced, solver).allocation, short
        allocation, note = settle(paced, solver)
        rows = [int(name) for name in problem.clients]
        if not self.num_examples[rows].any():
            note = f"No client of the cohort holds an example: all count alike. {note}"
        return allocation, f"{short} {note}".strip()
