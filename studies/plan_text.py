"""The words and tables that `fedhq plan` prints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..allocator import AllocationProblem, Frontier, Solution
from ..allocator.explain.quantities import POINTS, SECONDS, Unit, number

_MOST_CLIENTS = 20
_MOST_POINTS = 12
_MOST_NAME = 40

DESCRIPTION = """Decides which client of a federated round does what, proves how good that is, and
says why. Every client takes one strategy of a menu: skip, fp32, ptq-w2a2, qat-w2a2, ...
A round takes as long as its slowest client; a loss is a fraction of accuracy.

The input is one of
  JSON  everything in one file, fields as in fedhq.allocator.AllocationProblem: strategies,
        seconds and loss (a row a client), and if needed clients, allowed, tradeoff,
        deadline_seconds, max_loss, budgets, coverage, min_participation, counts, groups, ...
  CSV   one row a client and strategy: client, strategy, seconds, loss; if needed allowed, group,
        switching_seconds, and resources such as uplink_bytes. A row that lacks is not allowed.

What is best is said by one of --tradeoff (time and loss are added up), --deadline (the loss is
minimised) and --max-loss (the time is). Without any, the frontier of all best trades is
computed and its knee taken."""

EXAMPLES = """examples:
  fedhq plan demo                                    ten clients, an uplink budget: the knee
  fedhq plan demo --tradeoff 200 --explain phone-2   two seconds a point; what if phone-2 ...
  fedhq plan demo --pick fastest-within=0.02 --frontier frontier.html
  fedhq plan fleet.csv --limit uplink_bytes=2.4e6 --labels labels.csv --deadline 30 --out plan.csv
  fedhq plan fleet.csv --max-loss 0.05 --count 'qat-w2a2>=3' --solver milp --time-limit 60

exit status: 0; 1 where no allocation keeps the limits (standard error says which, and what would
do) or none was found in time; 2 where the input is at fault."""


def offer(frontier: Frontier, picked: int, why: str) -> str:
    """The frontier's points as a table, the picked one marked."""
    rows = []
    for k in _shown_points(len(frontier), picked):
        time, loss = float(frontier.round_seconds[k]), float(frontier.loss[k])
        rows.append(["->" if k == picked else "", SECONDS.text(time), POINTS.text(loss)])
    rest = len(frontier) - len(rows)
    more = f"\n  ({rest} more between them: --frontier FILE writes all)" if rest else ""
    points = f"{len(frontier)} best trades" if len(frontier) > 1 else "One trade, best in both"
    return (
        f"{points} of round time and loss; picked by {why}:\n"
        f"{columns(['', 'round', 'loss'], rows)}{more}"
    )


def _shown_points(points: int, picked: int) -> list[int]:
    """All points, or some from end to end with the picked one."""
    evenly = np.linspace(0, points - 1, min(points, _MOST_POINTS)).round().astype(int)
    return sorted({*evenly.tolist(), picked})


def clients_table(problem: AllocationProblem, solution: Solution) -> str:
    """Who does what, the slowest client first, cut after some."""
    choice = solution.allocation.choice
    everybody = np.arange(problem.num_clients)
    seconds, loss = problem.seconds[everybody, choice], problem.loss[everybody, choice]
    units = [Unit.of(b.resource) for b in problem.budgets]
    rows = []
    for i in np.argsort(-seconds, kind="stable")[:_MOST_CLIENTS].tolist():
        used = [float(b.usage[i, choice[i]]) for b in problem.budgets]
        cells = [u.text(value) for u, value in zip(units, used, strict=True)]
        strategy = str(problem.strategies[int(choice[i])])
        rows.append(
            [
                _name(problem.clients[i]),
                strategy,
                number(float(seconds[i])),
                number(float(loss[i])),
                *cells,
            ]
        )
    head = ["client", "strategy", "seconds", "loss", *(b.resource for b in problem.budgets)]
    rest = problem.num_clients - len(rows)
    more = f"\n  ... and {rest} faster: --out FILE writes all" if rest else ""
    return f"Who does what, the slowest first:\n{columns(head, rows, left=2)}{more}"


def _name(client: str) -> str:
    """A client's name on one line, shortened."""
    name = client if client.isprintable() else repr(client)
    return name if len(name) <= _MOST_NAME else f"{name[: _MOST_NAME - 3]}..."


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Aligned columns; the first ones to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in (head, *rows):
        cells = [
            cell.ljust(width) if k < left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)
