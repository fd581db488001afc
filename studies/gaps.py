"""How gaps behave in training, of which the learner's constants are taken: `studies/gaps.md`.

Trains digits with QAT sets that stay, change in round 10, or alternate.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..fl_core.federation import Federation
from ..fl_core.settings import FederationSettings
from .benchmark import machine_line
from .gap_tables import Watched, report
from .runs import RECORDED, RunSpec, RunStore, TrainedRun, task_settings
from .writing import write_at_once

MODELS = ("mlp", "cnn")
ALPHAS = (0.1, 0.3)
SEEDS = (400, 401, 402)
_ROUNDS, _CLIENTS, _CHANGE = 20, 20, 10


@dataclass(frozen=True)
class Job:
    """One federation: who teaches in which round.

    Args:
        model: Its name.
        alpha: Of the label Dirichlet.
        seed: Of the federation.
        teaches: `(rounds, clients)` whether each does QAT.
    """

    model: str
    alpha: float
    seed: int
    teaches: tuple[tuple[bool, ...], ...]

    @property
    def settings(self) -> FederationSettings:
        """The federation."""
        return task_settings(f"digits-{self.model}", alpha=self.alpha, bits=2, seed=self.seed)

    @property
    def spec(self) -> RunSpec:
        """What is trained."""
        texts = np.where(self.teaches, "qat-w2a2", "ptq-w2a2").tolist()
        return RunSpec(self.settings, tuple(map(tuple, texts)))


def draw_jobs(model: str, seeds: Sequence[int]) -> list[Job]:
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


def read(job: Job, run: TrainedRun) -> Watched:
    """What a job's run showed, beside what its clients covered."""
    counts = np.asarray(Federation.build(job.settings).label_counts, dtype=np.float64)
    curves = (run.deployed, run.in_float, run.server_deployed, run.server_in_float)
    covered = np.array(job.teaches) @ counts / counts.sum(axis=0)
    setting = f"digits-{job.model}, alpha {job.alpha:g}"
    return Watched(setting, job.seed, np.array(curves).T, covered)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what is missing, and prints or writes the record.

    Args:
        arguments: Of the command line; those of the process where None.
    """
    parser = argparse.ArgumentParser(prog="python -m fedhq.studies.gaps", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--store", type=Path, default=Path("runs/store"), help="folder of the runs")
    parser.add_argument("--recorded", action="store_true", help="take up the runs that ship")
    parser.add_argument("--workers", type=int, default=2, help="processes that train")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the record to a file")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error(f"`workers >= 1` must hold, but got {options.workers}.")
    seeds = list(dict.fromkeys(options.seeds))
    jobs = [job for model in dict.fromkeys(options.models) for job in draw_jobs(model, seeds)]
    store = RunStore(options.store, [RECORDED] if options.recorded else [])
    runs = store.train([job.spec for job in jobs], options.workers, _show)
    watched = [read(job, run) for job, run in zip(jobs, runs, strict=True)]
    text = report(watched, machine_line(), sum(run.core_seconds for run in runs))
    if options.out is None:
        print(text, end="")
    else:
        write_at_once(options.out, text)


def _show(done: int, total: int) -> None:
    print(f"{done} of {total} runs", flush=True)


if __name__ == "__main__":
    main()
