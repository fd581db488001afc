"""What a search writes into its Optuna study: one record for the study, one for every trial.

Every figure that a report or a dashboard shows is read from these, and they name the seeds, the
versions and the commit that it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

STUDY_KEY = "fedhq"
"""The study's user attribute that holds its `StudyRecord`."""
PROVENANCE_KEY = "fedhq on "
"""Before the key of a `Provenance` in a study's user attributes: what workers ran on."""
TRIAL_KEY = "fedhq"
"""A trial's user attribute that holds its `TrialRecord`."""
SOURCE_KEY = "source"
"""A trial's user attribute: who proposed it, one of `SOURCES`."""
RETRY_KEY = "retry_of"
"""A trial's user attribute: the number of the trial that it repeats."""
LOST_KEY = "lost"
"""A failed trial's user attribute: how its worker left it, a `Lost`."""
REASON_KEY = "reason"
"""User attribute of a trial that failed, has no allocation or diverged: why."""
SHORTFALL = "target_shortfall"
"""A measure: target less the best deployed accuracy; where > 0, `seconds_to_target` is censored."""
SOURCES = ("sampler", "frontier", "uniform", "screen")
FORMAT = 1
MOST_POINTS = 400
"""Of an exact frontier in a study's record."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Lost(StrEnum):
    """How a worker left a trial that it did not evaluate; only deaths count against the trial."""

    DIED = "died"
    STOPPED = "stopped"
    SPARE = "spare"
    """It was one more than asked for."""
    TWIN = "twin"
    """Another trial proposes the same: it is not needed."""


def is_failure(lost: str | None, is_repeated: bool) -> bool:
    """Whether a failed trial is to be told of: others were stopped, not needed, or are repeated.

    Args:
        lost: A `Lost`; None where it was evaluated.
        is_repeated: Whether another trial repeats it.

    Example:
        >>> is_failure(None, False), is_failure("died", True), is_failure("spare", False)
        (True, False, False)
    """
    return not is_repeated and lost in (None, Lost.DIED)


@dataclass(frozen=True)
class Reference:
    """What is provably best in the model, with the configuration's own menu and within the limits.

    Args:
        value: The least objective that is known; of two the hypervolume of the known frontier.
        bound: What no allocation is better than: at most `value`, of a hypervolume at least.
        corner: Up to where hypervolumes reach, `(round_seconds, accuracy_loss)`; None for one
            objective.
    """

    value: float
    bound: float
    corner: tuple[float, float] | None = None


@dataclass(frozen=True)
class StudyRecord:
    """What a study is.

    Args:
        config: The resolved configuration, as JSON values; `parse_search` reads it.
        digest: Of the configuration; another one is another study.
        objectives: Names of what is minimised, in order.
        limits: Names of the constraints with their upper limits.
        menu: The strategies on offer where the policy does not change it.
        clients: How many the fleet has.
        frontier: The exact frontier of the base configuration in the analytic model, as
            `(round_seconds, accuracy_loss)` points, at most `MOST_POINTS`; empty where it was not
            computed.
        frontier_gap: What is not proven of it; see `pareto_frontier`.
        reference: What regret is measured against, of the whole frontier; None where none is known.
        command: What made the study.
        provenance: By short digest, each of the `Provenance` that workers ran on; each has an
            attribute of its own, so that no two workers write over each other's.
        format: Of this record.
    """

    config: Mapping[str, Any]
    digest: str
    objectives: tuple[str, ...]
    limits: Mapping[str, float]
    menu: tuple[str, ...]
    clients: int
    frontier: tuple[tuple[float, float], ...]
    frontier_gap: float
    reference: Reference | None
    command: str
    provenance: Mapping[str, Mapping[str, Any]]
    format: int = FORMAT


@dataclass(frozen=True)
class TrialRecord:
    """What came of a trial.

    Args:
        evaluated: `model` (the program's predictions) or `training` (a federation was trained).
        seeds: Of the federations, in the order of `per_seed`.
        measures: By name, means over the seeds: `round_seconds`, `accuracy_loss`, and what else is
            known of `seconds_to_target`, `uplink_bytes`, `energy_joules` (a round's).
        per_seed: The same of every seed.
        menu: The strategies that were on offer.
        choice: What each client of the first seed's first round did, a digit (base 36) a client,
            into `menu`.
        bottleneck: Id of the slowest client there; None if nobody took part.
        solver: Who decided.
        status: Of its solution.
        gap: Of its solution; None where nothing is proven.
        wall_seconds: What the evaluation took on its machine.
        digest: Of the trial's own configuration: the name of its folder under `trials/`.
        provenance: Key into the study's `provenance`.
        clients: Ids of the clients that `choice` is about, as `ranges`; empty where they are
            `0 ... n-1`, as where the whole fleet takes part.
    """

    evaluated: str
    seeds: tuple[int, ...]
    measures: Mapping[str, float]
    per_seed: tuple[Mapping[str, float], ...]
    menu: tuple[str, ...]
    choice: str
    bottleneck: int | None
    solver: str
    status: str
    gap: float | None
    wall_seconds: float
    digest: str
    provenance: str
    clients: str = ""

    @property
    def client_ids(self) -> tuple[int, ...]:
        """The clients that `choice` is about, in its order."""
        return in_ranges(self.clients) or tuple(range(len(self.choice)))

    @property
    def strategies(self) -> dict[int, str]:
        """What each client of the round did, by its id.

        Example:
            >>> menu = ("skip", "qat-w2a2")
            >>> TrialRecord("model", (0,), {}, ({},), menu, "011", 7, "Dual()", "feasible", 0.0,
            ...             0.1, "", "", "2 6-7").strategies
            {2: 'skip', 6: 'qat-w2a2', 7: 'qat-w2a2'}
        """
        did = (self.menu[int(digit, 36)] for digit in self.choice)
        return dict(zip(self.client_ids, did, strict=True))

    @property
    def missed(self) -> int:
        """In how many seeds the target accuracy was not reached: `seconds_to_target` is more."""
        return sum(own.get(SHORTFALL, 0.0) > 0 for own in self.per_seed)

    @property
    def shown(self) -> dict[str, float]:
        """The measures that people are shown."""
        return {name: value for name, value in self.measures.items() if name != SHORTFALL}

    @property
    def counts(self) -> dict[str, int]:
        """How many clients do each strategy of the menu.

        Example:
            >>> menu = ("skip", "qat-w2a2")
            >>> TrialRecord("model", (0,), {}, ({},), menu, "0111", 3, "Dual()", "feasible", 0.0,
            ...             0.1, "", "").counts
            {'skip': 1, 'qat-w2a2': 3}
        """
        return {name: self.choice.count(_DIGITS[k]) for k, name in enumerate(self.menu)}


def digits(choice: list[int]) -> str:
    """A choice as text, a digit a client.

    Example:
        >>> digits([0, 2, 10])
        '02a'
    """
    return "".join(_DIGITS[k] for k in choice)


def ranges(ids: Sequence[int]) -> str:
    """Rising ids as text; nothing where they are `0 ... n-1`.

    Example:
        >>> ranges([1, 4, 5, 6]), ranges(range(9))
        ('1 4-6', '')
    """
    if list(ids) == list(range(len(ids))):
        return ""
    runs: list[list[int]] = []
    for k in ids:
        if runs and k == runs[-1][1] + 1:
            runs[-1][1] = k
        else:
            runs.append([k, k])
    return " ".join(f"{a}-{b}" if b > a else str(a) for a, b in runs)


def in_ranges(text: str) -> tuple[int, ...]:
    """The ids of a text of `ranges`.

    Example:
        >>> in_ranges("1 4-6")
        (1, 4, 5, 6)
    """
    ends = [[int(end) for end in run.split("-")] for run in text.split()]
    return tuple(k for run in ends for k in range(run[0], run[-1] + 1))


def to_json(record: StudyRecord | TrialRecord) -> dict[str, Any]:
    """The record as JSON values, of a study without `provenance`."""
    table = asdict(record)
    if isinstance(record, StudyRecord):
        del table["provenance"]
    return table


def study_record(attributes: Mapping[str, Any]) -> StudyRecord | None:
    """The record of a study's user attributes; None if the study is not one of fedhq's."""
    table = attributes.get(STUDY_KEY)
    if not isinstance(table, Mapping) or table.get("format") != FORMAT:
        return None
    lists = {"objectives": tuple(table["objectives"]), "menu": tuple(table["menu"])}
    frontier = tuple((float(t), float(loss)) for t, loss in table["frontier"])
    made = {
        key.removeprefix(PROVENANCE_KEY): value
        for key, value in attributes.items()
        if key.startswith(PROVENANCE_KEY)
    }
    read = {"frontier": frontier, "reference": _reference(table["reference"]), "provenance": made}
    return StudyRecord(**{**table, **lists, **read})


def _reference(table: Mapping[str, Any] | None) -> Reference | None:
    if table is None:
        return None
    corner = table["corner"]
    return Reference(table["value"], table["bound"], None if corner is None else tuple(corner))


def trial_record(attributes: Mapping[str, Any]) -> TrialRecord | None:
    """The record of a trial's user attributes; None where it has none, as while it runs."""
    table = attributes.get(TRIAL_KEY)
    if not isinstance(table, Mapping):
        return None
    lists = {key: tuple(table[key]) for key in ("seeds", "per_seed", "menu")}
    return TrialRecord(**{**table, **lists})
