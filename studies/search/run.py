"""A search from its configuration: its study, what is tried first, and its workers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from hashlib import sha256
from pathlib import Path

import numpy as np
from optuna import Study
from optuna.trial import TrialState

from ...allocator import Frontier
from ..provenance import Provenance
from ..writing import make_folder
from .config.settings import NO_CHANGE, SearchConfig, config_digest, resolved_search
from .record import MOST_POINTS, StudyRecord
from .storage.opening import PACKAGES, PROPOSER_KEY, Proposal, Wanted, open_study, propose
from .storage.places import close_storage, open_storage
from .storage.study_file import StudyFile, settle
from .trials.objective import Objective
from .trials.policy import Policies
from .trials.reference import find_reference
from .trials.sampling import make_pruner, make_sampler
from .trials.seeds import seed_trials
from .workers.leases import LEASE_SECONDS
from .workers.pool import Order, Tools, run_order
from .workers.progress import OnProgress
from .workers.signature import Worker

_FREE = (*(f"search.{name}" for name in NO_CHANGE), "problem.path", "problem.labels")


def open_search(
    config: SearchConfig,
    folder: Path,
    place: str | None = None,
    name: str | None = None,
    command: str = "",
    tell: Callable[[str], None] = lambda text: None,
) -> Study:
    """Makes the study of a search and enqueues what is tried first, or opens it to go on.

    Args:
        config: Of the search.
        folder: The search's; made if it does not exist.
        place: Its storage, as `open_storage` takes it; where None what the folder says, else
            `FEDHQ_STORAGE`, else a journal in the folder.
        name: Of the study; where None what the folder says, else the folder's name.
        command: What asked for it, without passwords; it is recorded.
        tell: Is told what takes a while.

    Returns:
        The study; `close_storage` closes its storage.

    Raises:
        ValueError: If the folder cannot be written or belongs to another study, or the
            configuration does not fit.
        StudyError: If a study of this name is there that is another search.
        StorageError: If the storage cannot be opened.
    """
    place, name = settle(folder, place, name)
    make_folder("--out", folder)
    storage = open_storage(place, may_create=True)
    digest = config_digest(config)
    policies = cache(partial(_lay_out, config, folder, tell))
    wanted = Wanted(resolved_search(config), digest, config.objectives, _FREE)
    try:
        study = open_study(storage, name, wanted, partial(_record, policies, command))
        StudyFile.of(folder, place, name, digest).write(folder)
        propose(study, partial(_proposals, policies))
    except BaseException:
        close_storage(storage)
        raise
    return study


def run_search(
    config: SearchConfig,
    study: Study,
    folder: Path,
    workers: int | None = None,
    place: str | None = None,
    lease_seconds: float = LEASE_SECONDS,
    on_progress: OnProgress | None = None,
) -> None:
    """Evaluates trials until the study has as many as the configuration asks for.

    Args:
        config: Of the search.
        study: Of `open_search`.
        folder: The search's.
        workers: How many at a time; the configuration's where None. One works in this process.
        place: The study's storage; what the folder says where None.
        lease_seconds: How long a worker of another machine may give no sign of life.
        on_progress: Called now and then.

    Raises:
        ValueError: If the storage bears fewer workers.
        WorkerError: If trials fail, or workers die, again and again.
        StorageError: If the storage is away for too long.
    """
    settled, _ = settle(folder, place, study.study_name)
    key = Provenance.here(PACKAGES).key
    order = Order(
        place=settled,
        study=study.study_name,
        make_tools=partial(make_tools, config, folder, key),
        trials=config.search.trials,
        lease_seconds=lease_seconds,
        worker=_first_worker(study),
    )
    run_order(order, config.search.workers if workers is None else workers, on_progress)


def make_tools(config: SearchConfig, folder: Path, provenance: str, worker: int) -> Tools:
    """What a worker works with, made in its process.

    Args:
        config: Of the search.
        folder: The search's.
        provenance: Key of what the process runs on.
        worker: Its number: it draws with the search's seed plus this.
    """
    objective = Objective(config, folder, provenance)
    return Tools(objective, make_sampler(config, objective.space, worker), make_pruner(config))


def _first_worker(study: Study) -> int:
    """0 where a study begins, so that one worker repeats it; else one that nobody had before.

    Samplers draw from their seed alone: the same worker again would draw the same again.
    """
    here, trials = Worker.here(), study.get_trials(deepcopy=False)
    is_new = all(trial.state is TrialState.WAITING for trial in trials)
    if is_new and Worker.of(study.user_attrs, PROPOSER_KEY) == here:
        return 0
    return int(sha256(f"{here} {len(trials)}".encode()).hexdigest()[:6], 16)


def _lay_out(config: SearchConfig, folder: Path, tell: Callable[[str], None]) -> Policies:
    policies = Policies(config, folder)
    tell(f"planning for {policies.num_clients:,} clients")
    return policies


def _record(make: Callable[[], Policies], command: str) -> StudyRecord:
    policies = make()
    config, frontier = policies.config, policies.frontier()
    return StudyRecord(
        config=resolved_search(config),
        digest=config_digest(config),
        objectives=config.objectives,
        limits={str(name): limit for name, limit in config.search.limits.items()},
        menu=config.menu,
        clients=policies.num_clients,
        frontier=() if frontier is None else _points(frontier),
        frontier_gap=0.0 if frontier is None else frontier.gap,
        reference=find_reference(policies, frontier),
        command=command,
        provenance={},
    )


def _points(frontier: Frontier) -> tuple[tuple[float, float], ...]:
    """Its points, or so many of them, the ends among them."""
    count = min(len(frontier), MOST_POINTS)
    shown = np.linspace(0, len(frontier) - 1, count).round().astype(int)
    times, losses = frontier.round_seconds[shown].tolist(), frontier.loss[shown].tolist()
    return tuple(zip(times, losses, strict=True))


def _proposals(make: Callable[[], Policies]) -> list[Proposal]:
    return [(seeded.params, seeded.source) for seeded in seed_trials(make())]
