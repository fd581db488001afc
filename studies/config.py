"""Reads TOML configurations; every error names the key, the value and the rule."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..allocator import Method, Solver, parse_menu
from ..fl_core.settings import FederationSettings
from ..fl_core.settings.fields import BelowOne, Count, Positive, Seeds, Share, StrategyText
from .faults import validate
from .tables import merge

_KNOWN_KEYS_ONLY = ConfigDict(extra="forbid")
_NAME = re.compile(r"[\w-][\w .-]*")
COMPARISON_KEYS = ("compare", "arms", "scenarios")


SolverName = Literal[
    "fedhq",
    "uniform",
    "random",
    "hardware-only",
    "data-only",
    "coarse",
    "exact",
    "dual",
    "milp",
    "cvx",
]

_RULES = ("uniform", "random", "hardware-only", "data-only", "coarse")


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class AllocationSettings:
    """Who decides, and within which limits.

    Args:
        solver: `fedhq` is the default rule: it picks the fastest point of the frontier within
            `pick_loss` of the best, or with a tradeoff the best by that; `milp` and `cvx` need a
            goal: a tradeoff, or one of deadline and max_loss.
        strategy: What uniform gives to all, and what the other rules give to some.
        otherwise: What the rules give to the rest.
        share: Part of the clients that random and data-only give `strategy`; `fedhq`: as many as
            the fedhq arm of the same comparison does, on average over its rounds.
        pick_loss: See `solver`; where None the fitted value, or 0 with `total_seconds`; before a
            `finish` what quantization costs does not count then.
        tradeoff: Seconds per unit of loss.
        deadline_seconds: Upper limit of a round.
        max_loss: Upper limit of the predicted loss.
        uplink_bytes: Upper limit of what a round's clients send together.
        energy_joules: Upper limit of what a round's clients need together to train; every device
            must have its `active_watts`.
        min_participation: Least share of the cohort's examples that must not skip.
        carry: Share of a round's coverage that still counts in the next.
        total_seconds: Upper limit of what the training's rounds take together: each gets what a
            schedule gives it, and the loss is minimised within.
        finish: Share of the rounds, the last ones, that give nothing up for speed, and mend what
            faster ones left out; 0.25 is what `fedhq study headline` judges.
        resting: Whether a client that just took part may skip at a lower price.
    """

    solver: SolverName = "fedhq"
    strategy: StrategyText = "qat-w2a2"
    otherwise: StrategyText = "ptq-w2a2"
    share: Share | Literal["fedhq"] = 0.5
    pick_loss: Share | None = None
    tradeoff: Positive | None = None
    deadline_seconds: Positive | None = None
    max_loss: Share | None = None
    uplink_bytes: Positive | None = None
    energy_joules: Positive | None = None
    min_participation: Share | None = None
    carry: BelowOne = 0.0
    total_seconds: Positive | None = None
    finish: Share = 0.0
    resting: Annotated[bool, Field(strict=True)] = False


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class RunConfig:
    """One federation and who decides in it."""

    federation: FederationSettings
    allocation: AllocationSettings


@dataclass(frozen=True, config=_KNOWN_KEYS_ONLY)
class CompareSettings:
    """How arms are compared.

    Args:
        seeds: Every arm runs once with each, all different; arms are paired by seed.
        target_accuracy: Deployed accuracy whose first simulated time is reported.
        workers: Runs at a time, each in a process of one thread.
    """

    seeds: Seeds = (0,)
    target_accuracy: Share = 0.8
    workers: Count = 2


@plain_dataclass(frozen=True)
class Job:
    """One run of a comparison: an arm in a scenario with a seed.

    Args:
        scenario: Its scenario.
        arm: Its arm.
        seed: Its seed.
        config: Its federation and who decides.
        solver: Who decides instead of whom the configuration names, where it is not None.
    """

    scenario: str
    arm: str
    seed: int
    config: RunConfig
    solver: Solver | None = None


@plain_dataclass(frozen=True)
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


def parse_run(table: Mapping[str, Any]) -> RunConfig:
    """Validates the configuration of one run.

    Raises:
        ValueError: If a key is unknown or a value breaks a rule; all faults are listed.
    """
    rest = dict(table)
    allocation = rest.pop("allocation", {})
    for key in COMPARISON_KEYS:
        if key in rest:
            raise ValueError(f"`{key}` belongs to a comparison. Use `fedhq compare`.")
    federation = validate(FederationSettings, rest)
    _check_deployment(federation)
    settings = validate(AllocationSettings, allocation, "allocation")
    _check_finish(settings)
    return RunConfig(federation, settings)


def _check_finish(settings: AllocationSettings) -> None:
    """A rule that finishes is another rule: all-PTQ would not be all-PTQ."""
    if settings.finish and settings.solver in _RULES:
        raise ValueError(
            f"allocation.finish = {settings.finish:g} needs a solver that weighs the loss, but "
            f"allocation.solver = {settings.solver!r} is a fixed rule. Give the finish to the arm "
            "of `fedhq` (or exact, dual, milp, cvx) alone."
        )


def _check_deployment(settings: FederationSettings) -> None:
    """Without a strategy at the deployment's bits nothing teaches them, and nobody would notice."""
    bits = (settings.weight_bits, settings.activation_bits)
    quantized = [s for s in parse_menu(settings.menu) if s.method in (Method.PTQ, Method.QAT)]
    if quantized and bits not in [(s.weight_bits, s.activation_bits) for s in quantized]:
        raise ValueError(
            f"menu = {list(settings.menu)}: must offer ptq or qat at the deployment's bits, "
            f"weight_bits = {bits[0]} and activation_bits = {bits[1]}. "
            f"Add for example 'qat-w{bits[0]}a{bits[1]}', or change the deployment's bits."
        )


