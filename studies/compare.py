"""Runs the arms of a comparison, paired by seed, in processes of their own; resumes what stands."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ..allocator import FedHQError, FrontierPick, pareto_frontier
from ..fl_core.federation import Federation
from ..fl_core.recorder import ROUNDS_FILE
from ..fl_core.runtime import set_up_worker
from .arms import make_allocator, make_trainer, with_share_of
from .config import CompareConfig, Job
from .results import Comparison, FrontierView, RunResult

_POLL_SECONDS = 0.3
_FEDHQ = "fedhq"


@dataclass(frozen=True)
class Progress:
    """How far a comparison is.

    Args:
        rounds_done: Finished rounds of all runs.
        rounds_total: Rounds of all runs.
        runs_done: Finished runs.
        runs_total: All runs.
    """

    rounds_done: int
    rounds_total: int
    runs_done: int
    runs_total: int


def run_comparison(
    name: str,
    config: CompareConfig,
    folder: Path,
    on_progress: Callable[[Progress], None] | None = None,
) -> Comparison:
    """Runs what is not finished yet and reads all records.

    Args:
        name: Of the comparison.
        config: Arms, scenarios, seeds.
        folder: Holds one folder a run: `scenario/arm/seed-N`.
        on_progress: Called a few times a second.

    Returns:
        The comparison with all results.

    Raises:
        FedHQError: If a run fails; the other runs are finished first and are not lost.
        ValueError: If a configuration does not fit its data.
    """
    jobs = _with_shares(config.jobs)
    _run_all(jobs, folder, config.settings.workers, on_progress)
    results = tuple(
        RunResult.read(job_folder(folder, job), job.scenario, job.arm, job.seed) for job in jobs
    )
    return Comparison(
        name=name,
        target_accuracy=config.settings.target_accuracy,
        scenarios=config.scenarios,
        arms=config.arms,
        results=results,
        frontiers=frontier_views(jobs, config.settings.seeds[0]),
    )


def job_folder(folder: Path, job: Job) -> Path:
    """Where a run keeps its records."""
    return folder / job.scenario / job.arm / f"seed-{job.seed}"


def _with_shares(jobs: Sequence[Job]) -> list[Job]:
    """Gives the arms that want as many QAT clients as fedhq has their share."""
    references = {
        (job.scenario, job.seed): job.config
        for job in jobs
        if job.config.allocation.solver == _FEDHQ
    }
    filled = []
    for job in jobs:
        reference = references.get((job.scenario, job.seed))
        config = job.config if reference is None else with_share_of(job.config, reference)
        filled.append(replace(job, config=config))
    return filled


def _run_all(
    jobs: Sequence[Job],
    folder: Path,
    workers: int,
    on_progress: Callable[[Progress], None] | None,
) -> None:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=set_up_worker)
    try:
        futures = {pool.submit(_run_job, job, job_folder(folder, job)): job for job in jobs}
        while not all(future.done() for future in futures):
            if on_progress is not None:
                on_progress(_progress(futures, folder))
            time.sleep(_POLL_SECONDS)
        if on_progress is not None:
            on_progress(_progress(futures, folder))
    finally:
        pool.shutdown(cancel_futures=True)
    for future, job in futures.items():
        error = future.exception()
        if error is not None:
            place = f"arm {job.arm!r} in scenario {job.scenario!r}, seed {job.seed}"
            raise FedHQError(f"{place} failed: {error}") from error


def _run_job(job: Job, folder: Path) -> None:
    make_trainer(job.config, folder).run()


def _progress(futures: dict[Future[None], Job], folder: Path) -> Progress:
    done, total = 0, 0
    for job in futures.values():
        records = job_folder(folder, job) / ROUNDS_FILE
        done += records.read_bytes().count(b"\n") if records.exists() else 0
        total += job.config.federation.training.rounds
    return Progress(done, total, sum(f.done() for f in futures), len(futures))


def frontier_views(jobs: Sequence[Job], seed: int) -> tuple[FrontierView, ...]:
    """The frontier that each scenario's fedhq arm chose from in its first round.

    Args:
        jobs: Runs; only those with solver `fedhq` and the seed count.
        seed: Whose federation is shown.
    """
    views = []
    for job in jobs:
        if job.seed != seed or job.config.allocation.solver != _FEDHQ:
            continue
        allocator = make_allocator(job.config, Federation.build(job.config.federation))
        assert isinstance(allocator.solver, FrontierPick)
        frontier = pareto_frontier(allocator.problem())
        views.append(
            FrontierView(
                scenario=job.scenario,
                seed=seed,
                round_seconds=frontier.round_seconds,
                loss=frontier.loss,
                chosen=frontier.pick(allocator.solver.rule),
            )
        )
    return tuple(views)
