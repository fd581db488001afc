"""Workers as processes of this machine: how many are wanted work until the study has its trials."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import optuna
from optuna import Study
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from ....fl_core.processes import forking_context
from ....fl_core.runtime import set_up_worker
from ..record import Lost
from ..storage.errors import StorageError, WorkerError
from ..storage.places import close_storage, is_for_one_worker, open_storage, survive
from .leases import LEASE_SECONDS, Watch, hand_back
from .progress import OnProgress, Progress, Teller
from .signature import Worker
from .worker import Objective, TrialLoop, count_done

_POLL_SECONDS = 0.5
_END_SECONDS = 10.0
_MOST_DEATHS = 5


@dataclass(frozen=True)
class Tools:
    """What a worker works with.

    Args:
        objective: Evaluates a trial.
        sampler: The worker's own: its seed is no other worker's.
        pruner: Says which trials are given up.
    """

    objective: Objective
    sampler: BaseSampler
    pruner: BasePruner = field(default_factory=NopPruner)


@dataclass(frozen=True)
class Order:
    """What workers are to do; it is sent to their processes.

    Args:
        place: The study's storage, as `open_storage` takes it.
        study: The study's name there.
        make_tools: Called in the worker with the worker's number; a function of a module, or
            `partial` of one.
        trials: How many the study shall have that are complete or pruned.
        lease_seconds: See `leases`.
        worker: Number of the first worker.
    """

    place: str
    study: str
    make_tools: Callable[[int], Tools]
    trials: int
    lease_seconds: float = LEASE_SECONDS
    worker: int = 0


def run_order(order: Order, workers: int, on_progress: OnProgress | None = None) -> None:
    """Works until the study has its trials; a killed worker is replaced.

    One worker works in this process. Several are processes of one thread each, which end when this
    one does, however that is.

    Args:
        order: What every worker does.
        workers: How many.
        on_progress: Called now and then.

    Raises:
        ValueError: If the number is no positive one, or too large for the storage.
        WorkerError: If trials fail, or workers die, again and again.
        StorageError: If the storage is away for too long.
    """
    check_workers(order.place, workers)
    if workers == 1:
        _work(order, on_progress)
    else:
        _Crew(order, workers, on_progress).run()


def check_workers(place: str, workers: int) -> None:
    """Refuses a number of workers that a storage cannot have.

    Raises:
        ValueError: If the number is no positive one, or not 1 with SQLite.

    Example:
        >>> check_workers("runs/journal.log", 4)
    """
    if workers < 1:
        raise ValueError(f"--workers {workers}: must be at least 1.")
    if workers > 1 and is_for_one_worker(place):
        raise ValueError(
            f"--workers {workers}: must be 1 with SQLite, which locks its file as a whole. Take a "
            "journal file (the default), PostgreSQL or MySQL."
        )


def _work(order: Order, on_progress: OnProgress | None = None) -> None:
    """What one worker does, from opening the storage to closing it."""
    tools = order.make_tools(order.worker)
    storage = open_storage(order.place)
    try:
        study = optuna.load_study(
            study_name=order.study, storage=storage, sampler=tools.sampler, pruner=tools.pruner
        )
        tell = None if on_progress is None else Teller(order.trials, on_progress)
        TrialLoop(study, tools.objective, order.trials, order.lease_seconds, tell).run()
    finally:
        close_storage(storage)


def _work_in_process(order: Order, pipe: Connection) -> None:
    """A worker process; it leaves Ctrl-C to its parent, and tells it why it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_up_worker()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        _work(order)
    except Exception as error:
        told = str(error) if isinstance(error, WorkerError | StorageError | ValueError) else ""
        pipe.send_bytes((told or f"a worker failed: {type(error).__name__}: {error}").encode())
        raise SystemExit(1) from None


@dataclass(eq=False)
class _Seat:
    """A worker process, and the pipe in which it says why it ends."""

    process: BaseProcess
    pipe: Connection

    def last_words(self) -> str:
        """Empty if it said nothing."""
        with suppress(EOFError, OSError):
            if self.pipe.poll():
                return self.pipe.recv_bytes().decode()
        return ""


@dataclass
class _Crew:
    """The workers of this process."""

    order: Order
    workers: int
    on_progress: OnProgress | None
    _seats: list[_Seat] = field(default_factory=list, init=False)
    _started: int = field(default=0, init=False)
    _died: int = field(default=0, init=False)
    _done: int = field(default=0, init=False)
    _pids: set[int] = field(default_factory=set, init=False)

    def run(self) -> None:
        storage = open_storage(self.order.place)
        study = optuna.load_study(study_name=self.order.study, storage=storage)
        try:
            self._context = forking_context(__name__)
            missing = self.order.trials - count_done(study.get_trials(deepcopy=False))
            for _ in range(min(self.workers, missing)):
                self._start()
            self._attend(study)
        finally:
            self._end(study)
            close_storage(storage)

    def _attend(self, study: Study) -> None:
        watch = Watch(study, self.order.lease_seconds)
        while self._seats:
            ended = wait([seat.process.sentinel for seat in self._seats], _POLL_SECONDS)
            for seat in [s for s in self._seats if s.process.sentinel in ended]:
                self._see_off(seat)
            trials = survive(lambda: study.get_trials(deepcopy=False), watch.forget)
            survive(lambda seen=trials: watch.look(seen), watch.forget)  # type: ignore[misc]
            progress = Progress.of(trials, self.order.trials)
            if progress.done > self._done:
                self._done, self._died = progress.done, 0
            if self.on_progress is not None:
                self.on_progress(progress)

    def _see_off(self, seat: _Seat) -> None:
        """A worker that has ended: it was done, or gave up, or somebody killed it."""
        seat.process.join()
        code, told = seat.process.exitcode, seat.last_words()
        self._seats.remove(seat)
        seat.pipe.close()
        if code == 0:
            return
        if told:
            raise WorkerError(told)
        self._died += 1
        if self._died >= _MOST_DEATHS:
            raise WorkerError(
                f"{self._died} workers died (exit code {code}) and no trial was done in between; "
                "what they wrote stands above. If memory is short, take fewer --workers. The same "
                "command resumes."
            )
        self._start()

    def _start(self) -> None:
        here, there = self._context.Pipe(duplex=False)
        order = replace(self.order, worker=self.order.worker + self._started)
        process = self._context.Process(target=_work_in_process, args=(order, there), daemon=True)
        process.start()
        there.close()
        self._started += 1
        self._pids.add(process.pid)
        self._seats.append(_Seat(process, here))

    def _end(self, study: Study) -> None:
        """Ends who still works, and leaves their trials to whoever comes next."""
        busy = bool(self._seats)
        for seat in self._seats:
            seat.process.terminate()
        for seat in self._seats:
            seat.process.join(_END_SECONDS)
            if seat.process.is_alive():
                seat.process.kill()
                seat.process.join()
            seat.pipe.close()
        self._seats = []
        if busy:
            with suppress(StorageError):
                survive(lambda: self._hand_back(study), patience_seconds=0.0)

    def _hand_back(self, study: Study) -> None:
        host = Worker.here().host
        trials = study.get_trials(deepcopy=False)
        for trial in trials:
            worker = Worker.of(trial.user_attrs)
            is_ours = worker is not None and worker.host == host and worker.pid in self._pids
            if trial.state is TrialState.RUNNING and is_ours:
                hand_back(study, trials, trial.number, "its worker was stopped.", Lost.STOPPED)
