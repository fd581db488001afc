"""Solvers with one fault each, which the suite of `fedhq.allocator.testing` must find."""

import random
from dataclasses import dataclass, replace

import numpy as np

from fedhq.allocator import Answer, Exhaustive, Status, violations
from fedhq.allocator.solvers.exhaustive import enumerate_choices

EXACT = Exhaustive()


@dataclass(frozen=True)
class Right:
    """Has no fault: an enumeration under another name."""

    def __call__(self, problem):
        return EXACT(problem)


@dataclass(frozen=True)
class ForgetsABudget:
    def __call__(self, problem):
        return EXACT(replace(problem, budgets=problem.budgets[1:]))


@dataclass(frozen=True)
class ForgetsOneClientsUsage:
    """And so claims less than an optimum, or it would be found at once."""

    def __call__(self, problem):
        budgets = []
        for budget in problem.budgets:
            usage = budget.usage.copy()
            usage[0] = 0
            budgets.append(type(budget)(budget.resource, usage, budget.limit))
        return EXACT(replace(problem, budgets=budgets))


@dataclass(frozen=True)
class ForgetsTheCounts:
    def __call__(self, problem):
        return EXACT(replace(problem, counts=()))


@dataclass(frozen=True)
class ForgetsThatSomebodyTakesPart:
    """Where everybody could skip it gives up, as a solver might that lacks the rule."""

    def __call__(self, problem):
        skip = np.flatnonzero(~problem.participates)
        if skip.size and problem.allowed[:, skip[0]].all() and problem.min_participation == 0:
            return Answer(Status.INFEASIBLE, message="everybody skips")
        return EXACT(problem)


@dataclass(frozen=True)
class BoundTooHigh:
    def __call__(self, problem):
        answer = EXACT(problem)
        if answer.choice is None:
            return answer
        return Answer(Status.FEASIBLE, answer.choice, answer.bound * 1.01)


@dataclass(frozen=True)
class BoundTooHighOfAWorseChoice:
    """Its bound is below its own objective, so only an enumeration shows that it is wrong."""

    def __call__(self, problem):
        answer = EXACT(problem)
        best, *others = ranked(problem) or [None]
        if not others or problem.objective(others[-1]) <= problem.objective(best):
            return answer
        middle = (problem.objective(best) + problem.objective(others[-1])) / 2
        return Answer(Status.FEASIBLE, others[-1], middle)


@dataclass(frozen=True)
class ClaimsTheSecondBest:
    def __call__(self, problem):
        answer = EXACT(problem)
        others = ranked(problem)[1:]
        if not others:
            return answer
        return Answer(Status.OPTIMAL, others[0], problem.objective(others[0]))


@dataclass(frozen=True)
class AlwaysInfeasible:
    def __call__(self, problem):
        return Answer(Status.INFEASIBLE, message="because I say so")


@dataclass(frozen=True)
class NeverInfeasible:
    def __call__(self, problem):
        answer = EXACT(problem)
        if answer.choice is not None:
            return answer
        return Answer(Status.OPTIMAL, problem.allowed.argmax(axis=1), 0.0)


@dataclass(frozen=True)
class ArgmaxOfNothing:
    """Reads an answer whatever the status was."""

    def __call__(self, problem):
        answer = EXACT(problem)
        if answer.choice is None:
            return Answer(Status.FEASIBLE, np.argmax(np.zeros(problem.seconds.shape), axis=1))
        return answer


@dataclass(frozen=True)
class OffByOneStrategy:
    def __call__(self, problem):
        answer = EXACT(problem)
        if answer.choice is None:
            return answer
        return Answer(Status.FEASIBLE, (answer.choice + 1) % len(problem.strategies), answer.bound)


@dataclass(frozen=True)
class ClaimsAFeasibleOneIsOptimal:
    def __call__(self, problem):
        answer = EXACT(problem)
        if answer.choice is None:
            return answer
        worst = ranked(problem)[-1]
        return Answer(Status.OPTIMAL, worst, problem.objective(worst))


@dataclass(frozen=True)
class ClaimsNoProof:
    """Finds the best and its bound, but says that it is only feasible."""

    def __call__(self, problem):
        answer = EXACT(problem)
        return answer if answer.choice is None else replace(answer, status=Status.FEASIBLE)


@dataclass(frozen=True)
class KnowsNothing:
    def __call__(self, problem):
        return Answer(Status.UNKNOWN, message="no idea")


@dataclass(frozen=True)
class ChangesTheProblem:
    def __call__(self, problem):
        answer = EXACT(problem)
        problem.seconds.flags.writeable = True
        problem.seconds[...] *= 1.0 if answer.choice is None else 2.0
        problem.seconds.flags.writeable = False
        return EXACT(problem)


@dataclass(frozen=True)
class LeavesTheProblemWriteable:
    def __call__(self, problem):
        problem.loss.flags.writeable = True
        return EXACT(problem)


@dataclass(frozen=True)
class Nondeterministic:
    def __call__(self, problem):
        answer = EXACT(problem)
        if answer.choice is None:
            return answer
        return Answer(Status.FEASIBLE, random.choice(ranked(problem)), answer.bound)


@dataclass(frozen=True)
class RaisesKeyError:
    def __call__(self, problem):
        if problem.max_loss is not None:
            raise KeyError("max_loss")
        return EXACT(problem)


@dataclass(frozen=True)
class RefusesWithoutAReason:
    def __call__(self, problem):
        if problem.coverage is not None:
            raise ValueError("cannot do this")
        return EXACT(problem)


@dataclass(frozen=True)
class RefusesCoverage:
    """No fault: a solver may refuse a term that it names."""

    def __call__(self, problem):
        if problem.coverage is not None:
            raise ValueError("RefusesCoverage cannot handle `coverage`.")
        return EXACT(problem)


@dataclass
class NotFrozen:
    def __call__(self, problem):
        return EXACT(problem)


class NoDataclass:
    def __call__(self, problem):
        return EXACT(problem)


@dataclass(frozen=True)
class DependsOnTheOrder:
    """Gives the first client its first strategy, whoever that is."""

    def __call__(self, problem):
        allowed = problem.allowed.copy()
        allowed[0] = False
        allowed[0, problem.allowed[0].argmax()] = True
        return EXACT(replace(problem, allowed=allowed))


@dataclass(frozen=True)
class AbsoluteTolerance:
    """Keeps limits within 1e-3, whatever their unit is."""

    def __call__(self, problem):
        budgets = [type(b)(b.resource, b.usage, b.limit + 1e-3) for b in problem.budgets]
        return EXACT(replace(problem, budgets=budgets))


def ranked(problem):
    """All feasible choices, the best first."""
    choices = [c for c in enumerate_choices(problem, 10**6) if not violations(problem, c)]
    return sorted(choices, key=problem.objective)