def parse_compare(table: Mapping[str, Any]) -> CompareConfig:
    """Validates a comparison: a run's configuration, `[[arms]]`, and optional `[[scenarios]]`.

    A scenario overrides the common part, an arm both, table by table.

    Raises:
        ValueError: If a key is unknown, a value breaks a rule, or names are missing or doubled.
    """
    base = dict(table)
    settings = validate(CompareSettings, base.pop("compare", {}), "compare")
    arms = _named("arms", base.pop("arms", None))
    scenarios = _named("scenarios", base.pop("scenarios", [{"name": "default"}]))
    jobs = []
    for seed in settings.seeds:
        for scenario, changes in scenarios.items():
            for arm, own in arms.items():
                place = f"arm {arm!r} in scenario {scenario!r}"
                merged = merge(merge(base, changes), own)
                jobs.append(Job(scenario, arm, seed, _parse_job(merged, seed, place)))
    return CompareConfig(settings, tuple(scenarios), tuple(arms), tuple(jobs))


def _parse_job(table: dict[str, Any], seed: int, place: str) -> RunConfig:
    if "seed" in table:
        raise ValueError(
            f"{place}: seed = {table['seed']!r} would be overwritten: the seeds of a comparison "
            f"are `compare.seeds`. Write seeds = [{table['seed']}] under [compare] instead."
        )
    try:
        return parse_run(table | {"seed": seed})
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def resolved(config: RunConfig) -> dict[str, Any]:
    """The whole configuration with all defaults: JSON values, infinities among them."""
    return {**asdict(config.federation), "allocation": asdict(config.allocation)}


def run_text(config: RunConfig) -> str:
    """The whole configuration as JSON, which `parse_run` reads; what is unlimited is null."""
    return _to_json(resolved(config))


def comparison_text(config: CompareConfig) -> str:
    """The whole comparison as JSON: how arms are compared, and every run's configuration."""
    runs = [
        {"scenario": j.scenario, "arm": j.arm, "seed": j.seed, "configuration": resolved(j.config)}
        for j in config.jobs
    ]
    return _to_json({"compare": asdict(config.settings), "runs": runs})


def _to_json(value: object) -> str:
    return json.dumps(_without_infinities(value), indent=2, allow_nan=False) + "\n"


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinities(inner) for inner in value]
    return None if value == float("inf") else value


def _named(key: str, tables: object) -> dict[str, dict[str, Any]]:
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        raise ValueError(f"`[[{key}]]` must be given at least once, but got {tables!r}.")
    named: dict[str, dict[str, Any]] = {}
    for k, given in enumerate(tables):
        table = dict(given)
        name = table.pop("name", None)
        if not isinstance(name, str) or name in named or not _NAME.fullmatch(name):
            raise ValueError(
                f"{key}.{k}.name = {name!r}: must be a text of its own, of letters, digits, "
                "blanks, '.', '_' and '-', that does not start with '.' or a blank: a folder is "
                "named so."
            )
        named[name] = table
    return named
