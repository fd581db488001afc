"""The allocation of a trial as a CSV table, which the dashboard shows with filters."""

from __future__ import annotations

import csv
import io

import numpy as np

from ...allocator import AllocationProblem
from ..search.record import TrialRecord
from ..search.report.plans import Planned


def allocation_csv(record: TrialRecord, plan: Planned | None) -> bytes:
    """What every client did in a trial's first round, and what that took.

    Args:
        record: Of the trial.
        plan: Of its policy there, planned again, for seconds, loss and usage; without it, or where
            its menu or clients are not the record's, the table has strategies only.

    Returns:
        A header and a line for each client, in UTF-8.
    """
    did = record.strategies
    columns = {"client": list(map(str, did)), "strategy": list(did.values())}
    if plan is not None and _fits(plan, record):
        choice = np.array([record.menu.index(name) for name in did.values()], dtype=np.int64)
        columns |= _details(plan.problem, choice)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def _fits(plan: Planned, record: TrialRecord) -> bool:
    menu = tuple(map(str, plan.problem.strategies))
    return menu == record.menu and plan.clients == record.client_ids


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
