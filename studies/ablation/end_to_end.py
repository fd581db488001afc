"""What solvers' allocations come to: the same short federation trained with each of them.

A comparison (`studies/compare.py`) whose arms are solvers: paired by seed, in processes, resumed
from what stands. Accuracy and simulated time depend on the machine only if a time limit ends a
solver early.
"""

from __future__ import annotations

import hashlib
import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from ...allocator import Solver
from ...fl_core.settings.fields import KNOWN_KEYS_ONLY, Count, Seed
from ..config import Job, RunConfig, check_distinct, parse_run, run_text
from ..tables import merge, read_table
from ..writing import write_at_once

if TYPE_CHECKING:
    from ..compare import Progress

END_TO_END_FILE = "end_to_end.jsonl"
RUNS_FOLDER = "federations"

_SHIPPED = "digits"
_DIGEST_DIGITS = 10
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, config=KNOWN_KEYS_ONLY)
class EndToEndSettings:
    """Which federations are trained.

    Args:
        solvers: Names of the study's solvers that decide, each in federations of its own.
        config: A run's TOML, as `fedhq run` takes, or `digits` for the short one that ships. Its
            `[allocation]` says what the solvers minimise and must keep.
        seeds: Of the federations; solvers are paired by seed.
        rounds: Of every run; as many as `config` says where None.
        workers: Runs at a time, each in a process of one thread.
    """

    solvers: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "exact",
        "dual",
        "greedy",
        "lp-rounding",
        "policy-search",
        "hardware-only",
        "uniform-qat",
        "uniform-ptq",
    )
    config: str = _SHIPPED
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(check_distinct)] = (0, 1)
    rounds: Count | None = None
    workers: Count = 2


@plain_dataclass(frozen=True)
class EndToEnd:
    """What came of a federation whose allocations a solver made: a line of JSON.

    Args:
        solver: Its name in the study.
        settings: Its `repr`.
        seed: Of the federation.
        rounds: That were trained; 0 if it failed.
        round_seconds: Mean simulated time of a round; None if it failed, like those below.
        deployed_accuracy: Of the quantized model after the last round.
        predicted_loss: Mean over the rounds of what the program predicts.
        plan_seconds: Mean wall time of a round's planning, on the machine that trained it.
        decisions: Digest of what every client was told in every round.
        curve: `(round, simulated seconds, deployed accuracy)` of every round that was evaluated.
        message: Why it failed; empty if it did not.
        run: Where its records are, in `RUNS_FOLDER`: rounds, clients, configuration, versions.
    """

    solver: str
    settings: str
    seed: int
    rounds: int
    round_seconds: float | None
    deployed_accuracy: float | None
    predicted_loss: float | None
    plan_seconds: float | None
    decisions: str
    curve: tuple[tuple[int, float, float], ...]
    message: str
    run: str

    @classmethod
    def failed(cls, solver: str, settings: str, seed: int, message: str, run: str) -> EndToEnd:
        """Of a run that broke down."""
        return cls(solver, settings, seed, 0, None, None, None, None, "", (), message, run)


