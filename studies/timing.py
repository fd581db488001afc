"""Timing of things against each other: all in one run, in turn, and the best of many samples.

A busy machine only ever adds time, so the best sample is the estimate; the median beside it says
how busy the machine was. Candidates take turns, so that what slows one down slows all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .goals import Verdict

_LEAST_SAMPLES = 3


class Role(StrEnum):
    """What a candidate is compared for."""

    OURS = "fedhq"
    """What fedhq uses; the first of a case is what the others are compared with."""
    ALTERNATIVE = "alternative"
    """What one could use instead."""
    LIMIT = "limit"
    """What no implementation can do without; the first of a case is the limit."""


@dataclass(frozen=True)
class Scale:
    """How large and how long to measure; a size of 0 leaves its cases out.

    Args:
        clients: Sizes of the separable program, rising.
        highs_clients: Sizes of the separable program that HiGHS solves, too.
        cohorts: Sizes of the whole program that is solved to the proven optimum.
        hard_clients: Size of the hard families.
        middle_clients: Size of the whole program that is solved to a gap in seconds.
        fleet_clients: Sizes of the whole program from which the growth is read, rising.
        giant_clients: Size of the whole program that is solved in a process of its own.
        gap_clients: Sizes at which the gap of the prices' bound is shown.
        stored_clients: Sizes of a stored fleet, rising.
        round_clients: Clients of a round of a stored fleet.
        trained_clients: Clients that train a CNN together.
        rounds: Rounds of these that count.
        search_clients: Clients of the table whose policies are searched.
        search_trials: Trials of the demo's search.
        seeds: Problems of a case in which solving times vary from one to the next.
        highs_seconds: Time limit of HiGHS for the separable program.
        hard_seconds: Time limit of a solver for a problem of a hard family.
        elements: Numbers in a tensor, a square.
        large_elements: Numbers in a tensor that no cache holds, a square.
        images: Sides of the images in pixels.
        threads: Numbers of torch's threads, for training steps and large tensors.
        samples: Samples of a candidate, at most.
        case_seconds: A case stops to take samples after this time.
        sample_seconds: A sample repeats its call until it takes this long.
        limit_seconds: A solver's time limit; what is expected to take longer is left out.
    """

    clients: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    highs_clients: tuple[int, ...] = (100, 5_000)
    cohorts: tuple[int, ...] = (20, 100)
    hard_clients: int = 100
    middle_clients: int = 2_000
    fleet_clients: tuple[int, ...] = (10_000, 100_000)
    giant_clients: int = 1_000_000
    gap_clients: tuple[int, ...] = (20, 100, 1_000, 10_000, 100_000)
    stored_clients: tuple[int, ...] = (1_000, 10_000, 100_000)
    round_clients: int = 100
    trained_clients: int = 100
    rounds: int = 10
    search_clients: int = 100
    search_trials: int = 1_000
    seeds: int = 5
    highs_seconds: float = 15.0
    hard_seconds: float = 5.0
    elements: int = 1_000_000
    large_elements: int = 16_000_000
    images: tuple[int, ...] = (28, 32, 8)
    threads: tuple[int, ...] = (1, 2)
    samples: int = 25
    case_seconds: float = 6.0
    sample_seconds: float = 0.01
    limit_seconds: float = 10.0


FULL = Scale()
QUICK = Scale(
    clients=(1_000, 10_000),
    highs_clients=(100,),
    cohorts=(20, 100),
    hard_clients=0,
    middle_clients=0,
    fleet_clients=(),
    giant_clients=0,
    gap_clients=(20, 100, 1_000),
    stored_clients=(1_000, 10_000),
    rounds=4,
    search_clients=20,
    search_trials=100,
    seeds=2,
    highs_seconds=2.0,
    large_elements=0,
    threads=(1,),
    samples=5,
    case_seconds=1.0,
    limit_seconds=3.0,
)


@contextmanager
def on_threads(threads: int) -> Iterator[None]:
    """Lets torch use so many threads; afterwards as many as before."""
    import torch  # a process that times a solver does without

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def say_nothing(answer: Any) -> str:
    """The note of a candidate whose answer needs none."""
    return ""


@dataclass(frozen=True)
class Candidate:
    """Something to time.

    Args:
        name: What it is.
        role: What it is compared for.
        run: The call to time.
        describe: From what the call returned to a note.
        num_bytes: What a call works through, for a rate; 0 where a rate says nothing.
        missing: Why it cannot be run; empty if it can.
        parts: Equal parts of a call; the time of one is reported.
    """

    name: str
    role: Role
    run: Callable[[], Any]
    describe: Callable[[Any], str] = say_nothing
    num_bytes: int = 0
    missing: str = ""
    parts: int = 1


@dataclass(frozen=True)
class Row:
    """What came out for a candidate; times are None where it was not run.

    Args:
        case: What was compared.
        name: The candidate.
        role: What it is compared for.
        best_seconds: Least time of a call.
        median_seconds: Median over the samples, or over the problems of a case.
        over_ours: Best time over that of the case's first `OURS`.
        over_limit: Best time over that of the case's first `LIMIT`.
        note: Anything else.
        worst_seconds: Most over the problems of a case; None where it has one problem.
        verdicts: What was asked of it, and whether that is reached.
    """

    case: str
    name: str
    role: Role
    best_seconds: float | None
    median_seconds: float | None
    over_ours: float | None
    over_limit: float | None
    note: str
    worst_seconds: float | None = None
    verdicts: tuple[Verdict, ...] = ()


@dataclass
class _Samples:
    """A candidate's samples, how many calls each has, and whether one has to be enough."""

    candidate: Candidate
    calls: int
    seconds: list[float]
    note: str
    is_slow: bool = False


