"""Reads an allocation problem from a long CSV: one row a client and strategy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..allocator import AllocationProblem, Budget, Coverage, Method, Strategy, fitted_loss, teaches
from ..allocator.arrays import FloatArray
from ..fl_core.text_file import Source, csv_lines

_NEEDED = ("client", "strategy", "seconds", "loss")
_MAY = ("allowed", "group", "switching_seconds")
_UNITS = ("bytes", "bits", "joules", "flops", "seconds")
_ENDINGS = [("_", unit) for unit in _UNITS]
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_LABELS = ("client", "class", "count")


@dataclass(frozen=True)
class CsvTerms:
    """What a CSV of clients and strategies does not hold.

    Args:
        limits: Of each resource's column that is a budget.
        labels: A CSV of client, class, count; no coverage term where None.
        deployed: Bits that will be deployed, as a ptq or qat strategy; the menu's where None.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    labels: Source | None = None
    deployed: str | None = None


def unlimited_resources(source: Source, terms: CsvTerms) -> list[str]:
    """Columns of resources without a limit, which do not count."""
    _, header = next(csv_lines(source), (0, []))
    return [c for c in header if c not in (*_NEEDED, *_MAY) and c not in terms.limits]


def problem_from_csv(source: Source, terms: CsvTerms) -> AllocationProblem:
    r"""The problem of a CSV, without a goal; a client's strategy that lacks is not allowed.

    Clients and strategies keep the order in which they appear.

    Args:
        source: The text.
        terms: Limits and labels.

    Raises:
        ValueError: If a column lacks or is unknown, a value breaks a rule, or a row stands twice.

    Example:
        >>> rows = "client,strategy,seconds,loss\na,skip,0,.1\na,qat-w2a2,2,0\nb,qat-w2a2,3,0"
        >>> problem_from_csv(Source("fleet.csv", rows), CsvTerms()).allowed
        array([[ True,  True],
               [False,  True]])
    """
    rows = _Rows(source, terms.limits)
    clients, menu = list(rows.clients), tuple(rows.menu)
    if not rows.cells:
        raise ValueError(f"{source.name}: must have a row below its header, but has none.")
    shape = (len(clients), len(menu))
    place = np.array([(client, strategy) for client, strategy, _ in rows.cells], dtype=np.int64)
    values = np.array([numbers for _, _, numbers in rows.cells])

    def table(column: str) -> FloatArray:
        filled = np.zeros(shape)
        filled[place[:, 0], place[:, 1]] = values[:, rows.numbers.index(column)]
        return filled

    allowed = np.zeros(shape, dtype=bool)
    allowed[place[:, 0], place[:, 1]] = rows.allowed
    try:
        return AllocationProblem(
            menu,
            table("seconds"),
            table("loss"),
            allowed=allowed,
            budgets=[Budget(name, table(name), limit) for name, limit in terms.limits.items()],
            coverage=_coverage(terms, rows.clients, menu),
            switching_seconds=table("switching_seconds")
            if "switching_seconds" in rows.numbers
            else None,
            groups=rows.groups if any(rows.groups) else None,
            clients=clients,
        )
    except ValueError as error:
        raise ValueError(f"{source.name}: {error}") from None


class _Rows:
    """The rows of a CSV, checked one by one."""

    def __init__(self, source: Source, limits: Mapping[str, float]) -> None:
        self._source = source
        lines = csv_lines(source)
        _, header = next(lines, (0, []))
        _check_header(source, header, limits)
        self.numbers = [c for c in header if c in ("seconds", "loss", "switching_seconds", *limits)]
        self.clients: dict[str, int] = {}
        self.menu: dict[Strategy, int] = {}
        self.groups: list[str | None] = []
        self.cells: list[tuple[int, int, list[float]]] = []
        self.allowed: list[bool] = []
        self._strategies: dict[str, Strategy] = {}
        self._seen: dict[tuple[int, int], int] = {}
        for line, values in lines:
            self._add(line, dict(zip(header, values, strict=True)))

    def _add(self, line: int, row: Mapping[str, str]) -> None:
        client = self._client(line, row)
        strategy = self._strategy(line, row["strategy"])
        column = self.menu.setdefault(strategy, len(self.menu))
        if before := self._seen.get((client, column)):
            raise ValueError(
                f"{self._source.at(line)}: client {row['client']!r} with {strategy} stands in line "
                f"{before} already. Leave one out."
            )
        self._seen[client, column] = line
        allowed = self._truth(line, row.get("allowed", "true"))
        numbers = [
            0.0 if not allowed and not row[name] else _number(self._source, line, name, row[name])
            for name in self.numbers
        ]
        if strategy.is_skip and numbers[self.numbers.index("seconds")] != 0:
            raise ValueError(
                f"{self._source.at(line)}: `seconds` must be 0 for skip, but is {row['seconds']}. "
                "A client that skips takes no time."
            )
        self.cells.append((client, column, numbers))
        self.allowed.append(allowed)

    def _client(self, line: int, row: Mapping[str, str]) -> int:
        name, group = row["client"], row.get("group") or None
        if not name:
            raise ValueError(f"{self._source.at(line)}: `client` must be a name, but is empty.")
        client = self.clients.setdefault(name, len(self.clients))
        if client == len(self.groups):
            self.groups.append(group)
        elif self.groups[client] != group:
            raise ValueError(
                f"{self._source.at(line)}: `group` of client {name!r} must be the same in all of "
                f"its rows, but is {group or ''!r} here and {self.groups[client] or ''!r} before."
            )
        return client

    def _strategy(self, line: int, text: str) -> Strategy:
        if text not in self._strategies:
            try:
                self._strategies[text] = Strategy.parse(text)
            except ValueError as error:
                raise ValueError(f"{self._source.at(line)}: {error}") from None
        return self._strategies[text]

    def _truth(self, line: int, text: str) -> bool:
        if text.lower() not in _TRUTH:
            raise ValueError(
                f"{self._source.at(line)}: `allowed` must be true or false, but is {text!r}."
            )
        return _TRUTH[text.lower()]