def run_end_to_end(
    settings: EndToEndSettings,
    solvers: Mapping[str, Solver],
    folder: Path,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[EndToEnd, ...]:
    """Trains what is not finished yet, and writes `END_TO_END_FILE`.

    Args:
        settings: Which federations.
        solvers: The solvers that decide, by name; those of `settings.solvers` that are not among
            them, for instance because a library is missing, are left out.
        folder: The study's.
        on_progress: Called a few times a second.

    Returns:
        A record for every solver and seed, in the order of the settings.

    Raises:
        ValueError: If the configuration is faulty, or does not say what is to be minimised.
    """
    from ..compare import job_folder, run_jobs  # only now: it needs torch

    runs, names = folder / RUNS_FOLDER, [s for s in settings.solvers if s in solvers]
    jobs = jobs_of(settings, {name: solvers[name] for name in names})
    finished = {r.run: r for r in read_end_to_end(folder) if not r.message}
    left = [job for job in jobs if _place(job) not in finished]
    errors = dict(
        zip(map(_place, left), run_jobs(left, runs, settings.workers, on_progress), strict=True)
    )
    told = zip([name for name in names for _ in settings.seeds], jobs, strict=True)
    records = tuple(
        finished.get(_place(job)) or _record(name, job, job_folder(runs, job), errors[_place(job)])
        for name, job in told
    )
    lines = "".join(json.dumps(asdict(record), allow_nan=False) + "\n" for record in records)
    write_at_once(folder / END_TO_END_FILE, lines)
    return records


def read_end_to_end(folder: Path) -> tuple[EndToEnd, ...]:
    """Reads what `run_end_to_end` wrote; nothing where it has not run.

    Raises:
        ValueError: If a line is no such record.
    """
    path, records = folder / END_TO_END_FILE, []
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    names = [field.name for field in fields(EndToEnd)]
    for number, line in enumerate(lines, start=1):
        table = json.loads(line)
        if not isinstance(table, dict) or list(table) != names:
            raise ValueError(
                f"line {number} of {path}: must have the keys {names}. Remove the file; the study "
                "writes it anew."
            )
        curve = tuple((int(k), float(t), float(a)) for k, t, a in table["curve"])
        records.append(EndToEnd(**{**table, "curve": curve}))
    return tuple(records)


def jobs_of(settings: EndToEndSettings, solvers: Mapping[str, Solver]) -> list[Job]:
    """The runs, solver by solver and seed by seed; a folder's name changes with what is trained.

    Raises:
        ValueError: As `run_end_to_end`.
    """
    configs = [_config(settings, seed) for seed in settings.seeds]
    return [
        Job(_UNSAFE.sub("-", name), _digest(name, config, solver), seed, config, solver)
        for name, solver in solvers.items()
        for seed, config in zip(settings.seeds, configs, strict=True)
    ]


def _config(settings: EndToEndSettings, seed: int) -> RunConfig:
    is_shipped = settings.config == _SHIPPED
    path = Path(__file__).with_name(f"{_SHIPPED}.toml") if is_shipped else Path(settings.config)
    table = read_table(path)
    if settings.rounds is not None:
        table = merge(table, {"training": {"rounds": settings.rounds}})
    try:
        config = parse_run({**table, "seed": seed})
    except ValueError as error:
        raise ValueError(f"end_to_end.config = {settings.config!r}: {error}") from None
    goal = config.allocation
    if goal.tradeoff is None and goal.deadline_seconds is None and goal.max_loss is None:
        raise ValueError(
            f"end_to_end.config = {settings.config!r}: [allocation] must say what solvers "
            "minimise, but has neither tradeoff nor deadline_seconds nor max_loss. Add one."
        )
    return config


def _digest(name: str, config: RunConfig, solver: Solver) -> str:
    told = f"{name}\n{run_text(config)}{solver!r}".encode()
    return hashlib.sha256(told).hexdigest()[:_DIGEST_DIGITS]


def _place(job: Job) -> str:
    return f"{job.scenario}/{job.arm}/seed-{job.seed}"


def _record(name: str, job: Job, folder: Path, error: BaseException | None) -> EndToEnd:
    from ...fl_core.records.recorder import read_walls
    from ..results import RunResult

    settings = repr(job.solver)
    if error is not None:
        return EndToEnd.failed(name, settings, job.seed, f"{error}", _place(job))
    run = RunResult.read(folder, job.scenario, job.arm, job.seed)
    told = "".join(f"{c.round},{c.client},{c.strategy};" for c in run.clients)
    return EndToEnd(
        solver=name,
        settings=settings,
        seed=job.seed,
        rounds=len(run.rounds),
        round_seconds=run.seconds_per_round,
        deployed_accuracy=run.deployed_accuracy,
        predicted_loss=statistics.fmean(r.planned_loss for r in run.rounds),
        plan_seconds=statistics.fmean(wall.plan_seconds for wall in read_walls(folder)),
        decisions=hashlib.sha256(told.encode()).hexdigest()[:_DIGEST_DIGITS],
        curve=tuple(
            (r.round, r.simulated_seconds, r.deployed_accuracy)
            for r in run.rounds
            if r.deployed_accuracy is not None
        ),
        message="",
        run=_place(job),
    )


def grouped(
    records: Sequence[EndToEnd],
) -> list[tuple[tuple[str, ...], tuple[EndToEnd, ...]]]:
    """Who decided alike in every seed: the solvers, and the records of one of them.

    Args:
        records: Those of runs that failed do not count.

    Example:
        >>> a = EndToEnd("a", "A()", 0, 1, 1.0, 0.5, 0.1, 0.01, "d", ((1, 1.0, 0.5),), "", "")
        >>> b = EndToEnd("b", "B()", 0, 1, 1.0, 0.5, 0.1, 0.01, "d", ((1, 1.0, 0.5),), "", "")
        >>> [solvers for solvers, own in grouped([a, b])]
        [('a', 'b')]
    """
    by_solver: dict[str, list[EndToEnd]] = {}
    for record in records:
        if not record.message:
            by_solver.setdefault(record.solver, []).append(record)
    alike: dict[tuple[tuple[int, str], ...], list[str]] = {}
    for solver, own in by_solver.items():
        did = tuple(sorted((record.seed, record.decisions) for record in own))
        alike.setdefault(did, []).append(solver)
    return [(tuple(solvers), tuple(by_solver[solvers[0]])) for solvers in alike.values()]
