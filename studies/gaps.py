"""How gaps behave in training: `python -m fedhq.studies.gaps --model mlp --seeds 400 401 402`.

Trains digits with QAT sets that stay, change in round 10, or alternate, and prints what the
constants of `allocator.adjust` are taken from: how long the weights remember what was taught, how
much a round's gap scatters, and how much of a gap is deployed accuracy lost against all-QAT.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..allocator import fitted_loss
from ..allocator.arrays import FloatArray
from ..fl_core.federation import Federation
from ..fl_core.settings import FederationSettings
from .runs import RunSpec, RunStore, TrainedRun, task_settings

MEMORIES = (0.0, 0.5, 0.8, 0.9, 0.95)
ALPHAS = (0.1, 0.3)
_ROUNDS, _CLIENTS, _CHANGE, _FIRST = 20, 20, 10, 3


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


@dataclass(frozen=True, eq=False)
class Trained:
    """A job that was trained.

    Args:
        job: The job.
        accuracy: `(rounds, 4)` on the test examples as deployed and in float, then on the server's.
        covered: `(rounds, classes)` coverage.
    """

    job: Job
    accuracy: FloatArray
    covered: FloatArray


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


def settings_for(job: Job) -> FederationSettings:
    """The federation of a job."""
    return task_settings(f"digits-{job.model}", alpha=job.alpha, bits=2, seed=job.seed)


def spec_of(job: Job) -> RunSpec:
    """What a job trains."""
    texts = np.where(job.teaches, "qat-w2a2", "ptq-w2a2").tolist()
    return RunSpec(settings_for(job), tuple(map(tuple, texts)))


def read(job: Job, run: TrainedRun) -> Trained:
    """What a job's run showed, beside what its clients covered."""
    counts = np.asarray(Federation.build(settings_for(job)).label_counts, dtype=np.float64)
    curves = (run.deployed, run.in_float, run.server_deployed, run.server_in_float)
    covered = np.array(job.teaches) @ counts / counts.sum(axis=0)
    return Trained(job, np.array(curves).T, covered)


def remembered(covered: FloatArray, memory: float) -> FloatArray:
    """`(rounds,)` the fitted loss of the decayed mean coverage; classes count alike.

    Example:
        >>> remembered(np.array([[1.0], [0.0]]), 0.0).round(4)
        array([0.    , 0.0799])
    """
    curve, mean, weight, losses = np.array(fitted_loss().loss_curve), 0.0, 0.0, []
    for row in covered:
        mean, weight = memory * mean + row, memory * weight + 1.0
        losses.append(float(np.interp(mean / weight, *curve.T).mean()))
    return np.array(losses)


def report(trained: Sequence[Trained]) -> None:
    """Prints the figures of every setting."""
    for key in sorted({(t.job.alpha, t.job.seed) for t in trained}):
        runs = [(t.accuracy, t.covered) for t in trained if (t.job.alpha, t.job.seed) == key]
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
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/gaps"),
        help="folder of trained runs, which are not trained again (default: %(default)s)",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that train")
    options = parser.parse_args()
    jobs = draw_jobs(options.model, options.seeds)
    runs = RunStore(options.runs).train([spec_of(job) for job in jobs], options.workers, _show)
    report([read(job, run) for job, run in zip(jobs, runs, strict=True)])


def _show(done: int, total: int) -> None:
    print(f"{done} of {total} runs", flush=True)


if __name__ == "__main__":
    main()
