"""`random_program`: a problem with any mixture of the program's terms, from a seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..arrays import FloatArray
from ..coverage import Coverage
from ..problem import AllocationProblem
from ..terms import Budget, Count

_MENUS = (
    ("skip", "ptq-w2a2", "qat-w2a2"),
    ("ptq-w2a2", "qat-w2a2"),
    ("skip", "fp32", "ptq-w2a2", "qat-w2a2"),
)
_QAT = "qat-w2a2"
_LOSS_CURVE = ((0.0, 0.45), (0.1, 0.2), (0.3, 0.04), (0.6, 0.0))
_SMALL = 5  # clients up to which limits of the loss are not scaled with their number


def random_program(seed: int, num_clients: int, separable: bool = False) -> AllocationProblem:
    """A program of masks, ties, and a random one of all goals; the whole one has all other terms.

    Small ones are infeasible in about a third of all cases.

    Args:
        seed: Of all random numbers.
        num_clients: Clients of the cohort.
        separable: Without what `Sweep` refuses: budgets, counts, coverage, participation.

    Example:
        >>> random_program(2, 4).num_clients
        4
    """
    rng = np.random.default_rng(seed)
    menu = _MENUS[rng.integers(len(_MENUS))]
    shape = num_clients, len(menu)
    tied = rng.random() < 0.5
    seconds = rng.integers(1, 6, shape).astype(float) if tied else rng.lognormal(0, 1, shape)
    seconds[:, np.array(menu) == "skip"] = 0
    loss = rng.integers(0, 4, shape) / 20 if tied else rng.random(shape) * 0.2
    allowed = rng.random(shape) < 0.85
    allowed[np.arange(num_clients), rng.integers(0, shape[1], num_clients)] = True
    groups = _groups(rng, num_clients) if rng.random() < 0.3 else None
    if groups is not None:
        allowed[[name is not None for name in groups], 1] = True
    goal = _Goal.draw(rng, np.where(allowed, seconds, np.inf))
    problem = AllocationProblem(
        menu,
        seconds,
        loss,
        goal.tradeoff,
        deadline_seconds=goal.deadline_seconds,
        max_loss=goal.max_loss,
        allowed=allowed,
        switching_seconds=goal.switching_seconds,
        groups=groups,
    )
    return problem if separable else _with_all_terms(rng, problem)


@dataclass(frozen=True)
class _Goal:
    tradeoff: float | None = None
    deadline_seconds: float | None = None
    max_loss: float | None = None
    switching_seconds: FloatArray | None = None

    @classmethod
    def draw(cls, rng: np.random.Generator, seconds: FloatArray) -> _Goal:
        """One of the four kinds of goals, with limits near what the times allow."""
        scale = max(1.0, len(seconds) / _SMALL)
        earliest = max(1.0, float(seconds.min(axis=1).max()))
        match rng.integers(4):
            case 0:
                switching = rng.random(seconds.shape) / scale if rng.random() < 0.5 else None
                return cls(float(rng.choice([0.5, 5, 50])), switching_seconds=switching)
            case 1:
                return cls(deadline_seconds=earliest * float(rng.choice([0.9, 1, 2, 4])))
            case 2:
                return cls(max_loss=scale * float(rng.choice([0.1, 0.4, 0.8])))
        return cls(
            5.0, earliest * float(rng.choice([0.9, 1, 2, 4])), scale * rng.choice([0.3, 0.8])
        )


def _groups(rng: np.random.Generator, num_clients: int) -> list[str | None]:
    """Most clients are in groups of three or four, the others in none."""
    names = rng.integers(0, max(1, num_clients // 5), num_clients)
    alone = rng.random(num_clients) < 0.3
    return [None if a else f"group-{k}" for a, k in zip(alone, names, strict=True)]


def _with_all_terms(rng: np.random.Generator, problem: AllocationProblem) -> AllocationProblem:
    """Coverage, budgets, participation and counts, each with some probability."""
    n, menu = problem.num_clients, problem.strategies
    if rng.random() < 0.7:
        labels = rng.integers(0, 9, (n, 3)).astype(float)
        labels[0] += 1
        term = Coverage(
            labels,
            [float(str(s) == _QAT) for s in menu],
            _LOSS_CURVE,
            population=labels.sum(axis=0) * 1.5 if rng.random() < 0.5 else None,
            carried=rng.random(3) * 0.3 if rng.random() < 0.5 else None,
        )
        problem = replace(problem, coverage=term, num_examples=labels.sum(axis=1))
    if rng.random() < 0.6:
        usage = [rng.random((n, len(menu))), rng.integers(0, 3, (n, len(menu)))]
        limits = [n * rng.uniform(0.3, 0.8), n]
        names = ("uplink_bytes", "energy_joules")[: rng.integers(1, 3)]
        budgets = tuple(Budget(*b) for b in zip(names, usage, limits, strict=False))
        problem = replace(problem, budgets=budgets)
    if rng.random() < 0.5:
        examples = rng.integers(1, 9, n).astype(float)
        problem = replace(problem, min_participation=rng.random(), num_examples=examples)
    if rng.random() < 0.3:
        few, half = Count([_QAT], at_least=-(-n // 5)), Count([_QAT], at_most=n // 2)
        problem = replace(problem, counts=(few if rng.random() < 0.5 else half,))
    return problem
