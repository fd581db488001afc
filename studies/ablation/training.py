"""Trains an ablation's federations: the same one with each of some solvers deciding.

A comparison (`studies/compare.py`) whose arms are solvers: paired by seed, in processes, resumed
from what stands.
"""

from __future__ import annotations

import hashlib
import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Job, RunConfig, parse_run, run_text
from ..provenance import Provenance
from ..tables import merge, read_table
from ..writing import write_at_once
from .contestants import Contestant
from .deciders import decider
from .end_to_end import END_TO_END_FILE, EndToEnd, EndToEndSettings, read_end_to_end
from .ledger import Ledger

if TYPE_CHECKING:
    from ..compare import Progress

RUNS_FOLDER = "federations"

_SHIPPED = "digits"
_PACKAGES = ("torch",)  # a solver's own are in its version
_DIGEST_DIGITS = 10
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, eq=False)
class Federations:
    """What is to be trained; nothing is written before `run`.

    Args:
        settings: Whose rounds, seeds and workers count.
        configs: Of the federation, one a seed.
        deciders: The solvers, as they decide in federations.
    """

    settings: EndToEndSettings
    configs: tuple[RunConfig, ...]
    deciders: tuple[Contestant, ...]

    @classmethod
    def of(cls, settings: EndToEndSettings) -> Federations:
        """Those of some settings, with the run's configuration read.

        Raises:
            ValueError: If that cannot be read, has faults, or does not say what to minimise.
        """
        configs = tuple(_config(settings, seed) for seed in settings.seeds)
        return cls(settings, configs, tuple(map(decider, settings.solvers)))

    def run(
        self, ledger: Ledger, on_progress: Callable[[Progress], None] | None = None
    ) -> tuple[EndToEnd, ...]:
        """Trains what is not finished yet, and writes `END_TO_END_FILE`.

        Args:
            ledger: Of the study's folder.
            on_progress: Called a few times a second while anything is trained.

        Returns:
            A record for every solver and seed, in order; that of a solver whose library is not
            installed says so.
        """
        here = Provenance.here(_PACKAGES)
        folder, key = ledger.folder, ledger.sign(here)
        finished = {r.run: r for r in read_end_to_end(folder) if not r.message}
        asked = [(one, job) for one in self.deciders for job in self.jobs(one, here)]
        left = [job for _, job in asked if job.solver is not None and _place(job) not in finished]
        faults = _train(left, folder / RUNS_FOLDER, self.settings.workers, on_progress)
        records = tuple(
            finished.get(_place(job)) or _record(one, job, folder, key, faults.get(_place(job)))
            for one, job in asked
        )
        lines = "".join(json.dumps(asdict(record), allow_nan=False) + "\n" for record in records)
        write_at_once(folder / END_TO_END_FILE, lines)
        return records

    def jobs(self, one: Contestant, here: Provenance) -> list[Job]:
        """The runs of a solver, seed by seed; a folder's name changes with what is trained.

        Args:
            one: Who decides.
            here: What trains: other versions train anew, another commit of the same does not.
        """
        versions = replace(here, commit="").key
        told = f"{one.name}\n{one.version}\n{one.settings}\n{versions}\n"
        scenario = _UNSAFE.sub("-", one.name)
        return [
            Job(scenario, _digest(told + run_text(config)), seed, config, one.solver)
            for seed, config in zip(self.settings.seeds, self.configs, strict=True)
        ]


def _config(settings: EndToEndSettings, seed: int) -> RunConfig:
    is_shipped = settings.config == _SHIPPED
    path = Path(__file__).with_name(f"{_SHIPPED}.toml") if is_shipped else Path(settings.config)
    changes = {} if settings.rounds is None else {"training": {"rounds": settings.rounds}}
    try:
        config = parse_run({**merge(read_table(path), changes), "seed": seed})
    except ValueError as error:
        raise ValueError(f"end_to_end.config = {settings.config!r}: {error}") from None
    goal = config.allocation
    if goal.tradeoff is None and goal.deadline_seconds is None and goal.max_loss is None:
        raise ValueError(
            f"end_to_end.config = {settings.config!r}: [allocation] must say what solvers "
            "minimise, but has neither tradeoff nor deadline_seconds nor max_loss. Add one."
        )
    return config


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_DIGITS]


def _place(job: Job) -> str:
    return f"{job.scenario}/{job.arm}/seed-{job.seed}"


def _train(
    jobs: Sequence[Job],
    runs: Path,
    workers: int,
    on_progress: Callable[[Progress], None] | None,
) -> Mapping[str, BaseException]:
    """What made runs fail, by their place; torch is loaded only if there is anything to train."""
    if not jobs:
        return {}
    from ..compare import run_jobs

    faults = zip(map(_place, jobs), run_jobs(jobs, runs, workers, on_progress), strict=True)
    return {place: fault for place, fault in faults if fault is not None}


def _record(
    one: Contestant, job: Job, folder: Path, key: str, fault: BaseException | None
) -> EndToEnd:
    origin = EndToEnd(one.name, one.settings, one.version, job.seed, _place(job), key)
    if one.solver is None or fault is not None:
        return replace(origin, message=one.missing or f"{fault}")
    from ...fl_core.records.recorder import read_walls
    from ..compare import job_folder
    from ..results import RunResult

    place = job_folder(folder / RUNS_FOLDER, job)
    run = RunResult.read(place, job.scenario, job.arm, job.seed)
    told = "".join(f"{c.round},{c.client},{c.strategy};" for c in run.clients)
    return replace(
        origin,
        rounds=len(run.rounds),
        round_seconds=run.seconds_per_round,
        deployed_accuracy=run.deployed_accuracy,
        predicted_loss=statistics.fmean(r.planned_loss for r in run.rounds),
        plan_seconds=statistics.fmean(wall.plan_seconds for wall in read_walls(place)),
        decisions=_digest(told),
        curve=tuple(
            (r.round, r.simulated_seconds, r.deployed_accuracy)
            for r in run.rounds
            if r.deployed_accuracy is not None
        ),
    )
