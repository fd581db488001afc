"""What an ablation compares: reads its TOML; every error names the key, the value and the rule."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from ...fl_core.settings.fields import KNOWN_KEYS_ONLY, Count, Distinct, Positive, Seed
from ..faults import validate
from ..tables import read_table
from ..toml_text import toml_text
from .contestants import EVERY_BACKEND, check_name, with_backends
from .end_to_end import EndToEndSettings
from .problems import check_family, check_place

DEFAULT = "default"
"""Names the configuration that ships."""


def _check_solver(name: str) -> str:
    return name if name == EVERY_BACKEND else check_name(name)


_Some = Field(min_length=1)
_Families = Annotated[tuple[Annotated[str, AfterValidator(check_family)], ...], Distinct]
_Places = Annotated[tuple[Annotated[str, AfterValidator(check_place)], ...], Distinct]
_Solvers = Annotated[tuple[Annotated[str, AfterValidator(_check_solver)], ...], _Some, Distinct]


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class GridSettings:
    """The grid: every solver on every problem within every limit.

    Args:
        solvers: Names of solvers; `cvxpy:*` stands for all of cvxpy's mixed-integer backends that
            are installed. One whose library is missing is measured as missing.
        families: Families of problems, as `federated`, or `federated, separable` for the variant
            without what couples clients.
        recorded: Tables of federations: names of those that ship, JSON files as `fedhq plan` reads,
            or TOML files of runs.
        sizes: Clients of the families' problems.
        seeds: Of the families' problems.
        time_limits_seconds: What solvers are given. One that does not end is ended.
        workers: Processes that measure, each on a core of its own where there are as many.

    Raises:
        ValueError: If there is no problem, or a value breaks its rule.
    """

    solvers: _Solvers
    families: _Families = ()
    recorded: _Places = ()
    sizes: Annotated[tuple[Count, ...], Distinct] = (10, 100)
    seeds: Annotated[tuple[Seed, ...], Distinct] = (0, 1, 2)
    time_limits_seconds: Annotated[tuple[Positive, ...], _Some, Distinct] = (2.0,)
    workers: Count = 2

    def __post_init__(self) -> None:
        if not self.recorded and not (self.families and self.sizes and self.seeds):
            raise ValueError(
                "`grid` must hold a problem, but has none: name `families` with `sizes` and "
                "`seeds`, or tables that are `recorded`."
            )


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class AblationSettings:
    """An ablation.

    Args:
        grid: Solvers against problems.
        end_to_end: What some of the solvers make of a short federation; nothing where None.
    """

    grid: GridSettings
    end_to_end: EndToEndSettings | None = None


def read_ablation(place: str, overrides: Sequence[str] = ()) -> AblationSettings:
    """Reads an ablation's configuration.

    Args:
        place: A TOML file, or `default` for the one that ships.
        overrides: Texts such as `grid.sizes=[10]`.

    Raises:
        ValueError: If it cannot be read, a key is unknown or a value breaks a rule.
    """
    if place != DEFAULT:
        return parse_ablation(read_table(Path(place), overrides))
    with resources.as_file(resources.files(__package__).joinpath("default.toml")) as path:
        return parse_ablation(read_table(path, overrides))


def parse_ablation(table: Mapping[str, Any]) -> AblationSettings:
    """Validates a configuration; backends are named one by one from here on.

    Raises:
        ValueError: If a key is unknown or a value breaks a rule; all faults are listed.

    Example:
        >>> table = {"grid": {"solvers": ["sweep", "dual"], "families": ["ties"]}}
        >>> parse_ablation(table).grid.sizes
        (10, 100)
    """
    settings = validate(AblationSettings, table)
    solvers = with_backends(settings.grid.solvers)
    return replace(settings, grid=replace(settings.grid, solvers=solvers))


def resolved_ablation(settings: AblationSettings) -> str:
    """The whole configuration with all defaults, as JSON."""
    return json.dumps(asdict(settings), indent=2, allow_nan=False) + "\n"


def ablation_toml(settings: AblationSettings) -> str:
    """The same as TOML, for people: `read_ablation` reads it from a file.

    Example:
        >>> table = {"grid": {"solvers": ["sweep"], "families": ["ties"], "sizes": [5]}}
        >>> print(ablation_toml(parse_ablation(table)).splitlines()[0])
        grid.solvers = ["sweep"]
    """
    return toml_text(asdict(settings))
