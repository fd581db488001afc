"""Runs the arms of a comparison, paired by seed, in processes of their own; resumes what stands."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..allocator import FedHQError, pareto_frontier
from ..fl_core.federation import Federation
from ..fl_core.processes import forking_context
from ..fl_core.records.recorder import ROUNDS_FILE
from ..fl_core.runtime import set_up_worker
from .arms import make_allocator, make_trainer, with_share_of
from .config import CompareConfig, Job, comparison_text
from .results import Comparison, FrontierView, RunResult

_POLL_SECONDS = 0.3
_FEDHQ = "fedhq"
CONFIG_FILE = "config.json"


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
        folder: Holds one folder a run, `scenario/arm/seed-N`, and the resolved configuration.
        on_progress: Called a few times a second.

    Returns:
        The comparison with all results.

    Raises:
        FedHQError: If a run fails; the other runs are finished first and are not lost.
        ValueError: If a configuration does not fit its data, or a share names a missing arm.
    """
    config = replace(config, jobs=tuple(with_share(job, config.jobs) for job in config.jobs))
    jobs = config.jobs
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / CONFIG_FILE
    if not written.exists():
        written.write_text(comparison_text(config), "utf-8")
    errors = run_jobs(jobs, folder, config.settings.workers, on_progress)
    for job, error in zip(jobs, errors, strict=True):
        if error is not None:
            place = f"arm {job.arm!r} in scenario {job.scenario!r}, seed {job.seed}"
            raise FedHQError(f"{place} failed: {error}") from error
    written.write_text(comparison_text(config), "utf-8")  # only now: other runs may have stood here
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


def with_share(job: Job, jobs: Sequence[Job]) -> Job:
    """Gives an arm that wants as many QAT clients as fedhq has its share.

    Args:
        job: The run.
        jobs: All runs of the comparison.

    Raises:
        ValueError: If no arm of its scenario and seed has solver `fedhq`.
    """
    if job.config.allocation.share != _FEDHQ:
        return job
    place = (job.scenario, job.seed)
    for other in jobs:
        if (other.scenario, other.seed) == place and other.config.allocation.solver == _FEDHQ:
            return replace(job, config=with_share_of(job.config, other.config))
    raise ValueError(
        f"arm {job.arm!r} in scenario {job.scenario!r}: allocation.share = 'fedhq' needs an arm "
        "with solver 'fedhq' in the same comparison. Add one, or give a number."
    )


def run_jobs(
    jobs: Sequence[Job],
    folder: Path,
    workers: int,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[BaseException | None]:
    """Trains what is not finished yet, each run in a process of its own; Ctrl-C ends them at once.

    Args:
        jobs: The runs.
        folder: Holds a folder for each, see `job_folder`.
        workers: Runs at a time.
        on_progress: Called a few times a second.

    Returns:
        What made each run fail; None where it is finished.
    """
    context = forking_context(__name__)
    strangers = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_set_up)
    try:
        futures = {pool.submit(_run_job, job, job_folder(folder, job)): job for job in jobs}
        while not all(future.done() for future in futures):
            if on_progress is not None:
                on_progress(_progress(futures, folder))
            time.sleep(_POLL_SECONDS)
        if on_progress is not None:
            on_progress(_progress(futures, folder))
    except BaseException:  # most of all Ctrl-C: runs resume from their checkpoints
        for worker in set(multiprocessing.active_children()) - strangers:
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return [future.exception() for future in futures]


def _set_up() -> None:
    """A worker leaves Ctrl-C to its parent, which ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_up_worker()


def _run_job(job: Job, folder: Path) -> None:
    make_trainer(job.config, folder, solver=job.solver).run()


def _progress(futures: dict[Future[None], Job], folder: Path) -> Progress:
    done, total = 0, 0
    for future, job in futures.items():
        rounds = job.config.federation.training.rounds
        records = job_folder(folder, job) / ROUNDS_FILE
        stand = records.read_bytes().count(b"\n") if records.exists() else 0
        # The last round counts with the run: its checkpoint comes after its record.
        done += stand if future.done() else min(stand, rounds - 1)
        total += rounds
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
        frontier, plan = pareto_frontier(allocator.problem()), allocator.plan(1)
        views.append(
            FrontierView(
                scenario=job.scenario,
                seed=seed,
                round_seconds=frontier.round_seconds,
                loss=frontier.loss,
                chosen=int(np.abs(frontier.round_seconds - plan.round_seconds).argmin()),
            )
        )
    return tuple(views)
