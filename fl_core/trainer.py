"""The federation's loop: plan, train, aggregate, evaluate; recorded, and resumable at any point."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..allocator.controller import Outcome
from ..allocator.errors import CheckpointError, FedHQError, WireError
from ..allocator.solution import Allocation
from ..models import accuracy
from .deployment import ship
from .engine.pool import WorkerPool
from .engine.serial import SerialEngine
from .engine.work import Engine, Setup, Trained, Work
from .federation import Federation
from .records.checkpoint import Checkpoint, check_same_config, load_checkpoint, save_checkpoint
from .records.recorder import ROUNDS_FILE, RunRecorder, read_rounds
from .records.records import ClientRecord, RoundRecord, WallRecord
from .runtime import threads
from .seeds import Purpose, generator
from .server.aggregate import federated_average
from .weights import Weights, load_weights_, read_weights
from .wire.codec import Update, decode_update, encode_with_feedback
from .wire.downlink import Broadcast, broadcast
from .wire.rounding import RAW_BITS

CHECKPOINT_FILE = "checkpoint.safetensors"
MIN_FEEDBACK_BITS = 3
"""At 2 bits the noise of a row exceeds the row, and its residual would grow (see `wire.codec`)."""
_EVALUATION_BATCH = 500


class Planner(Protocol):
    """Who decides; `HybridAllocator` is one."""

    def plan(self, round_number: int, cohort: Sequence[int] | None = None) -> Allocation:
        """Decides what every client of the cohort does."""
        ...

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """Takes in what they did."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """What a checkpoint must keep, ready for JSON."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a saved state."""
        ...


@dataclass(frozen=True, eq=False)
class TrainerState:
    """All that changes from round to round, beside the planner's own state.

    Args:
        round_number: Rounds done.
        simulated_seconds: Simulated time since the start.
        weights: The server's float weights.
        residuals: Per client, what error feedback still owes.
    """

    round_number: int
    simulated_seconds: float
    weights: Weights
    residuals: dict[int, Weights]


@dataclass(frozen=True, eq=False)
class _Reply:
    """What came back from one client of the cohort."""

    record: ClientRecord
    outcome: Outcome
    update: Update | None