def _check_header(source: Source, header: Sequence[str], limits: Mapping[str, float]) -> None:
    listed = ", ".join(map(repr, header))
    if missing := [c for c in _NEEDED if c not in header]:
        raise ValueError(
            f"{source.name}: the header must have the columns {', '.join(_NEEDED)}, separated by "
            f"commas, but {', '.join(missing)} lacks; it has {listed}."
        )
    if doubles := sorted({c for c in header if header.count(c) > 1}):
        raise ValueError(f"{source.name}: columns must differ, but {doubles} stand there twice.")
    for column in header:
        is_resource = column in limits or column.rpartition("_")[1:] in _ENDINGS
        if column not in (*_NEEDED, *_MAY) and not is_resource:
            raise ValueError(
                f"{source.name}: column {column!r} is not known. A column must be one of "
                f"{', '.join((*_NEEDED, *_MAY))}, or a resource whose name ends in its unit "
                f"(_{', _'.join(_UNITS)}). Rename it or leave it out."
            )
    for resource in limits:
        if resource not in header or resource in (*_NEEDED, *_MAY):
            own = [c for c in header if c not in (*_NEEDED, *_MAY)]
            raise ValueError(
                f"--limit {resource}: {source.name} must have that resource as a column, but has "
                f"{', '.join(own) or 'none'}."
            )


def _number(source: Source, line: int, name: str, text: str) -> float:
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(
            f"{source.at(line)}: `{name}` must be a finite number >= 0, but is {text!r}. Write for "
            "example 1.5; leave out the row of what a client cannot do."
        )
    return value


def _coverage(
    terms: CsvTerms, clients: Mapping[str, int], menu: tuple[Strategy, ...]
) -> Coverage | None:
    """Coverage of the labels by the fitted curve."""
    if terms.labels is None:
        return None
    counts, fitted = _label_counts(terms.labels, clients), fitted_loss()
    return Coverage(
        counts,
        teaches(menu, _deployed(terms, menu)),
        fitted.loss_curve,
        unevenness_price=fitted.unevenness_price,
    )


def _deployed(terms: CsvTerms, menu: tuple[Strategy, ...]) -> Strategy:
    quantized = [s for s in menu if s.method in (Method.PTQ, Method.QAT)]
    bits = {(s.weight_bits, s.activation_bits): s for s in quantized}
    if terms.deployed is None:
        if len(bits) != 1:
            raise ValueError(
                "--labels needs to know which precision is deployed, but the menu "
                f"{[str(s) for s in menu]} has {len(bits) or 'none'}. Give for example "
                "--deployed qat-w2a2."
            )
        return next(iter(bits.values()))
    deployed = Strategy.parse(terms.deployed)
    if (deployed.weight_bits, deployed.activation_bits) not in bits:
        raise ValueError(
            f"--deployed {terms.deployed}: must have the bits of a ptq or qat strategy of the menu "
            f"{[str(s) for s in menu]}."
        )
    return deployed


def _label_counts(source: Source, clients: Mapping[str, int]) -> FloatArray:
    """`(clients, classes)`; zero where a pair lacks."""
    lines = csv_lines(source)
    _, header = next(lines, (0, []))
    if sorted(header) != sorted(_LABELS):
        raise ValueError(
            f"{source.name}: the header must be {', '.join(_LABELS)}, but is "
            f"{', '.join(map(repr, header))}."
        )
    found: dict[tuple[int, str], float] = {}
    for line, values in lines:
        row = dict(zip(header, values, strict=True))
        if row["client"] not in clients:
            raise ValueError(
                f"{source.at(line)}: `client` must be one of the strategies' table, but is "
                f"{row['client']!r}. Leave out its rows."
            )
        key = (clients[row["client"]], row["class"])
        if key in found:
            raise ValueError(
                f"{source.at(line)}: client {row['client']!r} with class {row['class']!r} stands "
                "there twice. Leave one out."
            )
        found[key] = _number(source, line, "count", row["count"])
    classes = {name: k for k, name in enumerate(dict.fromkeys(name for _, name in found))}
    counts = np.zeros((len(clients), len(classes)))
    for (client, name), value in found.items():
        counts[client, classes[name]] = value
    return counts