@dataclass
class Bench:
    """Compares candidates and remembers which were too slow.

    Args:
        scale: How large and how long to measure.
        tell: Is told what is measured next.
    """

    scale: Scale
    tell: Callable[[str], None] = lambda text: None
    _slow: dict[tuple[str, str], float] = field(default_factory=dict)

    def compare(
        self, family: str, candidates: Sequence[Candidate], size: int = 0, unit: str = ""
    ) -> list[Row]:
        """Times the candidates in turn.

        Args:
            family: What is compared.
            candidates: The first `OURS` and the first `LIMIT` are what others are compared with.
            size: Where a family is compared at several sizes: this one.
            unit: Of the size.
        """
        case = f"{family}, {size:,} {unit}" if size else family
        left_out = {c.name: self._why_not(family, c, size) for c in candidates}
        taken = {}
        for candidate in candidates:
            if not left_out[candidate.name]:
                self.tell(f"{case}: {candidate.name}")
                taken[candidate.name] = self._warm_up(candidate)
                self._slow[family, candidate.name] = min(taken[candidate.name].seconds) / (
                    size or 1
                )
        self.tell(case)
        self._take_turns([samples for samples in taken.values() if not samples.is_slow])
        return [_row(case, c, taken, left_out[c.name]) for c in candidates]

    def _take_turns(self, quick: Sequence[_Samples]) -> None:
        """Takes all samples but the first; at least three in all, however long that takes."""
        end = time.perf_counter() + self.scale.case_seconds
        for taken in range(1, self.scale.samples):
            if taken >= _LEAST_SAMPLES and time.perf_counter() > end:
                break
            for samples in quick:
                samples.seconds.append(_sample(samples.candidate, samples.calls))

    def _why_not(self, family: str, candidate: Candidate, size: int) -> str:
        expected = self._slow.get((family, candidate.name), 0.0) * size
        if not candidate.missing and expected > self.scale.limit_seconds:
            return f"left out: expected to take over {expected:.0f} s"
        return candidate.missing

    def _warm_up(self, candidate: Candidate) -> _Samples:
        """The first calls, and a first sample; of a slow candidate they are the same."""
        start = time.perf_counter()
        answer = candidate.run()
        first = time.perf_counter() - start
        if first > self.scale.case_seconds / 4:
            seconds = [first / candidate.parts]
            return _Samples(candidate, 1, seconds, candidate.describe(answer), is_slow=True)
        again = _sample(candidate, 1) * candidate.parts
        calls = max(1, round(self.scale.sample_seconds / max(again, 1e-7)))
        seconds = [_sample(candidate, calls)]
        return _Samples(candidate, calls, seconds, candidate.describe(answer))


def _sample(candidate: Candidate, calls: int) -> float:
    """Seconds per call, or per part of one."""
    run = candidate.run
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / (calls * candidate.parts)


def _row(case: str, candidate: Candidate, taken: dict[str, _Samples], left_out: str) -> Row:
    own = taken.get(candidate.name)
    if own is None:
        return Row(case, candidate.name, candidate.role, None, None, None, None, left_out)
    best = min(own.seconds)

    def over(role: Role) -> float | None:
        least = [min(s.seconds) for s in taken.values() if s.candidate.role is role]
        return best / least[0] if least else None

    notes = [own.note] if own.note else []
    if candidate.num_bytes:
        notes.append(f"{candidate.num_bytes / best / 1e6:,.0f} MB/s")
    if own.is_slow:
        notes.append("1 sample")
    median = statistics.median(own.seconds)
    ratios = over(Role.OURS), over(Role.LIMIT)
    return Row(case, candidate.name, candidate.role, best, median, *ratios, "; ".join(notes))
