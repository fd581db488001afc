"""Reads TOML configurations; every error names the key, the value and the rule."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ..fl_core.settings import Count, FederationSettings, Positive, Share

_STRICT = ConfigDict(extra="forbid", strict=False)
_T = TypeVar("_T")

SolverName = Literal[
    "fedhq", "uniform", "random", "hardware-only", "data-only", "coarse", "milp", "cvx"
]


@dataclass(frozen=True, config=_STRICT)
class AllocationSettings:
    """Who decides, and within which limits.

    Args:
        solver: `fedhq` picks the fastest point of the frontier within `pick_loss` of the best;
            `milp` and `cvx` need a goal: a tradeoff, or one of deadline and max_loss.
        strategy: What uniform gives to all, and what the other rules give to some.
        otherwise: What the rules give to the rest.
        share: Part of the clients that random and data-only give `strategy`; `fedhq`: as many as
            the fedhq arm of the same comparison does.
        pick_loss: See `solver`; the fitted value where None.
        tradeoff: Seconds per unit of loss.
        deadline_seconds: Upper limit of a round.
        max_loss: Upper limit of the predicted loss.
        uplink_bytes: Upper limit of what a round's clients send together.
        min_participation: Least share of the cohort's examples that must not skip.
        carry: Share of a round's coverage that still counts in the next.
    """

    solver: SolverName = "fedhq"
    strategy: str = "qat-w2a2"
    otherwise: str = "ptq-w2a2"
    share: Share | Literal["fedhq"] = 0.5
    pick_loss: Share | None = None
    tradeoff: Positive | None = None
    deadline_seconds: Positive | None = None
    max_loss: Share | None = None
    uplink_bytes: Positive | None = None
    min_participation: Share | None = None
    carry: Annotated[float, Field(ge=0, lt=1)] = 0.0


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """One federation and who decides in it."""

    federation: FederationSettings
    allocation: AllocationSettings


@dataclass(frozen=True, config=_STRICT)
class CompareSettings:
    """How arms are compared.

    Args:
        seeds: Every arm runs once with each; arms are paired by seed.
        target_accuracy: Deployed accuracy whose first simulated time is reported.
        workers: Runs at a time, each in a process of one thread.
    """

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    target_accuracy: Share = 0.8
    workers: Count = 2


@dataclass(frozen=True)
class Job:
    """One run of a comparison: an arm in a scenario with a seed."""

    scenario: str
    arm: str
    seed: int
    config: RunConfig


@dataclass(frozen=True)
class CompareConfig:
    """A comparison, laid out.

    Args:
        settings: How arms are compared.
        scenarios: Names, in order.
        arms: Names, in order.
        jobs: All runs, seed by seed.
    """

    settings: CompareSettings
    scenarios: tuple[str, ...]
    arms: tuple[str, ...]
    jobs: tuple[Job, ...]


def read_table(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Reads a TOML file and applies overrides such as `training.rounds=5`.

    Raises:
        ValueError: If the file cannot be read or an override is not `key=value`.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no valid TOML: {error}.") from None
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"an override must be `key=value`, but got {override!r}.")
        _insert(table, key.strip().split("."), _read_value(text.strip()))
    return table


def parse_run(table: Mapping[str, Any]) -> RunConfig:
    """Validates the configuration of one run.

    Raises:
        ValueError: If a key is unknown or a value breaks a rule; all faults are listed.
    """
    rest = dict(table)
    allocation = rest.pop("allocation", {})
    for key in ("compare", "arms", "scenarios"):
        if key in rest:
            raise ValueError(f"`{key}` belongs to a comparison. Use `fedhq compare`.")
    return RunConfig(
        _validate(FederationSettings, rest, ""),
        _validate(AllocationSettings, allocation, "allocation."),
    )


def parse_compare(table: Mapping[str, Any]) -> CompareConfig:
    """Validates a comparison: a run's configuration, `[[arms]]`, and optional `[[scenarios]]`.

    A scenario overrides the common part, an arm both, table by table.

    Raises:
        ValueError: If a key is unknown, a value breaks a rule, or names are missing or doubled.
    """
    base = dict(table)
    settings = _validate(CompareSettings, base.pop("compare", {}), "compare.")
    arms = _named("arms", base.pop("arms", None))
    scenarios = _named("scenarios", base.pop("scenarios", [{"name": "default"}]))
    jobs = []
    for seed in settings.seeds:
        for scenario, changes in scenarios.items():
            for arm, own in arms.items():
                merged = _merge(_merge(_merge(base, changes), own), {"seed": seed})
                jobs.append(Job(scenario, arm, seed, parse_run(merged)))
    return CompareConfig(settings, tuple(scenarios), tuple(arms), tuple(jobs))


def resolved(config: RunConfig) -> dict[str, Any]:
    """The whole configuration with all defaults, ready for JSON."""
    return {**asdict(config.federation), "allocation": asdict(config.allocation)}


def _named(key: str, tables: object) -> dict[str, dict[str, Any]]:
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        raise ValueError(f"`[[{key}]]` must be given at least once, but got {tables!r}.")
    named: dict[str, dict[str, Any]] = {}
    for k, given in enumerate(tables):
        table = dict(given)
        name = table.pop("name", None)
        if not isinstance(name, str) or not name or name in named or "/" in name:
            raise ValueError(f"{key}[{k}].name = {name!r}: must be a text of its own, without '/'.")
        named[name] = table
    return named


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _insert(table: dict[str, Any], path: list[str], value: object) -> None:
    for key in path[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise ValueError(f"`{'.'.join(path)}` cannot be set: {key!r} is no table.")
    table[path[-1]] = value


def _read_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _validate(kind: type[_T], table: object, prefix: str) -> _T:
    try:
        return TypeAdapter(kind).validate_python(table)
    except ValidationError as error:
        lines = [_line(kind, dict(fault), prefix) for fault in error.errors()]
    raise ValueError("the configuration has faults:\n" + "\n".join(f"  {line}" for line in lines))


def _line(kind: type, fault: Mapping[str, Any], prefix: str) -> str:
    place = [str(part) for part in fault["loc"]]
    key = prefix + ".".join(place)
    if fault["type"] == "unexpected_keyword_argument":
        known = _known_keys(kind, place[:-1])
        near = difflib.get_close_matches(place[-1], known, 1)
        hint = f" Did you mean `{near[0]}`?" if near else f" Known here: {', '.join(known)}."
        return f"{key} = {fault['input']!r}: unknown key.{hint}"
    if fault["type"] == "missing":
        return f"{key}: is required."
    return f"{key} = {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}."


def _known_keys(kind: type, place: Sequence[str]) -> list[str]:
    """Names of the fields at a place inside nested settings; list indices are stepped over."""
    for part in place:
        if not part.isdigit():
            hint = get_type_hints(kind)[part]
            nested = [hint, *get_args(hint), *(a for h in get_args(hint) for a in get_args(h))]
            kind = next(c for c in nested if isinstance(c, type) and is_dataclass(c))
    return [f.name for f in fields(kind)]
