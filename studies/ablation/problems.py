"""The problems of an ablation: families of any size and seed, and tables recorded from federations.

A recorded table is kept in the study's folder as JSON, so that whoever has the folder has the
problems; its name holds a digest of the numbers, so that another table is another problem.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

from ...allocator import AllocationProblem
from ...allocator.instances import FAMILIES, SEPARABLE_FAMILIES
from ...allocator.instances.families import Family
from ..plan_files import read_source
from ..plan_json import problem_from_json, problem_to_json
from ..tables import read_table
from ..writing import write_at_once

SEPARABLE = ", separable"
"""What stands behind the name of a family whose separable variant is meant."""
RECORDED = "recorded"
"""The family of all recorded tables."""
SHIPPED = ("digits", "mnist5k", "pydoc", "smartwatch")
"""The recorded tables that ship; `record_tables` made them."""
SHIPPED_FOLDER = Path(str(resources.files(__package__).joinpath("recorded")))

_FOLDER = "problems"
_KEPT_IN_MEMORY = 4


def all_families() -> Mapping[str, Family]:
    """Every family, and its separable variant where there is one."""
    return {**FAMILIES, **{name + SEPARABLE: made for name, made in SEPARABLE_FAMILIES.items()}}


@dataclass(frozen=True)
class ProblemSource:
    """Where a problem comes from: enough to build it in any process.

    Args:
        family: Of `all_families`, or `RECORDED`.
        clients: How many.
        seed: Of the family; 0 for a recorded one.
        name: Unique in the study.
        path: Of a recorded one's JSON; None for the others.
    """

    family: str
    clients: int
    seed: int
    name: str
    path: Path | None = None

    @classmethod
    def of_family(cls, family: str, clients: int, seed: int) -> ProblemSource:
        """A problem of a family.

        Example:
            >>> ProblemSource.of_family("ties, separable", 10, 0).name
            'ties, separable, 10 clients, seed 0'
        """
        return cls(family, clients, seed, f"{family}, {clients} clients, seed {seed}")

    def build(self) -> AllocationProblem:
        """The problem; the last few are kept, as several solvers get each."""
        return _build(self)


@lru_cache(_KEPT_IN_MEMORY)
def _build(source: ProblemSource) -> AllocationProblem:
    if source.path is None:
        return all_families()[source.family](source.seed, source.clients)
    return problem_from_json(read_source(str(source.path)))


@dataclass(frozen=True, eq=False)
class Recorded:
    """A table that was read.

    Args:
        name: Its file's name with a digest of its numbers.
        problem: What it says.
    """

    name: str
    problem: AllocationProblem

    def keep(self, folder: Path) -> ProblemSource:
        """Writes it into a study's folder, if it is not there yet."""
        path = folder / _FOLDER / f"{self.name}.json"
        if not path.exists():
            write_at_once(path, problem_to_json(self.problem))
        return ProblemSource(RECORDED, self.problem.num_clients, 0, self.name, path)


def read_recorded(places: Sequence[str]) -> tuple[Recorded, ...]:
    """Reads recorded tables.

    Args:
        places: Each the name of one that ships, a JSON as `fedhq plan` reads, or the TOML of a run,
            whose federation is built.

    Raises:
        ValueError: If one cannot be read, does not say what to minimise, or is there twice.

    Example:
        >>> [(t.problem.num_clients, t.problem.tradeoff) for t in read_recorded(["digits"])]
        [(40, 2.0)]
    """
    tables: dict[str, Recorded] = {}
    for place in places:
        try:
            problem = _read(check_place(place))
        except OSError as error:
            raise ValueError(f"grid.recorded: cannot read {place}: {error.strerror}.") from None
        if not problem.has_goal:
            raise ValueError(
                f"grid.recorded: {place} must say what to minimise, but does not. Give it a "
                "tradeoff (of a run, allocation.tradeoff), or one of a deadline and a maximum loss."
            )
        digest = hashlib.sha256(problem_to_json(problem).encode()).hexdigest()[:8]
        name = f"{Path(place).stem}@{digest}"
        if name in tables:
            raise ValueError(f"grid.recorded: {place} holds a table that is there already.")
        tables[name] = Recorded(name, problem)
    return tuple(tables.values())


def check_place(place: str) -> str:
    """The place itself, if it can be one of a recorded table.

    Raises:
        ValueError: If it is neither a name of `SHIPPED` nor a JSON or TOML file.
    """
    if place in SHIPPED or place.endswith((".json", ".toml")):
        return place
    near = difflib.get_close_matches(place, SHIPPED, 1)
    hint = f"Did you mean {near[0]!r}?" if near else f"These ship: {', '.join(SHIPPED)}."
    raise ValueError(f"{place!r} must be a recorded table that ships, or a .json or .toml. {hint}")


def check_family(name: str) -> str:
    """The name itself, if a family has it.

    Raises:
        ValueError: If none has; it names a near one.

    Example:
        >>> check_family("federatd")
        Traceback (most recent call last):
            ...
        ValueError: 'federatd' is no family of problems. Did you mean 'federated'?
    """
    known = all_families()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {'; '.join(known)}."
        raise ValueError(f"{name!r} is no family of problems. {hint}")
    return name


def problem_of_run(path: Path) -> AllocationProblem:
    """The program of the first round of a run's federation.

    Args:
        path: Of the run's TOML.

    Raises:
        ValueError: If the configuration has faults, or its parts do not fit together.
    """
    from ...fl_core.federation import Federation  # loads torch
    from ..arms import make_allocator
    from ..config import parse_run

    config = parse_run(read_table(path))
    return make_allocator(config, Federation.build(config.federation)).problem()


def _read(place: str) -> AllocationProblem:
    if place.endswith(".toml"):
        return problem_of_run(Path(place))
    path = SHIPPED_FOLDER / f"{place}.json" if place in SHIPPED else Path(place)
    return problem_from_json(read_source(str(path)))
