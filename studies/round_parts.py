"""Takes the time of every part of a federation's rounds, in the trainer as it is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ..allocator.arrays import FloatArray
from ..fl_core import trainer
from ..fl_core.callbacks.callback import Callback, RunInfo
from ..fl_core.federation import Federation
from ..fl_core.planner import Planner
from ..fl_core.records.recorder import RunRecorder
from ..fl_core.records.records import ClientRecord, RoundRecord, WallRecord
from ..fl_core.rounds import round as rounds
from ..fl_core.rounds.uplink import Uplink
from ..fl_core.server.server import Server

TRAINING = "training"
CHECKPOINT = "checkpoint"
PARTS = (
    "availability, sampling, fates",
    "plan",
    "broadcast",
    "engine",
    "encode",
    "inbox and aggregate",
    "learn",
    "records",
    "other",
    CHECKPOINT,
    TRAINING,
)
"""In their order; `engine` is what it takes beside the clients' training."""
_WATCHED = ("plan", "broadcast", "encode", "inbox and aggregate", "learn", "records", CHECKPOINT)


@dataclass(frozen=True, eq=False)
class RoundTimes:
    """Seconds of every part of every round.

    Args:
        seconds: Of each of `PARTS`, `(rounds,)`.
    """

    seconds: MappingProxyType[str, FloatArray]

    @property
    def overhead(self) -> FloatArray:
        """`(rounds,)` all but training and the checkpoint."""
        parts = [s for name, s in self.seconds.items() if name not in (TRAINING, CHECKPOINT)]
        total: FloatArray = np.sum(parts, axis=0)
        return total

    def share(self, parts: Sequence[str]) -> float:
        """The part of a round that some parts take; the least over the rounds."""
        some: FloatArray = np.sum([self.seconds[name] for name in parts], axis=0)
        return float((some / (self.overhead + self.seconds[TRAINING])).min())


def time_rounds(federation: Federation, planner: Planner, folder: Path) -> RoundTimes:
    """Trains a federation in this process and takes the time of every round's parts.

    The first round, which warms up, and the last, which is evaluated, are left out.

    Args:
        federation: Of at least three rounds, with a checkpoint after each.
        planner: Who decides.
        folder: Of the run.
    """
    watch = _Watch()
    with ExitStack() as stack:
        for owner, name, part in (
            (planner, "plan", "plan"),
            (rounds, "broadcast", "broadcast"),
            (Uplink, "send", "encode"),
            (Server, "apply", "inbox and aggregate"),
            (planner, "observe", "learn"),
            (RunRecorder, "append", "records"),
            (RunRecorder, "flush", CHECKPOINT),
            (trainer, "save_checkpoint", CHECKPOINT),
        ):
            stack.enter_context(watch.on(owner, name, part))
        trainer.Trainer(federation, planner, folder, callbacks=[watch]).run()
    kept = watch.rounds[1:-1]
    return RoundTimes(
        MappingProxyType({part: np.array([seconds[part] for seconds in kept]) for part in PARTS})
    )


@dataclass
class _Watch(Callback):
    """Adds up the seconds of functions, and notes them after every round."""

    rounds: list[dict[str, float]] = field(default_factory=list)
    _spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_WATCHED, 0.0))
    _began: float = 0.0

    @contextmanager
    def on(self, owner: Any, name: str, part: str) -> Iterator[None]:
        """Takes the time of a function of a module, a class or an object."""
        original = getattr(owner, name)

        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return original(*arguments)
            finally:
                self._spent[part] += time.perf_counter() - start

        setattr(owner, name, timed)
        try:
            yield
        finally:
            setattr(owner, name, original)

    def on_start(self, info: RunInfo) -> None:
        self._began = time.perf_counter()

    def on_round(
        self, record: RoundRecord, clients: Sequence[ClientRecord], wall: WallRecord
    ) -> None:
        now = time.perf_counter()
        spent, training = dict(self._spent), sum(wall.client_seconds)
        spent[TRAINING] = training
        spent["availability, sampling, fates"] = wall.plan_seconds - spent["plan"]
        spent["engine"] = wall.train_seconds - spent["broadcast"] - training
        total = now - self._began - wall.evaluate_seconds
        self.rounds.append({**spent, "other": total - sum(spent.values())})
        self._spent.update(dict.fromkeys(_WATCHED, 0.0))
        self._began = time.perf_counter()
