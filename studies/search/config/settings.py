"""A search's configuration: read, checked as a whole, printed resolved, digested."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field
from pydantic.dataclasses import dataclass as settings

from ....fl_core.settings.fields import KNOWN_KEYS_ONLY, Count, Positive, Seed, Seeds, Share, Whole
from ...config import AllocationSettings, RunConfig, parse_run, run_text
from ...faults import faults_of, faulty, validate
from ...tables import read_table
from .checks import check_readers, check_space, known_to_model, resolved_range
from .problem_file import ProblemSettings, ProblemTable, read_problem
from .space import CLIENTS, HOPELESS, Params, Space, changed, distributions, enumerated_clients
from .space_table import read_space

ROUND: Final = "round_seconds"
LOSS: Final = "accuracy_loss"
TARGET: Final = "seconds_to_target"
SCALAR = "objective"
"""What is minimised, and measured, where a trade-off makes one objective of two."""

Measure = Literal[
    "round_seconds", "accuracy_loss", "seconds_to_target", "uplink_bytes", "energy_joules"
]
_T = TypeVar("_T")
NO_CHANGE = ("workers", "trials", "screen_trials", "sampler", "seed")
"""Settings that change which trials there are, but not what a trial's values mean."""


@settings(frozen=True, config=KNOWN_KEYS_ONLY)
class SearchSettings:
    """How policies are searched.

    Args:
        evaluate: `training` trains a federation a trial and seed; `model` takes the program's own
            predictions, in milliseconds.
        trials: How many the study shall have, those proposed at the start among them.
        screen_trials: Trials of a search in the model that comes before one that trains; its front
            is tried first. In the model nothing comes before.
        objectives: What is minimised: `accuracy_loss` is 1 less the deployed accuracy where a
            federation is trained, the predicted loss in the model; the others are means of a round,
            or `seconds_to_target`, simulated.
        tradeoff: Seconds per unit of loss; makes one objective of two, a time and accuracy_loss,
            and gives up trials that are worse than the best on the seeds so far.
        seeds: Of the federations; the same for every trial, so that trials are paired.
        sampler: Of Optuna. `gp` learns only from trials that have values, so give it ranges in
            which every policy leaves an allocation; `nsga2` wants hundreds of trials.
        seed: Of the sampler.
        workers: Trials at a time.
        target_accuracy: Deployed accuracy of `seconds_to_target`.
        limits: Upper limits of measures; what exceeds one is infeasible.

    Raises:
        ValueError: If a value breaks its rule, or two do not go together.
    """

    evaluate: Literal["training", "model"] = "training"
    trials: Count = 40
    screen_trials: Annotated[Whole, Field(ge=0)] = 0
    objectives: Annotated[tuple[Measure, ...], Field(min_length=1)] = (ROUND, LOSS)
    tradeoff: Positive | None = None
    seeds: Seeds = (0,)
    sampler: Literal["tpe", "nsga2", "gp", "random"] = "tpe"
    seed: Seed = 0
    workers: Count = 2
    target_accuracy: Share = 0.8
    limits: Mapping[Measure, Positive] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"search.objectives must differ, but are {list(self.objectives)}.")
        if self.tradeoff is not None and (
            len(self.objectives) != 2
            or self.objectives[0] not in (ROUND, TARGET)
            or self.objectives[1] != LOSS
        ):
            raise ValueError(
                f"search.tradeoff makes one objective of [{ROUND!r} or {TARGET!r}, {LOSS!r}], but "
                f"search.objectives = {list(self.objectives)}. Leave one of the two out."
            )
        if self.evaluate == "model" and TARGET in (*self.objectives, *self.limits):
            raise ValueError(
                f'{TARGET}: only training tells. Take evaluate = "training", or {ROUND}.'
            )


