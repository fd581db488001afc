"""`BlackBox`: Optuna over the policy, for losses that only training tells."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import IntArray
from ..check import exceeds, violations, with_tolerance, within_deadline
from ..problem import AllocationProblem
from ..solution import Allocation, Answer, Solver, Status
from .cvx_constraints import function_name
from .dominant import Dominant
from .dual import Dual
from .milp import check_settings
from .optuna_study import load_optuna, study_in_memory
from .policy import PolicySpace
from .sweep import Sweep, is_separable

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, eq=False)
class BlackBox:
    """Searches for the allocation whose measured loss makes the best objective.

    Optuna proposes policies: the trade-off, the deadline and the weight of coverage that a program
    assumes. A solver decides per client under each, and every different allocation is measured
    once. So the search has three numbers to find, however many clients there are; searching a
    category for every client finds next to nothing in as many trials.

    The objective is the problem's, with the measured loss in place of the predicted one, and a
    maximum loss holds for both. The answer is `FEASIBLE`, and its message tells what was measured;
    the solution's loss and objective are predictions. The same seed gives the same answer if
    `measure` does.

    Args:
        measure: From an allocation to the loss that training found, a fraction of accuracy. It sees
            what solvers see, a group of clients as one. The problem's own prediction where None.
        trials: How many policies are tried: more than are measured, as many decide alike.
        seed: Of Optuna's sampler.
        inner: Who decides under a policy; where None one sort if it is exact (`Sweep()`, or where
            no client has to choose between own loss and coverage), else `Dual()`.
        own_first: Whether the problem's own policy is measured first, so that the answer is no
            worse. False makes it a search that knows nothing but the policies.
        time_limit_seconds: Start no further trial after this time; unlimited if None.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        The program waits for the watch, but training tells that the watch spoils the model:

        >>> problem = AllocationProblem(("skip", "qat-w2a2"), [[0, 2], [0, 3], [0, 5]],
        ...     [[.3, 0], [.3, 0], [.2, 0]], 20.0, clients=["phone", "tablet", "watch"])
        >>> def measure(allocation):
        ...     return problem.total_loss(allocation.choice) + 0.5 * allocation.choice[2]
        >>> answer = BlackBox(measure, trials=20)(problem)
        >>> answer.choice, answer.message
        (array([1, 1, 0]), 'measured loss 0.2 (0.2 predicted), 3 measurements in 20 trials')
    """

    measure: Callable[[Allocation], float] | None = None
    trials: int = 60
    seed: int = 0
    inner: Solver | None = None
    own_first: bool = True
    time_limit_seconds: float | None = None

    def __post_init__(self) -> None:
        check_settings(0.0, self.time_limit_seconds)
        if self.trials < 1:
            raise ValueError(f"`trials >= 1` must hold, but got {self.trials}.")

    def __repr__(self) -> str:
        names = ("trials", "seed", "inner", "own_first", "time_limit_seconds")
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        measure = None if self.measure is None else function_name(self.measure)
        return f"BlackBox(measure={measure}, {settings})"

    def __call__(self, problem: AllocationProblem, /) -> Answer:
        """Answers the problem.

        Raises:
            SolverError: If Optuna is not installed.
            ValueError: If the problem does not say what to minimise, or `measure` returns what is
                no loss.
        """
        start = time.perf_counter()
        if not within_deadline(problem).any(axis=1).all():
            return Answer(Status.INFEASIBLE)
        search = _Search(problem, self)
        if self.own_first and search.try_own() is Status.INFEASIBLE:
            return Answer(Status.INFEASIBLE)
        while search.num_trials < self.trials:
            search.try_next()
            if time.perf_counter() - start > (self.time_limit_seconds or np.inf):
                break
        return search.answer()


@dataclass(frozen=True, eq=False)
class _Measured:
    """A choice, its measured loss, and the objective with it."""

    choice: IntArray
    loss: float
    objective: float


class _Search:
    """Trial by trial; remembers what was measured."""

    def __init__(self, problem: AllocationProblem, settings: BlackBox) -> None:
        self._problem, self._settings = problem, settings
        self._space = PolicySpace.of(problem)
        self._study = study_in_memory(settings, "tpe", settings.seed)
        self._distributions = self._space.distributions()
        self._measured: dict[bytes, _Measured] = {}
        self._first_time = 0  # before, nothing was found
        self.num_trials = 0

    def try_own(self) -> Status:
        """Tries the problem as it is; returns what its solver claims."""
        self._study.enqueue_trial(self._space.own)
        answer = self._decide(self._problem)
        kept = answer.choice is not None and not violations(self._problem, answer.choice)
        self._tell(self._study.ask(self._distributions), answer.choice if kept else None)
        return answer.status

    def try_next(self) -> None:
        """Tries the policy that Optuna proposes; a deadline that cannot be kept comes later."""
        trial, last = self._study.ask(self._distributions), len(self._space.times) - 1
        time = max(trial.params.get("time", last), self._first_time)
        choice = self._choose(trial, time)
        while choice is None and time < last:
            self._first_time = time + 1
            time = (time + 1 + last) // 2
            choice = self._choose(trial, time)
        self._tell(trial, choice)

    def answer(self) -> Answer:
        """The best of what was measured."""
        problem, found = self._problem, list(self._measured.values())
        if not found:
            if self._decide(problem).status is Status.INFEASIBLE:
                return Answer(Status.INFEASIBLE)
            return Answer(Status.UNKNOWN, message="under no policy did an allocation keep limits")
        kept = [
            m for m in found if problem.max_loss is None or not exceeds(m.loss, problem.max_loss)
        ]
        count = f"{len(found)} measurements in {self.num_trials} trials"
        if not kept:
            least = min(m.loss for m in found)
            message = f"no measured loss is within `max_loss`, the least is {least:.6g}; {count}"
            return Answer(Status.UNKNOWN, message=message)
        best = min(kept, key=lambda m: m.objective)
        predicted = problem.total_loss(best.choice)
        message = f"measured loss {best.loss:.6g} ({predicted:.6g} predicted), {count}"
        return Answer(Status.FEASIBLE, best.choice, message=message)

    def _choose(self, trial: optuna.Trial, time: int) -> IntArray | None:
        """What a policy decides at a place among the times, if that keeps the limits."""
        policy = self._space.policy(trial.params, time)
        choice = self._decide(policy.program(self._problem)).choice
        return None if choice is None or violations(self._problem, choice) else choice

    def _tell(self, trial: optuna.Trial, choice: IntArray | None) -> None:
        """Measures a choice, and tells Optuna."""
        self.num_trials += 1
        if choice is None:
            pruned = load_optuna(self._settings).trial.TrialState.PRUNED
            self._study.tell(trial, state=pruned)
            return
        found = self._measure(choice)
        if self._problem.max_loss is not None:
            trial.set_constraint("max_loss", found.loss - with_tolerance(self._problem.max_loss))
        self._study.tell(trial, found.objective)

    def _decide(self, program: AllocationProblem) -> Answer:
        inner = self._settings.inner
        return _usual(program) if inner is None else inner(program)

    def _measure(self, choice: IntArray) -> _Measured:
        """What is measured of a choice, at most once."""
        key = choice.tobytes()
        if key not in self._measured:
            problem, loss = self._problem, self._loss(choice)
            time_cost = problem.time_weight * problem.round_seconds(choice)
            objective = time_cost + problem.switching(choice) + problem.loss_weight * loss
            self._measured[key] = _Measured(choice, loss, objective)
        return self._measured[key]

    def _loss(self, choice: IntArray) -> float:
        if self._settings.measure is None:
            return self._problem.total_loss(choice)
        loss = float(self._settings.measure(Allocation.of(self._problem, choice)))
        if not np.isfinite(loss):
            raise ValueError(
                f"`measure` must return a finite loss, but {self._settings!r} got {loss}. "
                "Return the loss of a useless model, 1, where training diverged."
            )
        return loss


def _usual(program: AllocationProblem) -> Answer:
    """Decides by one sort where that is exact, else by `Dual`."""
    priced = program.switching_seconds is not None
    if is_separable(program) and not (priced and program.max_loss is not None):
        return Sweep()(program)
    steps = None if priced else Dominant.of(program)
    if steps is None:
        return Dual()(program)
    if not len(steps.thresholds):
        return Answer(Status.INFEASIBLE)
    weights = program.time_weight, program.loss_weight
    best = int(np.argmin(weights[0] * steps.thresholds + weights[1] * steps.losses))
    return Answer(Status.FEASIBLE, steps.choose(float(steps.thresholds[best])))
