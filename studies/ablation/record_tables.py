"""Records the tables that ship: `python -m fedhq.studies.ablation.record_tables`.

Each TOML in `recorded` is the configuration of a run. Its federation is built of real data and
measured step times; the program of its first round is written beside it as JSON.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...allocator import AllocationProblem, Budget, Coverage
from ...allocator.arrays import FloatArray
from ..plan_json import problem_to_json
from ..writing import write_at_once
from .problems import SHIPPED, SHIPPED_FOLDER, problem_of_run

_DIGITS = 6  # of each number: far more than times and losses are known to


def record_tables() -> None:
    """Writes all tables anew."""
    for name in SHIPPED:
        problem = rounded(problem_of_run(SHIPPED_FOLDER / f"{name}.toml"))
        path = SHIPPED_FOLDER / f"{name}.json"
        write_at_once(path, problem_to_json(problem))
        print(f"{path}: {problem.num_clients} clients, {len(problem.strategies)} strategies")


def rounded(problem: AllocationProblem) -> AllocationProblem:
    """The problem with fewer digits, so that its file stays small.

    Example:
        >>> rounded(AllocationProblem(["ptq-w2a2"], [[1 / 3]], [[0]])).seconds
        array([[0.333333]])
    """
    term = problem.coverage
    return replace(
        problem,
        seconds=_short(problem.seconds),
        loss=_short(problem.loss),
        budgets=tuple(Budget(b.resource, _short(b.usage), b.limit) for b in problem.budgets),
        coverage=None
        if term is None
        else Coverage(
            term.label_counts,
            term.teaches,
            _short(term.loss_curve),
            term.population,
            term.carried,
            term.unevenness_price,
        ),
    )


def _short(table: FloatArray) -> FloatArray:
    texts = [np.format_float_scientific(v, _DIGITS - 1, unique=False) for v in table.flat]
    return np.array(texts, dtype=np.float64).reshape(table.shape)


if __name__ == "__main__":
    record_tables()
