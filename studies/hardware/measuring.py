"""Measures steps, strategies in turn, and keeps every case as a line of a file.

The clock is the processor time of one thread, which on a quiet machine is the time that passes and
on a busy one leaves out what others take. Others still take the caches, for minutes: so all cases
are gone through several times, and of a case's medians the least counts.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...fl_core.engine.local import LocalTrainer
from ...fl_core.settings import TrainingSettings
from ...fl_core.weights import read_weights
from ...models import Recipe, prepare_
from .cases import FLOAT, MENU, Case

_STEPS, _LARGE_STEPS, _LARGE_BATCH = 6, 3, 128
_FEWEST, _MOST = 2, 20
_CASE_SECONDS = 1.5


@dataclass(frozen=True)
class Measured:
    """What the steps of a case took.

    Args:
        case: The case.
        seconds: `(strategies of MENU,)` time of a step, median over samples, least of the passes.
        peak_bytes: In float and quantizing: most memory that a step had allocated at once, and its
            weights and momentum.
    """

    case: Case
    seconds: tuple[float, ...]
    peak_bytes: tuple[float, float]


def measure(case: Case, samples: int | None = None) -> Measured:
    """Measures a case through the code of the clients.

    Args:
        case: The case.
        samples: Per strategy; None takes as many as fit into 1.5 seconds, at least two.
    """
    steps = _LARGE_STEPS if case.batch_size >= _LARGE_BATCH else _STEPS
    model, data = case.build(), case.data(steps)
    trainer = LocalTrainer(model, TrainingSettings(batch_size=case.batch_size))
    weights = read_weights(model)
    times: list[list[float]] = [[] for _ in MENU]
    begin, sample = time.perf_counter(), 0
    while _goes_on(sample, samples, time.perf_counter() - begin):
        for strategy, taken in zip(MENU, times, strict=True):
            start = time.process_time()
            trainer.train(weights, data, strategy, 0.01, np.random.default_rng(sample))
            taken.append((time.process_time() - start) / steps)
        sample += 1
    seconds = tuple(statistics.median(taken[1:]) for taken in times)  # the first warms up
    quantizing = prepare_(case.build(), Recipe(4, 4))
    return Measured(case, seconds, (_peak_bytes(model, case), _peak_bytes(quantizing, case)))


def _goes_on(sample: int, asked: int | None, elapsed: float) -> bool:
    if asked is not None:
        return sample <= asked
    return sample <= _FEWEST or (sample <= _MOST and elapsed < _CASE_SECONDS)


def _peak_bytes(model: nn.Module, case: Case) -> float:
    """The most that a step has allocated at once, by torch's own account of its allocator."""
    data = case.data(1)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiled:
        nn.functional.cross_entropy(model(data.inputs), data.labels).backward()  # type: ignore[no-untyped-call]
    results = profiled.profiler.kineto_results if profiled.profiler else None
    assert results is not None
    held = peak = 0
    for event in results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return float(peak + 8 * sum(p.numel() for p in model.parameters()))


def measure_into(
    path: Path,
    cases: Iterable[Case],
    passes: int,
    samples: int | None,
    tell: Callable[[str], None],
) -> list[Measured]:
    """Measures what a file does not hold yet, writes each case to it at once, and reads it.

    Args:
        path: A line of JSON for every case and pass.
        cases: What to measure.
        passes: How often all are gone through.
        samples: See `measure`.
        tell: Is told of every case.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = list(cases)
    done = Counter(one.case for one in _lines(path))
    for number in range(1, passes + 1):
        for case in wanted:
            if done[case] >= number:
                continue
            one = measure(case, samples)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(one)) + "\n")
            float_ms = one.seconds[MENU.index(FLOAT)] * 1e3
            tell(f"{number} of {passes}: {case.label}, batch {case.batch_size}: {float_ms:.3f} ms")
    found = {one.case: one for one in read(path)}
    return [found[case] for case in wanted]


def read(path: Path) -> list[Measured]:
    """The cases of a file, each once."""
    found: dict[Case, Measured] = {}
    for one in _lines(path):
        if one.case in found:
            best = map(min, found[one.case].seconds, one.seconds)
            one = Measured(one.case, tuple(best), one.peak_bytes)
        found[one.case] = one
    return list(found.values())


def _lines(path: Path) -> Iterator[Measured]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        content = json.loads(line)
        case = content["case"] | {"input_shape": tuple(content["case"]["input_shape"])}
        yield Measured(Case(**case), tuple(content["seconds"]), tuple(content["peak_bytes"]))