class Trainer:
    """Trains a federation on a virtual clock; the same bytes with any number of workers.

    Args:
        federation: Data, clients, devices.
        planner: Who decides what each client does.
        folder: Where records and checkpoint go; what stands there is resumed.
        config: The resolved configuration, ready for JSON; a checkpoint of another is refused.
        workers: Processes that train clients; 1 trains in this one.
        patience_seconds: How long a worker may take for one client; see `WorkerPool`.

    Raises:
        CheckpointError: If the folder holds a damaged checkpoint or one of another configuration.
    """

    def __init__(
        self,
        federation: Federation,
        planner: Planner,
        folder: Path,
        config: Mapping[str, Any],
        workers: int = 1,
        patience_seconds: float | None = None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"`workers >= 1` must hold, but got {workers}.")
        self._federation = federation
        self._planner = planner
        self._folder = folder
        self._config = config
        self._recorder = RunRecorder(folder)
        self._workers = workers
        self._patience = patience_seconds
        self._state = self._resume()

    @property
    def state(self) -> TrainerState:
        """Where training stands."""
        return self._state

    def run(self, on_round: Callable[[RoundRecord], None] | None = None) -> Weights:
        """Trains the rounds that are left.

        Args:
            on_round: Called after each round with its record.

        Returns:
            The server's float weights after the last round.

        Raises:
            InfeasibleError: If the planner's limits cannot be kept.
            FedHQError: If no client of a round returns a usable update.
        """
        training = self._federation.settings.training
        left = range(self._state.round_number + 1, training.rounds + 1)
        if not left:
            return self._state.weights
        with threads(training.threads), closing(self._make_engine()) as engine:
            for number in left:
                record = self._round(number, engine)
                if number % training.checkpoint_every == 0 or number == training.rounds:
                    self._save()
                if on_round is not None:
                    on_round(record)
        return self._state.weights

    def _make_engine(self) -> Engine:
        federation, settings = self._federation, self._federation.settings
        setup = Setup(
            federation.model,
            federation.clients,
            settings.training,
            settings.quantization,
            settings.seed,
        )
        if self._workers == 1:
            return SerialEngine(setup)
        return WorkerPool(setup, self._workers, self._patience)

    def _round(self, number: int, engine: Engine) -> RoundRecord:
        clock = [time.perf_counter()]
        # 1. Decide.
        cohort = self._sample_cohort(number)
        allocation = self._planner.plan(number, cohort)
        clock.append(time.perf_counter())
        # 2. Train, and send over the wire.
        rate = self._learning_rate(number)
        bits = self._federation.settings.training.downlink_bits
        model = broadcast(self._state.weights, bits, number, self._federation.settings.seed)
        works = [
            Work(number, client, allocation.strategy(place), rate)
            for place, client in enumerate(cohort)
            if not allocation.strategy(place).is_skip
        ]
        trained = {t.work.client: t for t in engine.train(model.weights, works)}
        replies = [
            self._reply(number, client, allocation, place, model, trained.get(client))
            for place, client in enumerate(cohort)
        ]
        # 3. Aggregate.
        updates = [reply.update for reply in replies if reply.update is not None]
        if not updates:
            raise FedHQError(
                f"no client of round {number} returned a usable update. "
                f"Lower `learning_rate` ({rate:.4g} in this round) if training diverged."
            )
        seconds = max(reply.record.seconds for reply in replies)
        self._state = replace(
            self._state,
            round_number=number,
            simulated_seconds=self._state.simulated_seconds + seconds,
            weights=federated_average(self._state.weights, updates),
        )
        self._planner.observe([reply.outcome for reply in replies])
        clock.append(time.perf_counter())
        # 4. Evaluate as deployed, and record.
        deployed, in_float = self._evaluate(number)
        clock.append(time.perf_counter())
        clients = [reply.record for reply in replies]
        record = RoundRecord(
            round=number,
            simulated_seconds=self._state.simulated_seconds,
            round_seconds=seconds,
            deployed_accuracy=deployed,
            float_accuracy=in_float,
            uplink_bytes=sum(c.uplink_bytes for c in clients),
            downlink_bytes=sum(c.downlink_bytes for c in clients),
            planned_loss=allocation.loss,
            bottleneck=None if allocation.bottleneck is None else cohort[allocation.bottleneck],
            learning_rate=rate,
        )
        wall = WallRecord(number, *(float(t) for t in np.diff(clock)))
        self._recorder.append(record, clients, wall)
        return record

    def _reply(
        self,
        number: int,
        client: int,
        allocation: Allocation,
        place: int,
        model: Broadcast,
        trained: Trained | None,
    ) -> _Reply:
        """One client's part of a round; a client that diverges or breaks down counts as failed."""
        strategy = allocation.strategy(place)
        data = self._federation.clients[client]
        column = int(allocation.choice[place])
        seconds = float(self._federation.hardware.seconds[client, column])
        sent, received, loss, update = 0, 0, None, None
        status = "skipped"
        if trained is not None:
            received, status = model.num_bytes, "failed"
            if trained.update is not None:
                with suppress(WireError):
                    payload = self._send(number, client, strategy.wire_bits, trained.update)
                    update = decode_update(payload, model.weights)
                    status, sent, loss = "ok", len(payload), trained.train_loss
        record = ClientRecord(
            round=number,
            client=client,
            strategy=str(strategy),
            num_examples=len(data),
            seconds=seconds,
            uplink_bytes=sent,
            downlink_bytes=received,
            train_loss=loss,
            status=status,
        )
        return _Reply(record, Outcome(client, strategy, seconds, status == "ok"), update)

    def _send(self, number: int, client: int, wire_bits: int, update: Weights) -> bytes:
        """Writes an update, with error feedback where that does not grow without bound."""
        residuals = self._state.residuals
        feeds_back = MIN_FEEDBACK_BITS <= wire_bits < RAW_BITS
        payload, left = encode_with_feedback(
            update,
            residuals.get(client) if feeds_back else None,
            wire_bits=wire_bits,
            round_number=number,
            client=client,
            num_examples=len(self._federation.clients[client]),
            rng=generator(self._federation.settings.seed, Purpose.WIRE, number, client),
        )
        if feeds_back:
            residuals[client] = left
        return payload

    def _sample_cohort(self, number: int) -> list[int]:
        settings = self._federation.settings
        num_clients = len(self._federation.clients)
        size = settings.training.cohort
        if size is None or size >= num_clients:
            return list(range(num_clients))
        rng = generator(settings.seed, Purpose.COHORT, number)
        return sorted(int(i) for i in rng.choice(num_clients, size, replace=False))

    def _learning_rate(self, number: int) -> float:
        """Half a cosine from the first round to the last."""
        training = self._federation.settings.training
        progress = (number - 1) / training.rounds
        return training.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))

    def _evaluate(self, number: int) -> tuple[float | None, float | None]:
        settings = self._federation.settings
        training = settings.training
        if number % training.evaluate_every and number != training.rounds:
            return None, None
        split = self._federation.split
        model = self._federation.model
        load_weights_(model, self._state.weights)
        shipped = ship(model, settings, split.calibration)
        inputs, labels = split.test.inputs, split.test.labels
        return (
            accuracy(shipped, inputs, labels, _EVALUATION_BATCH),
            accuracy(model, inputs, labels, _EVALUATION_BATCH),
        )

    def _resume(self) -> TrainerState:
        path = self._folder / CHECKPOINT_FILE
        if not path.exists():
            self._start_anew()
            return TrainerState(0, 0.0, read_weights(self._federation.model), {})
        saved = load_checkpoint(path)
        check_same_config(saved.config, self._config)
        self._recorder.truncate(saved.round_number)
        self._planner.load_state_dict(saved.controller_state)
        return TrainerState(
            saved.round_number, saved.simulated_seconds, saved.weights, saved.residuals
        )

    def _start_anew(self) -> None:
        """Drops the records of a run that ended before its first checkpoint, but no others."""
        records = self._folder / ROUNDS_FILE
        done = len(read_rounds(self._folder)) if records.exists() else 0
        if done > self._federation.settings.training.checkpoint_every:
            raise CheckpointError(
                f"{self._folder} must hold {CHECKPOINT_FILE}, since it has the records of {done} "
                "rounds, but there is none. Restore it, or start the run anew in another folder."
            )
        self._recorder.truncate(0)

    def _save(self) -> None:
        self._recorder.flush()
        checkpoint = Checkpoint(
            round_number=self._state.round_number,
            simulated_seconds=self._state.simulated_seconds,
            weights=self._state.weights,
            residuals=self._state.residuals,
            controller_state=self._planner.state_dict(),
            config=self._config,
        )
        save_checkpoint(self._folder / CHECKPOINT_FILE, checkpoint)
