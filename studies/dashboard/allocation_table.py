"""The allocation of a trial as a CSV table, which the dashboard shows with filters."""

from __future__ import annotations

import csv
import io

import numpy as np

from ...allocator import AllocationProblem
from ..search.record import TrialRecord
from ..search.report.view import choice_of


def allocation_csv(record: TrialRecord, problem: AllocationProblem | None) -> bytes:
    """What every client did in a trial's first round, and what that took.

    Args:
        record: Of the trial.
        problem: What its policy solved there, for seconds, loss and usage; without it, or where its
            menu is not the record's, the table has strategies only.

    Returns:
        A header and a line for each client, in UTF-8.
    """
    choice = np.array(choice_of(record), dtype=np.int64)
    names = [str(k) for k in range(len(choice))]
    columns = {"client": names, "strategy": [record.menu[k] for k in choice]}
    if problem is not None and _fits(problem, record):
        columns |= _details(problem, choice)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def _fits(problem: AllocationProblem, record: TrialRecord) -> bool:
    menu = tuple(map(str, problem.strategies))
    return menu == record.menu and problem.num_clients == len(record.choice)


def _details(problem: AllocationProblem, choice: np.ndarray) -> dict[str, list[str]]:
    """Columns of seconds, waiting, loss and usage of what each client does."""
    clients = np.arange(len(choice))
    seconds = problem.seconds[clients, choice]
    waits = np.where(problem.participates[choice], problem.round_seconds(choice) - seconds, 0.0)
    columns = {
        "client": [str(name) for name in problem.clients],
        "seconds": _numbers(seconds),
        "waits_seconds": _numbers(waits),
        "loss": _numbers(problem.loss[clients, choice]),
    }
    for budget in problem.budgets:
        columns[budget.resource] = _numbers(budget.usage[clients, choice])
    return columns


def _numbers(values: np.ndarray) -> list[str]:
    return [f"{value:.6g}" for value in values]
