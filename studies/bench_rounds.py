"""Where a round's time goes, and what a large fleet costs: `python -m fedhq.studies.bench_rounds`.

A fleet is stored on the disk, and its federation runs in a process of its own, for the peak of its
memory. Of every part of a round the least over the rounds is taken: others only ever add time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import nn

from ..allocator import Strategy
from ..allocator.arrays import FloatArray
from ..allocator.hardware import StepProfile
from ..fl_core.data.datasets import Dataset
from ..fl_core.data.store import StoredClients, store_clients
from ..fl_core.federation import Federation
from ..fl_core.runtime import set_up_process
from ..fl_core.settings import (
    AvailabilitySettings,
    DataSettings,
    FederationSettings,
    FleetSettings,
    ParticipationSettings,
    PartitionSettings,
    TrainingSettings,
)
from .apart import peak_bytes
from .goals import Goal, Verdict
from .round_parts import PARTS, TRAINING, RoundTimes, time_rounds
from .timing import Bench, Role, Row

_INPUTS, _HIDDEN, _CLASSES, _MOST_EXAMPLES = 16, 16, 10, 24
_STEP_SECONDS = {"skip": 0.0, "ptq-w2a2": 0.010, "qat-w2a2": 0.014}
_BATCH, _TRAINED_EXAMPLES, _EPOCHS = 8, 40, 2
_WARM_UP_AND_LAST = 2  # rounds that do not count
_SCATTER = 0.1  # standard deviation of log-seconds
_OURS = "all but training and checkpoint"
_COUNTED = ("plan", "encode", "inbox and aggregate", "learn", "records")

_OVERHEAD_GOAL = Goal(_OURS, 10.0, "ms")
_MEMORY_GOAL = Goal("memory of one client more", 1000.0, "bytes")
_SHARE_GOAL = Goal("planning, codec, server and records, of the round", 1.0, "%")


def round_rows(bench: Bench) -> Iterator[Row]:
    """Rounds of stored fleets of rising size, and of a CNN's training."""
    scale = bench.scale
    peaks: list[int] = []
    for size in scale.stored_clients:
        case = f"round of {scale.round_clients} of {size:,} stored clients"
        times, peak = _run_apart(bench, case, size, scatters=False)
        peaks.append(peak)
        verdicts = [_judge_overhead(times)]
        if size > scale.stored_clients[0]:
            more = (peak - peaks[0]) / (size - scale.stored_clients[0])
            verdicts.append(_MEMORY_GOAL.judge(more))
        yield from _rows(case, times, f"peak memory {peak / 1e6:,.0f} MB", verdicts)
    if peaks:
        case += f", times scatter by {_SCATTER:.0%}, a third online"
        times, peak = _run_apart(bench, case, size, scatters=True)
        yield from _rows(case, times, f"peak memory {peak / 1e6:,.0f} MB", [_judge_overhead(times)])
    if scale.trained_clients:
        for scatter in (0.0, _SCATTER):
            yield from _trained(bench, scatter)


def _judge_overhead(times: RoundTimes) -> Verdict:
    return _OVERHEAD_GOAL.judge(1e3 * float(times.overhead.min()))


def _trained(bench: Bench, scatter: float) -> list[Row]:
    """All clients train a CNN on MNIST in every round."""
    count, how = bench.scale.trained_clients, "as predicted"
    if scatter:
        how = f"scatter by {scatter:.0%}"
    case = f"round of {count} clients, cnn at 28x28, {_EPOCHS} epochs, times {how}"
    bench.tell(case)
    federation = _cnn_federation(count, bench.scale.rounds + _WARM_UP_AND_LAST, scatter)
    with tempfile.TemporaryDirectory() as folder:
        times = time_rounds(federation, federation.allocator(), Path(folder))
    share = 100 * times.share(_COUNTED)
    return _rows(case, times, "", [_SHARE_GOAL.judge(share)])