@dataclass(frozen=True, eq=False)
class SearchConfig:
    """A search, laid out.

    Args:
        search: How policies are searched.
        space: What a policy may be, by dotted key.
        table: What a trial's values are put into: the whole table of a run, or an allocation's.
        run: The federation and who decides in it; None where a table of clients is planned.
        problem: That table.
    """

    search: SearchSettings
    space: Space
    table: Mapping[str, Any]
    run: RunConfig | None
    problem: ProblemTable | None

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of what is minimised, in order."""
        return self.search.objectives if self.search.tradeoff is None else (SCALAR,)

    @property
    def is_modelled(self) -> bool:
        """Whether trials are evaluated in the model."""
        return self.search.evaluate == "model"

    @property
    def num_clients(self) -> int | None:
        """Of the fleet, as far as the configuration says it; None where all of the data are."""
        if self.run is not None:
            given = self.run.federation.partition.num_clients
            return None if given == "all" else given
        assert self.problem is not None
        return self.problem.problem.num_clients

    @property
    def menu(self) -> tuple[str, ...]:
        """The strategies on offer where a trial does not change them."""
        if self.run is not None:
            return self.run.federation.menu
        assert self.problem is not None
        return tuple(str(s) for s in self.problem.problem.strategies)

    def with_values(self, params: Params) -> RunConfig | AllocationSettings:
        """The configuration of a run, or the allocation for a table, with a trial's values in it.

        Raises:
            ValueError: If a value breaks a rule.
        """
        table = changed(self.table, params)
        if self.run is not None:
            return parse_run(table)
        return validate(AllocationSettings, table["allocation"], "allocation")


def parse_search(table: Mapping[str, Any]) -> SearchConfig:
    """Validates a search: a run's configuration, or `[problem]`, and `[search]`.

    Raises:
        ValueError: If something is missing, unknown or breaks a rule; all faults are listed.
    """
    rest = dict(table)
    given = rest.pop("search", {})
    if not isinstance(given, Mapping):
        raise ValueError(f"search = {given!r}: must be a table.")
    own = {"evaluate": "model", **given} if "problem" in rest else dict(given)
    faults: list[str] = []
    space, wrong = read_space(own.pop("space", {}))
    faults += wrong
    search = _attempt(faults, lambda: validate(SearchSettings, own, "search"))
    base = _attempt(faults, lambda: _base(rest, search))
    if base is not None:
        space = _check(replace(base, space=space), faults)
    if base is None or search is None or faults:
        raise faulty(list(dict.fromkeys(faults)))
    return replace(base, space=space)


def _attempt(faults: list[str], read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except ValueError as error:
        faults += faults_of(error)
        return None


def _base(rest: dict[str, Any], right: SearchSettings | None) -> SearchConfig:
    """The configuration without its space; where [search] has faults, nothing is held to it."""
    search = right or SearchSettings()
    if "problem" not in rest:
        if "seed" in rest:
            raise ValueError(
                f"seed = {rest['seed']!r}: every trial has all of search.seeds. Write seeds = "
                f"[{rest['seed']}] under [search] instead."
            )
        run = parse_run(rest)
        _check_share(run.allocation)
        table = json.loads(run_text(run))
        del table["seed"]
        return SearchConfig(search, {}, table, run, None)
    allocation = validate(AllocationSettings, rest.pop("allocation", {}), "allocation")
    _check_share(allocation)
    problem = read_problem(validate(ProblemSettings, rest.pop("problem"), "problem"))
    if rest:
        raise ValueError(
            f"{next(iter(rest))}: [problem] stands in place of a federation; beside it there are "
            "[allocation] and [search] only. Leave one of the two out."
        )
    if right is not None and (search.evaluate != "model" or len(search.seeds) > 1):
        raise ValueError(
            "problem: a table holds no data to train on and is the same for every seed. Take "
            'evaluate = "model" and one seed, or a federation in place of [problem].'
        )
    return SearchConfig(search, {}, {"allocation": asdict(allocation)}, None, problem)


def _check_share(allocation: AllocationSettings) -> None:
    if allocation.share == "fedhq":
        raise ValueError(
            "allocation.share = 'fedhq': needs another arm to compare with. Give a number."
        )


def _check(config: SearchConfig, faults: list[str]) -> Space:
    """Adds the faults of a space; returns it with ranges of whole numbers told from others."""

    def parse(params: Params) -> AllocationSettings:
        read = config.with_values(params)
        allocation = read.allocation if isinstance(read, RunConfig) else read
        _check_share(allocation)
        return allocation

    search, base = config.search, parse({})
    faults += check_space(
        config.space, parse, config.menu, modelled=config.is_modelled, table=config.run is None
    )
    faults += check_readers(config.space, base)
    screens = search.screen_trials and not config.is_modelled
    if screens and not any(map(known_to_model, config.space)):
        faults.append(
            f"search.screen_trials = {search.screen_trials}: the model knows none of the keys of "
            "search.space. Leave it out."
        )
    if faults:
        return config.space
    return {key: resolved_range(key, values, parse) for key, values in config.space.items()}


def resolved_search(config: SearchConfig) -> dict[str, Any]:
    """The whole configuration with all defaults, as JSON values; `parse_search` reads it."""
    table = dict(config.table)
    if config.problem is not None:
        table["problem"] = asdict(config.problem.settings)
    space = {key: asdict(values) for key, values in config.space.items()}
    resolved = {**table, "search": {**asdict(config.search), "space": space}}
    plain: dict[str, Any] = json.loads(json.dumps(resolved, allow_nan=False))
    return plain


def config_digest(config: SearchConfig) -> str:
    """A digest of all that changes what a trial's values mean.

    Trials, workers and who proposes trials are not among it: a search may go on with others.
    """
    resolved = resolved_search(config)
    for name in NO_CHANGE:
        del resolved["search"][name]
    if config.problem is not None:
        del resolved["problem"]["path"], resolved["problem"]["labels"]  # its digest stays
    return digest_of(resolved)


def digest_of(values: object) -> str:
    """A digest of JSON values.

    Example:
        >>> digest_of({"a": 1, "b": [2.5]}) == digest_of({"b": (2.5,), "a": 1})
        True
    """
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_search_config(place: str, overrides: Sequence[str] = ()) -> SearchConfig:
    """Reads a TOML file, or of the name `demo` the one that ships; warns of a hopeless space.

    Args:
        place: The file.
        overrides: Texts such as `search.trials=100`.

    Raises:
        ValueError: If the file cannot be read or has faults.
    """
    if place == "demo":
        with resources.as_file(resources.files(__package__).joinpath("demo.toml")) as path:
            table = read_table(path, overrides)
    else:
        table = read_table(Path(place), overrides)
    config = parse_search(table)
    if CLIENTS in config.space and (told := _told_of_clients(config)):
        warnings.warn(f"search.space.{CLIENTS}: {told}", UserWarning, stacklevel=2)
    return config


def _told_of_clients(config: SearchConfig) -> str | None:
    """Why a category for each client will not do; None where there are too few to matter."""
    count = config.num_clients
    if count is None:
        return f"is one parameter for each client. {HOPELESS}"
    return enumerated_clients(distributions(config.space, count), count)
