"""The federation's loop: rounds, evaluated, recorded, told, and resumable at any point."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from ..allocator.errors import CheckpointError
from .callbacks.callback import Callback, RunInfo
from .engine.pool import WorkerPool, check_pool
from .engine.serial import SerialEngine
from .engine.work import Engine, Setup
from .evaluation import Evaluation, evaluate
from .federation import Federation
from .planner import Planner
from .records.checkpoint import Checkpoint, check_same_config, load_checkpoint, save_checkpoint
from .records.environment import append_environment
from .records.lock import RunLock
from .records.recorder import ROUNDS_FILE, RunRecorder, read_rounds
from .records.records import ClientRecord, RoundRecord, WallRecord
from .rounds.hope import Hope
from .rounds.round import RoundResult, RoundRunner
from .rounds.uplink import Channel, Uplink, clear_channel
from .runtime import keep_freed_memory, threads
from .schedule import is_finished, learning_rate
from .server.server import Server
from .weights import Weights, read_weights

CHECKPOINT_FILE = "checkpoint.safetensors"


class Trainer:
    """Trains a federation on a virtual clock; the same bytes with any number of workers.

    While it runs, torch has `training.threads` threads; what training frees stays with the process
    (`keep_freed_memory`).

    Args:
        federation: Data, clients, devices, settings.
        planner: Who decides what each client does.
        folder: Where records and checkpoint go; what stands there is resumed.
        config: What the run was made from, ready for JSON; a checkpoint of another is refused.
            The federation's own digests are added to it.
        workers: Processes that train clients; 1 trains in this one.
        patience_seconds: How long a worker may take for one client; see `WorkerPool`. Without
            workers nobody can be ended.
        callbacks: Told of every round.
        channel: What becomes of payloads between clients and server.

    Raises:
        ValueError: If `workers` or `patience_seconds` cannot be.
        CheckpointError: If the folder holds a damaged checkpoint or one of another configuration,
            or another process trains there.

    Example:
        >>> import tempfile
        >>> from .settings import FederationSettings, TrainingSettings
        >>> settings = FederationSettings(
        ...     data={"name": "digits", "num_test": 300}, training=TrainingSettings(rounds=2)
        ... )
        >>> federation = Federation.build(settings)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer = Trainer(federation, federation.allocator(), Path(folder))
        ...     weights = trainer.run()
        ...     trainer.round_number
        2
    """

    def __init__(
        self,
        federation: Federation,
        planner: Planner,
        folder: Path,
        config: Mapping[str, Any] | None = None,
        *,
        workers: int = 1,
        patience_seconds: float | None = None,
        callbacks: Iterable[Callback] = (),
        channel: Channel = clear_channel,
    ) -> None:
        check_pool(workers, patience_seconds)
        if workers == 1 and patience_seconds is not None:
            raise ValueError(
                f"`patience_seconds` = {patience_seconds:g} must come with `workers >= 2`, but got "
                "1: what trains in this process cannot be ended. Add workers, or leave it out."
            )
        self._federation = federation
        self._planner = planner
        self._folder = folder
        self._path = folder / CHECKPOINT_FILE
        self._config = {**(config or {}), "digests": federation.digests()}
        self._workers = workers
        self._patience = patience_seconds
        self._callbacks = tuple(callbacks)
        self._recorder = RunRecorder(folder)
        self._server = Server(
            read_weights(federation.model), federation.server, federation.num_examples.tolist()
        )
        self._uplink = Uplink(federation.seed, federation.training.error_feedback)
        self._runner = RoundRunner(federation, planner, self._server, self._uplink, channel)
        self._round_number = 0
        self._simulated_seconds = 0.0
        self._hope = Hope(int((federation.num_examples > 0).sum()))
        self._save_seconds = 0.0
        self._last_accuracy: float | None = None
        self._start = copy.deepcopy(self._checkpoint())  # a planner may go on writing to its state
        with RunLock(folder):
            self._resume()

    @property
    def round_number(self) -> int:
        """Rounds done."""
        return self._round_number

    @property
    def weights(self) -> Weights:
        """The server's float weights as they are now; not to be written to."""
        return self._server.weights

    def run(self) -> Weights:
        """Trains the rounds that are left; after an error or Ctrl-C it may be called again.

        Returns:
            The server's float weights after the last round.

        Raises:
            InfeasibleError: If the planner's limits cannot be kept.
            DivergedError: If training comes to numbers that are not finite.
            FedHQError: If training fails everywhere, workers cannot start, or nobody is online.
            CheckpointError: If another process trains in the folder, or the disk is full.
        """
        training = self._federation.training
        if self._is_done():
            return self.weights
        with ExitStack() as stack:
            stack.enter_context(RunLock(self._folder))
            self._resume()  # an interrupted `run`, or another process, may have left another state
            if not self._path.exists():
                self._save()  # from now on, records without a checkpoint have lost it
            for callback in self._callbacks:
                stack.callback(callback.close)
            stack.enter_context(threads(training.threads))
            engine = stack.enter_context(closing(self._make_engine()))
            append_environment(self._folder, self._round_number, self._workers, training)
            info = RunInfo(self._folder, training.rounds, self._round_number, self._config)
            for callback in self._callbacks:
                callback.on_start(info)
            while not self._is_done():
                told = self._round(self._round_number + 1, engine)
                for callback in self._callbacks:
                    callback.on_round(*told)
            for callback in self._callbacks:
                callback.on_end(self.weights)
        return self.weights

    def _make_engine(self) -> Engine:
        federation = self._federation
        setup = Setup(
            federation.model,
            federation.clients,
            federation.training,
            federation.quantization,
            federation.seed,
        )
        if self._workers == 1:
            keep_freed_memory()
            return SerialEngine(setup)
        return WorkerPool(setup, self._workers, self._patience)

    def _round(
        self, number: int, engine: Engine
    ) -> tuple[RoundRecord, Sequence[ClientRecord], WallRecord]:
        """Trains, evaluates, records and saves one round."""
        training = self._federation.training
        rate = learning_rate(training.learning_rate, number, training.rounds)
        result = self._runner.run(number, self._simulated_seconds, rate, engine)
        self._hope.check(number, result, rate)
        self._round_number = number
        self._simulated_seconds += result.waiting_seconds + result.seconds
        start = time.perf_counter()
        evaluation = self._evaluate(number)
        seconds = time.perf_counter() - start
        self._planner.observe(result.outcomes, evaluation.server)
        record = self._record(number, rate, result, evaluation)
        planning, training_seconds, serving = result.wall
        wall = WallRecord(
            round=number,
            plan_seconds=planning,
            train_seconds=training_seconds,
            server_seconds=serving,
            evaluate_seconds=seconds,
            save_seconds=self._save_seconds,
            client_seconds=result.client_wall_seconds,
        )
        start = time.perf_counter()
        self._recorder.append(record, result.clients, wall)
        if number % training.checkpoint_every == 0 or self._is_done():
            self._save()
        self._save_seconds = time.perf_counter() - start
        return record, result.clients, wall

    def _evaluate(self, number: int) -> Evaluation:
        training = self._federation.training
        if number % training.evaluate_every and number != training.rounds:
            return Evaluation()
        return evaluate(self._federation, self.weights)

    def _record(
        self, number: int, rate: float, result: RoundResult, evaluation: Evaluation
    ) -> RoundRecord:
        clients = result.clients
        self._last_accuracy = evaluation.deployed
        return RoundRecord(
            round=number,
            simulated_seconds=self._simulated_seconds,
            round_seconds=result.seconds,
            waiting_seconds=result.waiting_seconds,
            deployed_accuracy=evaluation.deployed,
            float_accuracy=evaluation.in_float,
            client_accuracy=evaluation.clients,
            worst_accuracy=evaluation.worst,
            uplink_bytes=sum(c.uplink_bytes for c in clients),
            downlink_bytes=sum(c.downlink_bytes for c in clients),
            energy_joules=math.fsum(c.energy_joules for c in clients),
            planned_loss=result.planned_loss,
            bottleneck=result.bottleneck,
            learning_rate=rate,
            selected=len(result.client_wall_seconds),
            used=sum(c.status in ("ok", "stale") for c in clients),
        )

    def _is_done(self) -> bool:
        return is_finished(self._federation.training, self._round_number, self._last_accuracy)

    def _resume(self) -> None:
        """Takes up what stands in the folder, whatever this object has done since."""
        if self._path.exists():
            saved = load_checkpoint(self._path)
            check_same_config(saved.config, self._config)
        else:
            saved = self._start
            self._check_records()
        self._recorder.truncate(saved.round_number)
        self._server.load_state_dict(saved.server_state, saved.server)
        self._planner.load_state_dict(saved.controller_state)
        self._uplink.residuals = dict(saved.residuals)
        self._runner.pending = list(saved.pending)
        self._round_number = saved.round_number
        self._simulated_seconds = saved.simulated_seconds
        self._hope.load_state_dict(saved.trainer_state)
        self._save_seconds = 0.0
        rounds = read_rounds(self._folder)
        self._last_accuracy = rounds[-1].deployed_accuracy if rounds else None

    def _check_records(self) -> None:
        """A run has a checkpoint before its first record: without one, nothing may be dropped."""
        records = self._folder / ROUNDS_FILE
        done = len(read_rounds(self._folder)) if records.exists() else 0
        if done:
            raise CheckpointError(
                f"{self._folder} must hold {CHECKPOINT_FILE}, since it has the records of {done} "
                "rounds, but there is none. Restore it, or start the run anew in another folder."
            )

    def _checkpoint(self) -> Checkpoint:
        server_state, server = self._server.state_dict()
        return Checkpoint(
            round_number=self._round_number,
            simulated_seconds=self._simulated_seconds,
            server=server,
            server_state=server_state,
            residuals=self._uplink.residuals,
            pending=tuple(self._runner.pending),
            trainer_state=self._hope.state_dict(),
            controller_state=self._planner.state_dict(),
            config=self._config,
        )

    def _save(self) -> None:
        self._recorder.flush()
        save_checkpoint(self._path, self._checkpoint())
