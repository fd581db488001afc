"""Solvers that misbehave in other processes, which import them by this module's name."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np

from fedhq.allocator import Answer, Status, Uniform
from fedhq.studies.ablation.contestants import Contestant
from fedhq.studies.ablation.kinds import Kind

ODD_SECONDS = "3601.25"  # by which the tests know what `Hangs` started
WARM_UP = 3  # clients of the problem that every process solves first


def ends_at_once(*arguments) -> None:
    """In place of what a process is to do."""
    sys.exit(3)


def honest(problem) -> Answer:
    return Uniform(problem.strategies[-1])(problem)


@dataclass(frozen=True)
class Hangs:
    """Never ends, nor does what it starts."""

    also_at_first: bool = False

    def __call__(self, problem) -> Answer:
        if problem.num_clients > WARM_UP or self.also_at_first:
            subprocess.run(["sleep", ODD_SECONDS], check=True)
        return honest(problem)


@dataclass(frozen=True)
class Segfaults:
    def __call__(self, problem) -> Answer:
        if problem.num_clients > WARM_UP:
            os.kill(os.getpid(), signal.SIGSEGV)
        return honest(problem)


@dataclass(frozen=True)
class Lies:
    """Claims that everybody's last strategy is the optimum, and proves it with its own word."""

    def __call__(self, problem) -> Answer:
        choice = np.full(problem.num_clients, len(problem.strategies) - 1)
        return Answer(Status.OPTIMAL, choice, problem.objective(choice) + 1.0)


@dataclass(frozen=True)
class Raises:
    kind: str

    def __call__(self, problem) -> Answer:
        if self.kind == "refuses":
            raise ValueError("`coverage` is beyond me.")
        if self.kind == "lacks":
            raise ModuleNotFoundError("No module named 'far_away'")
        raise RuntimeError("broken")


@dataclass(frozen=True)
class Sleeps:
    seconds: float

    def __call__(self, problem) -> Answer:
        if problem.num_clients > WARM_UP:
            time.sleep(self.seconds)
        return honest(problem)


@dataclass(frozen=True)
class Holds:
    """Holds memory for a moment, here or in a process that it starts."""

    megabytes: int
    apart: bool = False

    def __call__(self, problem) -> Answer:
        if self.apart:
            code = f"b'x' * {self.megabytes} * 1_000_000; sum(range(3_000_000))"
            subprocess.run([sys.executable, "-c", code], check=True)
        else:
            assert np.ones(self.megabytes * 125_000).sum() > 0
        return honest(problem)


@dataclass(frozen=True)
class InVain:
    """Takes its time and finds nothing."""

    seconds: float

    def __call__(self, problem) -> Answer:
        if problem.num_clients > WARM_UP:
            time.sleep(self.seconds)
        return Answer(Status.UNKNOWN, message="nothing found")


def entered(name: str, solver: object, version: str = "mine 1") -> Contestant:
    return Contestant(name, version, solver, Kind.HEURISTIC)