def _rows(case: str, times: RoundTimes, note: str, verdicts: Sequence[Verdict]) -> list[Row]:
    """The overhead, its parts, and training: what no round can do without."""
    ours, least = float(times.overhead.min()), float(times.seconds[TRAINING].min())

    def row(name: str, role: Role, seconds: FloatArray) -> Row:
        best, middle = float(seconds.min()), float(np.median(seconds))
        return Row(case, name, role, best, middle, best / ours, best / least, "")

    return [
        replace(row(_OURS, Role.OURS, times.overhead), note=note, verdicts=tuple(verdicts)),
        *(row(part, Role.ALTERNATIVE, times.seconds[part]) for part in PARTS if part != TRAINING),
        row(TRAINING, Role.LIMIT, times.seconds[TRAINING]),
    ]


def _cnn_federation(num_clients: int, rounds: int, scatter: float) -> Federation:
    kept, calibration = 5_000 - _TRAINED_EXAMPLES * num_clients, 200
    return Federation.build(
        FederationSettings(
            data=DataSettings("mnist5k", num_test=kept - calibration, num_calibration=calibration),
            partition=PartitionSettings("iid", num_clients=num_clients),
            training=TrainingSettings(
                rounds=rounds, local_epochs=_EPOCHS, evaluate_every=rounds, learning_rate=0.05
            ),
            participation=ParticipationSettings(jitter=scatter),
        )
    )


def store_fleet(folder: Path, num_clients: int) -> None:
    """Stores clients of a few examples of noise, each with few of the classes."""
    rng = np.random.default_rng(0)

    def draw() -> Dataset:
        count = int(rng.integers(1, _MOST_EXAMPLES))
        inputs = rng.standard_normal((count, _INPUTS), np.float32)
        labels = rng.choice(_CLASSES, count, p=rng.dirichlet(np.full(_CLASSES, 0.3)))
        return Dataset(torch.from_numpy(inputs), torch.from_numpy(labels), _CLASSES)

    store_clients(folder, (draw() for _ in range(num_clients)))


def _stored_federation(folder: Path, cohort: int, rounds: int, scatters: bool) -> Federation:
    """A tiny model on a stored fleet; one step of a batch in a round."""
    torch.manual_seed(0)
    menu = tuple(Strategy.parse(name) for name in _STEP_SECONDS)
    seconds = np.array([*_STEP_SECONDS.values()])
    network = nn.Sequential(nn.Linear(_INPUTS, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _CLASSES))
    kept = Dataset(torch.randn(64, _INPUTS), torch.arange(64) % _CLASSES, _CLASSES)
    comes_and_goes = AvailabilitySettings(online_share=0.3) if scatters else None
    return Federation.of(
        network,
        StoredClients(folder),
        kept,
        kept,
        StepProfile("tiny", _BATCH, menu, seconds, np.zeros(len(menu)), "by hand"),
        fleet=FleetSettings(kind="lognormal", availability=comes_and_goes),
        menu=menu,
        training=TrainingSettings(
            rounds=rounds, local_steps=1, batch_size=_BATCH, evaluate_every=rounds
        ),
        participation=ParticipationSettings(cohort=cohort, jitter=_SCATTER if scatters else 0.0),
    )


def _run_apart(bench: Bench, case: str, size: int, scatters: bool) -> tuple[RoundTimes, int]:
    """Stores a fleet here and trains it in a fresh process: times, and the peak of its memory."""
    bench.tell(case)
    rounds = bench.scale.rounds + _WARM_UP_AND_LAST
    with tempfile.TemporaryDirectory() as parent:
        store_fleet(Path(parent, "fleet"), size)
        given = [parent, str(bench.scale.round_clients), str(rounds), str(int(scatters))]
        command = [sys.executable, "-m", __name__, *given]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, peak = json.loads(text)
    return RoundTimes(MappingProxyType({k: np.array(v) for k, v in seconds.items()})), peak


def _answer(parent: Path, cohort: int, rounds: int, scatters: bool) -> str:
    """What the process says: the seconds of every part and the peak, as JSON."""
    set_up_process(1)
    federation = _stored_federation(parent / "fleet", cohort, rounds, scatters)
    times = time_rounds(federation, federation.allocator(), parent / "run")
    return json.dumps([{k: v.tolist() for k, v in times.seconds.items()}, peak_bytes()])


if __name__ == "__main__":
    print(_answer(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1"))
