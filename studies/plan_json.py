"""A whole allocation problem as one JSON file; every error names the field and the mend."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..allocator import AllocationProblem, Budget, Count, Coverage
from ..fl_core.text_file import Source

_PROBLEM = (
    *("strategies", "clients", "seconds", "loss", "tradeoff", "deadline_seconds", "max_loss"),
    *("allowed", "budgets", "coverage", "num_examples", "min_participation", "counts", "groups"),
    "switching_seconds",
)
_NEEDED = ("strategies", "seconds", "loss")
_BUDGET = ("resource", "usage", "limit")
_COUNT = ("strategies", "at_least", "at_most")
_COVERAGE = ("label_counts", "teaches", "loss_curve", "population", "carried", "unevenness_price")


def problem_from_json(source: Source) -> AllocationProblem:
    """The problem that a JSON object describes; its fields are those of `AllocationProblem`.

    Args:
        source: The text.

    Raises:
        ValueError: If it is no valid JSON, a field is unknown, missing, of a wrong kind, or breaks
            a rule of the problem.

    Example:
        >>> text = '{"strategies": ["ptq-w2a2"], "seconds": [[1], [3]], "loss": [[0], [0]]}'
        >>> problem_from_json(Source("fleet.json", text)).num_clients
        2
    """
    try:
        content = json.loads(source.text, parse_constant=_refuse, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source.name}: must be valid JSON, but {error}.") from None
    try:
        return _problem(
            _Fields.of("the file", content, _PROBLEM, ("strategies", "seconds", "loss"))
        )
    except ValueError as error:
        raise ValueError(f"{source.name}: {error}") from None


def problem_to_json(problem: AllocationProblem) -> str:
    """The problem as JSON, which `problem_from_json` reads as the same problem, digit by digit.

    Args:
        problem: The problem; what is not limited or is as by default is left out.

    Raises:
        ValueError: If a row stands for several clients, or a group's name is no text: neither has
            a place in the file.

    Example:
        >>> problem = AllocationProblem(["ptq-w2a2"], [[1], [3]], [[0], [0]], tradeoff=2.5)
        >>> print(problem_to_json(problem))
        {
        "strategies": ["ptq-w2a2"],
        "clients": ["0", "1"],
        "seconds": [[1.0], [3.0]],
        "loss": [[0.0], [0.0]],
        "tradeoff": 2.5,
        "num_examples": [1.0, 1.0]
        }
        <BLANKLINE>
    """
    if (problem.members != 1).any():
        raise ValueError("`members` must be 1, but a row stands for more. Write the unmerged ones.")
    if any(not isinstance(name, str | None) for name in problem.groups or ()):
        raise ValueError(f"`groups` must be texts or None in a file, but are {problem.groups}.")
    switching = problem.switching_seconds
    fields: dict[str, Any] = {
        "strategies": [str(s) for s in problem.strategies],
        "clients": problem.clients,
        "seconds": problem.seconds.tolist(),
        "loss": problem.loss.tolist(),
        "tradeoff": problem.tradeoff,
        "deadline_seconds": problem.deadline_seconds,
        "max_loss": problem.max_loss,
        "allowed": None if problem.allowed.all() else problem.allowed.tolist(),
        "budgets": [_budget_fields(b) for b in problem.budgets] or None,
        "coverage": None if problem.coverage is None else _coverage_fields(problem.coverage),
        "num_examples": problem.num_examples.tolist(),
        "min_participation": problem.min_participation or None,
        "counts": [_count_fields(c) for c in problem.counts] or None,
        "groups": problem.groups,
        "switching_seconds": None if switching is None else switching.tolist(),
    }
    lines = (
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        for key, value in fields.items()
        if value is not None
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _budget_fields(budget: Budget) -> dict[str, Any]:
    return {"resource": budget.resource, "usage": budget.usage.tolist(), "limit": budget.limit}


def _count_fields(count: Count) -> dict[str, Any]:
    fields = {"strategies": [str(s) for s in count.strategies], "at_least": count.at_least}
    return fields if count.at_most is None else {**fields, "at_most": count.at_most}


def _coverage_fields(coverage: Coverage) -> dict[str, Any]:
    fields: dict[str, Any] = {key: getattr(coverage, key).tolist() for key in _COVERAGE[:-1]}
    price = coverage.unevenness_price
    return {**fields, "unevenness_price": price} if price else fields


def _refuse(constant: str) -> float:
    raise ValueError(f"`{constant}` stands there, which is no number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        double = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"`{double}` stands twice in one object: leave one out")
    return table


@dataclass(frozen=True)
class _Fields:
    """An object's fields, read by kind; `place` says in messages which object."""

    place: str
    table: Mapping[str, Any]

    @classmethod
    def of(cls, place: str, table: object, known: Sequence[str], needed: Sequence[str]) -> _Fields:
        """The fields of a JSON object that has all needed ones and none but the known ones."""
        if not isinstance(table, dict):
            raise ValueError(f"{place} must be a JSON object with {_listed(needed)}.")
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1) or known
                raise ValueError(
                    f"`{key}` is no field of {place}. "
                    f"{'Perhaps you mean' if len(near) == 1 else 'There are'} {_listed(near)}."
                )
        if missing := [key for key in needed if table.get(key) is None]:
            raise ValueError(f"{place} must have {_listed(needed)}, but {_listed(missing)} lacks.")
        return cls(place, table)

    def items(self, key: str) -> list[Any] | None:
        value = self.table.get(key)
        if value is not None and not isinstance(value, list):
            raise ValueError(f"`{self._name(key)}` must be a list, but is {_shown(value)}.")
        return value

    def text(self, key: str) -> str:
        value = self.table[key]
        if not isinstance(value, str):
            raise ValueError(f"`{self._name(key)}` must be a text, but is {_shown(value)}.")
        return value

    def texts(self, key: str) -> list[str]:
        for k, value in enumerate(self.items(key) or ()):
            if not isinstance(value, str):
                raise ValueError(f"`{self._name(key)}[{k}]` must be a text, not {_shown(value)}.")
        return self.items(key) or []

    def number(self, key: str) -> float | None:
        value = self.table.get(key)
        return None if value is None else _number(self._name(key), value)

    def whole(self, key: str) -> int | None:
        value = self.number(key)
        if value is not None and value != int(value):
            raise ValueError(f"`{self._name(key)}` must be a whole number, but is {value}.")
        return None if value is None else int(value)

    def numbers(self, key: str) -> list[float] | None:
        row = self.items(key)
        name = self._name(key)
        return None if row is None else [_number(f"{name}[{k}]", v) for k, v in enumerate(row)]

    def matrix(self, key: str) -> list[list[float]] | None:
        rows = self._rows(key)
        name = self._name(key)
        return rows and [
            [_number(f"{name}[{i}][{k}]", value) for k, value in enumerate(row)]
            for i, row in enumerate(rows)
        ]

    def mask(self, key: str) -> list[list[bool]] | None:
        for i, row in enumerate(self._rows(key) or ()):
            for k, value in enumerate(row):
                if not isinstance(value, bool):
                    raise ValueError(
                        f"`{self._name(key)}[{i}][{k}]` must be true or false, not {_shown(value)}."
                    )
        return self._rows(key)

    def _rows(self, key: str) -> list[list[Any]] | None:
        rows = self.items(key)
        for i, row in enumerate(rows or ()):
            if not isinstance(row, list) or len(row) != len((rows or [[]])[0]):
                raise ValueError(
                    f"`{self._name(key)}` must be a list of rows of one length, but row {i} "
                    "is not like the first."
                )
        return rows

    def _name(self, key: str) -> str:
        return key if self.place == "the file" else f"{key} of {self.place}"


