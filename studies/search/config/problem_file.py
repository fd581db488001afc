"""A table of `fedhq plan` in place of a federation: read once, known by its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydantic.dataclasses import dataclass as settings

from ....allocator import AllocationProblem
from ....fl_core.settings.fields import KNOWN_KEYS_ONLY, Positive, StrategyText
from ...plan_csv import CsvTerms, problem_from_csv
from ...plan_files import read_source
from ...plan_json import problem_from_json


@settings(frozen=True, config=KNOWN_KEYS_ONLY)
class ProblemSettings:
    """Where a table of clients lies; what a CSV does not hold is as in `fedhq plan`.

    Args:
        path: JSON or CSV, from the working directory.
        limits: Of budgets, by resource: of a JSON in place of its own, of a CSV the only ones.
        labels: With a CSV, another of client, class, count.
        deployed: With labels, the bits to deploy, as a strategy; the menu's where None.
        digest: Of what was read, in a resolved configuration: another table is refused.
    """

    path: str
    limits: Mapping[str, Positive] = field(default_factory=dict)
    labels: str | None = None
    deployed: StrategyText | None = None
    digest: str | None = None


@dataclass(frozen=True, eq=False)
class ProblemTable:
    """A table that was read.

    Args:
        settings: Where from, with its digest.
        problem: What it says.
    """

    settings: ProblemSettings
    problem: AllocationProblem


def read_problem(given: ProblemSettings) -> ProblemTable:
    """Reads a table.

    Raises:
        ValueError: If it cannot be read, breaks a rule, or is not the one of the digest.
    """
    try:
        source = read_source(given.path)
        labels = None if given.labels is None else read_source(given.labels)
    except OSError as error:
        raise ValueError(f"problem.path: cannot read {error.filename}: {error.strerror}.") from None
    texts = [source.text, "" if labels is None else labels.text]
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    if given.digest not in (None, digest):
        raise ValueError(
            f"problem.path = {given.path!r}: must hold what the search began with, but the file "
            "has changed. Restore it, or start another search in another folder."
        )
    if given.path.lower().endswith(".json") or source.text.lstrip()[:1] in "{[":
        if labels is not None or given.deployed is not None:
            raise ValueError("problem.labels and deployed go with a CSV: a JSON holds `coverage`.")
        problem = _limited(problem_from_json(source), given.limits)
    else:
        problem = problem_from_csv(source, CsvTerms(given.limits, labels, given.deployed))
    return ProblemTable(replace(given, digest=digest), problem)


def _limited(problem: AllocationProblem, limits: Mapping[str, float]) -> AllocationProblem:
    resources = [budget.resource for budget in problem.budgets]
    for name in limits:
        if name not in resources:
            raise ValueError(
                f"problem.limits.{name}: must be a budget of the JSON, but it has "
                f"{', '.join(resources) or 'none'}."
            )
    budgets = tuple(replace(b, limit=limits.get(b.resource, b.limit)) for b in problem.budgets)
    return replace(problem, budgets=budgets)
