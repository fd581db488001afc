"""When in training QAT pays, what resting clients cost: `python -m fedhq.studies.schedules`.

Trains fixed plans that change from round to round, fits how fast rounds are forgotten and absent
clients missed (`Recency`, `FittedLoss.skip_memory`), and writes a record. Runs are kept in a folder
and shared with other studies; two tasks and three seeds take about six core-minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..allocator.arrays import FloatArray
from ..allocator.hardware import StepProfile
from ..allocator.strategy import parse_menu
from ..fl_core.federation import Federation
from ..fl_core.settings import FederationSettings
from .benchmark import machine_line
from .runs import RECORDED, RunSpec, RunStore, task_settings
from .runs import TASKS as KNOWN_TASKS
from .schedule_plans import Arm, arms_of
from .schedule_tables import Run, report
from .writing import write_at_once

TASKS = ("digits-mlp", "mnist5k-mlp")
SEEDS = (100, 101, 102)
_ALPHA, _BITS, _CLIENTS = 0.3, 2, 20


def slow_clients(seed: int, clients: int = _CLIENTS) -> list[int]:
    """Six in twenty, drawn at random: speed says nothing about the data.

    Example:
        >>> len(slow_clients(0))
        6
    """
    return sorted(np.random.default_rng(seed).permutation(clients)[: 3 * clients // 10].tolist())


def class_shares(settings: FederationSettings) -> FloatArray:
    """`(clients, classes)` each client's part of a class."""
    profile = StepProfile("any", 1, parse_menu(settings.menu), np.ones(4), np.zeros(4), "none")
    counts = Federation.build(settings, profile).label_counts
    return np.asarray(counts / np.maximum(counts.sum(axis=0), 1))


def runs_of(tasks: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int, Arm, RunSpec]]:
    """All runs of the study: task, seed, arm, and what is trained."""
    found = []
    for task in tasks:
        for seed in seeds:
            settings = task_settings(task, alpha=_ALPHA, bits=_BITS, seed=seed)
            rounds = settings.training.rounds
            for arm in arms_of(_CLIENTS, rounds, slow_clients(seed)):
                found.append((task, seed, arm, RunSpec(settings, arm.rows)))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains what is missing, and prints or writes the record.

    Args:
        arguments: Of the command line; those of the process where None.
    """
    parser = argparse.ArgumentParser(prog="python -m fedhq.studies.schedules", description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("runs/store"), help="folder of the runs")
    parser.add_argument("--recorded", action="store_true", help="take up the runs that ship")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the record to a file")
    options = parser.parse_args(arguments)
    tasks, seeds = dict.fromkeys(options.tasks), dict.fromkeys(options.seeds)
    known = [name for name, task in KNOWN_TASKS.items() if not task.is_natural]  # of 20 clients
    unknown = [task for task in tasks if task not in known]
    if unknown:
        parser.error(f"`tasks` must be of {', '.join(known)}, but got {', '.join(unknown)}.")
    if options.workers < 1:
        parser.error(f"`workers >= 1` must hold, but got {options.workers}.")
    wanted = runs_of(list(tasks), list(seeds))
    store = RunStore(options.store, [RECORDED] if options.recorded else [])
    trained = store.train([w[3] for w in wanted], options.workers, _show)
    settings = {(task, seed): spec.settings for task, seed, _, spec in wanted}
    shares = {key: class_shares(told) for key, told in settings.items()}
    runs = [
        Run(task, seed, arm, spec, shares[task, seed], run)
        for (task, seed, arm, spec), run in zip(wanted, trained, strict=True)
    ]
    text = report(runs, machine_line())
    if options.out is None:
        print(text, end="")
    else:
        write_at_once(options.out, text)


def _show(done: int, of: int) -> None:
    print(f"{done} of {of} runs", flush=True)


if __name__ == "__main__":
    main()