def _problem(fields: _Fields) -> AllocationProblem:
    return AllocationProblem(
        fields.texts("strategies"),
        fields.matrix("seconds") or [],
        fields.matrix("loss") or [],
        fields.number("tradeoff"),
        deadline_seconds=fields.number("deadline_seconds"),
        max_loss=fields.number("max_loss"),
        allowed=fields.mask("allowed"),
        budgets=[_budget(k, b) for k, b in enumerate(fields.items("budgets") or ())],
        coverage=_coverage(fields.table.get("coverage")),
        num_examples=fields.numbers("num_examples"),
        min_participation=fields.number("min_participation"),
        switching_seconds=fields.matrix("switching_seconds"),
        counts=[_count(k, c) for k, c in enumerate(fields.items("counts") or ())],
        groups=_groups(fields),
        clients=fields.items("clients") and fields.texts("clients"),
    )


def _budget(index: int, table: object) -> Budget:
    fields = _Fields.of(f"budgets[{index}]", table, _BUDGET, _BUDGET)
    usage, limit = fields.matrix("usage") or [], fields.number("limit") or 0.0
    return Budget(fields.text("resource"), usage, limit)


def _count(index: int, table: object) -> Count:
    fields = _Fields.of(f"counts[{index}]", table, _COUNT, ("strategies",))
    return Count(fields.texts("strategies"), fields.whole("at_least") or 0, fields.whole("at_most"))


def _coverage(table: object) -> Coverage | None:
    if table is None:
        return None
    fields = _Fields.of("coverage", table, _COVERAGE, _COVERAGE[:3])
    return Coverage(
        fields.matrix("label_counts") or [],
        fields.numbers("teaches") or [],
        fields.matrix("loss_curve") or [],
        fields.numbers("population"),
        fields.numbers("carried"),
        fields.number("unevenness_price") or 0.0,
    )


def _groups(fields: _Fields) -> list[str | None] | None:
    groups = fields.items("groups")
    for k, name in enumerate(groups or ()):
        if name is not None and not isinstance(name, str):
            raise ValueError(f"`groups[{k}]` must be a text or null, but is {_shown(name)}.")
    return groups


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(
            f"`{name}` must be a number, but is {_shown(value)}. Write for example 1.5."
        )
    if not 0 <= value <= sys.float_info.max:
        raise ValueError(f"`{name}` must be finite and >= 0, but is {_shown(value)}.")
    return float(value)


def _shown(value: object) -> str:
    """A value as JSON, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
