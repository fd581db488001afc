"""The table of an ablation's federations."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from .columns import NONE, seconds_text
from .end_to_end import EndToEnd, grouped

_HEADINGS = (
    "solver",
    "decisions",
    "deployed accuracy",
    "simulated time of a round",
    "predicted loss",
    "planning of a round",
)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def federation_table(records: Sequence[EndToEnd]) -> tuple[tuple[str, ...], list[list[str]]]:
    """Headings and a row a solver, as text: means over the seeds, with their range.

    Args:
        records: Of any solvers and seeds.

    Example:
        >>> done = EndToEnd("a", "A()", 0, 1, 1.0, 0.5, 0.1, 0.01, "d", ((1, 1.0, 0.5),), "", "")
        >>> federation_table([done, EndToEnd.failed("b", "B()", 0, "no", "")])[1]
        [['a', 'A', '0.500', '1 s', '0.1000', '10 ms'], ['b', 'failed', '-', '-', '-', '-']]
    """
    letters = {
        solver: _LETTERS[k % len(_LETTERS)]
        for k, (solvers, _) in enumerate(grouped(records))
        for solver in solvers
    }
    rows = []
    for solver in dict.fromkeys(record.solver for record in records):
        own = [record for record in records if record.solver == solver]
        failed = any(record.message for record in own)
        rows.append(
            [
                solver,
                "failed" if failed else letters[solver],
                _mean([r.deployed_accuracy for r in own], lambda v: f"{v:.3f}"),
                _mean([r.round_seconds for r in own], seconds_text),
                _mean([r.predicted_loss for r in own], lambda v: f"{v:.4f}"),
                _mean([r.plan_seconds for r in own], seconds_text, with_range=False),
            ]
        )
    return _HEADINGS, rows


def federation_verdict(records: Sequence[EndToEnd]) -> list[str]:
    """In words: who reached the highest accuracy, who had the shortest rounds, who decided alike.

    Args:
        records: Of any solvers and seeds.
    """
    groups = grouped(records)
    if not groups:
        return ["No federation could be trained."]
    accuracy = [statistics.fmean(r.deployed_accuracy or 0.0 for r in own) for _, own in groups]
    seconds = [statistics.fmean(r.round_seconds or 0.0 for r in own) for _, own in groups]
    best, quick = accuracy.index(max(accuracy)), seconds.index(min(seconds))
    says = [
        f"{', '.join(groups[best][0])} had the highest deployed accuracy: {accuracy[best]:.3f}, "
        f"with {seconds_text(seconds[best])} a round.",
        f"{', '.join(groups[quick][0])} had the shortest rounds: {seconds_text(seconds[quick])}, "
        f"with an accuracy of {accuracy[quick]:.3f}.",
    ]
    alike = [", ".join(solvers) for solvers, _ in groups if len(solvers) > 1]
    if alike:
        says.append(f"Told every client the same in every round and seed: {'; '.join(alike)}.")
    return says


def _mean(
    values: Sequence[float | None], text: Callable[[float], str], with_range: bool = True
) -> str:
    """A mean, and the range where there is one."""
    known = [value for value in values if value is not None]
    if not known:
        return NONE
    mean, low, high = (text(v) for v in (statistics.fmean(known), min(known), max(known)))
    return mean if low == high or not with_range else f"{mean} ({low} to {high})"
