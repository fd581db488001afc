"""How gaps behave in training: `python -m fedhq.studies.gaps --model mlp --seeds 400 401 402`.

Trains digits with QAT sets that stay, change in round 10, or alternate, and prints what the
constants of `allocator.adjust` are taken from: how long the weights remember what was taught, how
much a round's gap scatters, and how much of a gap is deployed accuracy lost against all-QAT.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..allocator import Allocation, Outcome, ServerAccuracy, fitted_loss
from ..allocator.arrays import FloatArray
from ..fl_core.federation import Federation
from ..fl_core.records.recorder import read_rounds
from ..fl_core.runtime import set_up_worker
from ..fl_core.trainer import Trainer
from .fit import settings_of

MEMORIES = (0.0, 0.5, 0.8, 0.9, 0.95)
ALPHAS = (0.1, 0.3)
_ROUNDS, _CLIENTS, _CHANGE, _FIRST = 25, 20, 10, 3


@dataclass(frozen=True)
class Job:
    """One federation: who teaches in which round.

    Args:
        model: Its name.
        alpha: Of the label Dirichlet.
        seed: Of the federation.
        teaches: `(rounds, clients)` whether each does QAT.
    """

    model: Literal["mlp", "cnn"]
    alpha: float
    seed: int
    teaches: tuple[tuple[bool, ...], ...]


@dataclass
class _Told:
    """A planner that does what it is told, and keeps what the server measures."""

    allocations: Sequence[Allocation]
    measured: list[ServerAccuracy] = field(default_factory=list)

    def plan(self, round_number: int, cohort: Sequence[int] | None = None) -> Allocation:
        """That of the round."""
        return self.allocations[round_number - 1]

    def observe(self, outcomes: Sequence[Outcome], accuracy: ServerAccuracy | None = None) -> None:
        """Keeps the accuracy."""
        if accuracy is not None:
            self.measured.append(accuracy)

    def state_dict(self) -> Mapping[str, Any]:
        """Nothing: a run is not resumed."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Has nothing to take up."""


def draw_jobs(model: Literal["mlp", "cnn"], seeds: Sequence[int]) -> list[Job]:
    """All, nobody, sets of 2 to 12, changes in round 10, and rounds by turns."""
    jobs = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        sets = {k: tuple((rng.permutation(_CLIENTS) < k).tolist()) for k in (0, 2, 3, 5, 8, 12, 20)}
        late = _ROUNDS - _CHANGE
        plans = [[chosen] * _ROUNDS for chosen in sets.values()]
        plans += [[sets[20]] * _CHANGE + [sets[0]] * late, [sets[0]] * _CHANGE + [sets[20]] * late]
        plans += [[sets[20 if t % k == k - 1 else 0] for t in range(_ROUNDS)] for k in (2, 4)]
        jobs += [Job(model, alpha, seed, tuple(plan)) for alpha in ALPHAS for plan in plans]
    return jobs


def train(job: Job) -> tuple[Job, FloatArray, FloatArray]:
    """The job, `(rounds, 4)` test and server accuracies (deployed, float), `(rounds, classes)`."""
    base = settings_of(job.seed)
    settings = replace(base, model=job.model, partition=replace(base.partition, alpha=job.alpha))
    federation = Federation.build(settings)
    menu = [str(s) for s in federation.menu]
    columns = np.where(job.teaches, menu.index("qat-w2a2"), menu.index("ptq-w2a2"))
    problem = federation.allocator().problem()
    planner = _Told([Allocation.of(problem, row) for row in columns])
    with tempfile.TemporaryDirectory() as folder:
        Trainer(federation, planner, Path(folder)).run()
        rounds = read_rounds(Path(folder))
    rows = [
        (r.deployed_accuracy, r.float_accuracy, m.deployed, m.in_float)
        for r, m in zip(rounds, planner.measured, strict=True)
    ]
    counts = np.asarray(federation.label_counts, dtype=np.float64)
    covered = np.array(job.teaches) @ counts / counts.sum(axis=0)
    return job, np.array(rows, dtype=np.float64), covered


def remembered(covered: FloatArray, memory: float) -> FloatArray:
    """`(rounds,)` the fitted loss of the decayed mean coverage; classes count alike.

    Example:
        >>> remembered(np.array([[1.0], [0.0]]), 0.0).round(4)
        array([0.    , 0.2239])
    """
    curve, mean, weight, losses = np.array(fitted_loss().loss_curve), 0.0, 0.0, []
    for row in covered:
        mean, weight = memory * mean + row, memory * weight + 1.0
        losses.append(float(np.interp(mean / weight, *curve.T).mean()))
    return np.array(losses)


def report(trained: Sequence[tuple[Job, FloatArray, FloatArray]]) -> None:
    """Prints the figures of every setting."""
    for key in sorted({(job.alpha, job.seed) for job, _, _ in trained}):
        runs = [(a, c) for job, a, c in trained if (job.alpha, job.seed) == key]
        gaps = np.concatenate([(a[:, 1] - a[:, 0])[_FIRST:] for a, _ in runs])
        errors = {}
        for memory in MEMORIES:
            design = np.concatenate([remembered(c, memory)[_FIRST:] for _, c in runs])
            solved = np.polynomial.Polynomial.fit(design, gaps, 1)
            errors[memory] = round(float((gaps - solved(design)).std()), 4)
        last = np.array([[remembered(c, 0.9)[-1], *a[-5:].mean(axis=0)] for a, c in runs])
        gap, lost = (np.polyfit(last[:, 0], y, 1) for y in (last[:, 2] - last[:, 1], -last[:, 1]))
        few = np.concatenate([(a[:, 3] - a[:, 2]) - (a[:, 1] - a[:, 0]) for a, _ in runs])
        print(
            f"alpha {key[0]} seed {key[1]}: spread of gaps by memory "
            f"{errors}; gap {gap[1]:.3f} + {gap[0]:.2f} phi, "
            f"lost {lost[0]:.2f} phi; server's gap off by {few.std():.3f}",
            flush=True,
        )


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--model", choices=["mlp", "cnn"], default="mlp")
    parser.add_argument("--seeds", type=int, nargs="+", default=[400, 401, 402])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context, initializer=set_up_worker) as pool:
        report(list(pool.map(train, draw_jobs(options.model, options.seeds))))


if __name__ == "__main__":
    main()
