"""Accuracy at low bits against other libraries: `python -m fedhq.studies.quality`.

The same networks, data, initial weights, batches, optimizer and epochs for every arm; the learning
rate is each arm's best of a grid, chosen on validation examples with other seeds. `--quick` trains
little; `--out FILE.md` writes the report instead of printing it.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..fl_core.callbacks.meter import Meter
from ..fl_core.data.registry import load_dataset
from ..fl_core.processes import forking_context
from ..fl_core.runtime import set_up_worker
from ..models import build_model
from .benchmark import machine_line
from .quality_arms import Arm
from .quality_tables import Result, accuracy_table, difference_table, verdicts
from .quality_trials import BATCH_SIZE, Cell, Trial, run_trial
from .writing import write_at_once

Accuracies = Mapping[Trial, float]

_FIRST_CHOOSING_SEED = 1000
_HOW_TO_READ = f"""Trained from random weights, Adam with a half cosine, batches of {BATCH_SIZE};
every convolution and linear layer at the same bits, weights per channel, inputs per tensor. Each
arm has the learning rate that did best on validation examples, with seeds of their own. Accuracy
is that of the deployed model on test examples that no choice saw: of fedhq converted, with static
ranges; of Brevitas its model in eval mode, whose ranges are static, too. Seeds are paired: a
difference is fedhq's accuracy less the other's, its error the standard error of that mean. Of
equally good arms about one row in six falls below one standard error by chance.

Brevitas: inputs `Uint8ActPerTensorFloat`, statistics in the first epoch and learned from then on;
weights `Int8WeightPerChannelFloat` (default) or `Int8WeightPerChannelFloatMSE` (learned). torchao:
`IntxFakeQuantizeConfig`, weights per channel, inputs per token.

Not comparable: Brevitas' weights have one code less (-qmax ... qmax). torchao has no convolution
and no range of a whole tensor: its inputs have a new range for every example, also when deployed,
which is finer than a static range and costs time where it ships."""


@dataclass(frozen=True)
class Plan:
    """How much to train.

    Args:
        cells: What arms are compared on.
        rates: Learning rates to choose from.
        choosing_seeds: How many seeds choose the rate.
        seeds: How many seeds are reported; at least 2.
    """

    cells: tuple[Cell, ...]
    rates: tuple[float, ...]
    choosing_seeds: int
    seeds: int


_EPOCHS = {"mnist5k": 4, "digits": 10}
FULL = Plan(
    cells=tuple(
        Cell(data, network, bits, epochs, 3000)
        for data, epochs in _EPOCHS.items()
        for network in ("cnn", "mlp")
        for bits in (4, 3, 2)
    ),
    rates=(0.003, 0.01, 0.03),
    choosing_seeds=2,
    seeds=6,
)
QUICK = Plan(
    cells=tuple(Cell("digits", network, 2, 2, 320) for network in ("cnn", "mlp")),
    rates=(0.003, 0.01),
    choosing_seeds=1,
    seeds=2,
)


def arms_of(cell: Cell) -> list[Arm]:
    """The installed arms that can quantize a cell's network."""
    data = load_dataset(cell.data)
    model = build_model(cell.network, data.input_shape, data.num_classes, 0)
    return [arm for arm in Arm if not arm.missing and arm.takes(model)]


def study(plan: Plan, workers: int) -> list[Result]:
    """Chooses each arm's rate, trains all seeds with it, and shows how far it is.

    Args:
        plan: How much to train.
        workers: Processes.

    Returns:
        In the order of cells and arms.
    """
    pairs = [(cell, arm) for cell in plan.cells for arm in arms_of(cell)]
    choosing = [
        Trial(cell, arm, rate, _FIRST_CHOOSING_SEED + k, True)
        for (cell, arm), rate, k in itertools.product(pairs, plan.rates, range(plan.choosing_seeds))
    ]
    total = len(choosing) + len(pairs) * plan.seeds
    context = forking_context(run_trial.__module__)
    with ProcessPoolExecutor(workers, context, initializer=set_up_worker) as pool, Meter() as meter:
        seen = _run(pool, meter, choosing, 0, total)
        rates = {pair: best_rate(seen, *pair) for pair in pairs}
        reported = [
            Trial(cell, arm, rates[cell, arm], seed, False)
            for (cell, arm), seed in itertools.product(pairs, range(plan.seeds))
        ]
        found = _run(pool, meter, reported, len(choosing), total)
    return [
        Result(cell, arm, rates[cell, arm], tuple(_accuracies(found, cell, arm)))
        for cell, arm in pairs
    ]


def _run(
    pool: ProcessPoolExecutor, meter: Meter, trials: Sequence[Trial], done: int, total: int
) -> Accuracies:
    found = {}
    for trial, reached in zip(trials, pool.map(run_trial, trials), strict=True):
        found[trial] = reached
        meter.show(f"{trial.cell}, {trial.arm}", done + len(found), total)
    return found


def _accuracies(found: Accuracies, cell: Cell, arm: Arm) -> list[float]:
    return [reached for trial, reached in found.items() if (trial.cell, trial.arm) == (cell, arm)]


def best_rate(found: Accuracies, cell: Cell, arm: Arm) -> float:
    """The rate with the most accurate mean; of equals the smallest.

    Args:
        found: Accuracies on validation examples.
        cell: On what.
        arm: How.
    """
    reached: dict[float, list[float]] = {}
    for trial, value in found.items():
        if (trial.cell, trial.arm) == (cell, arm):
            reached.setdefault(trial.rate, []).append(value)
    return max(sorted(reached), key=lambda rate: float(np.mean(reached[rate])))


def report(plan: Plan, results: Sequence[Result]) -> str:
    """Markdown: the verdict, the differences, the accuracies.

    Args:
        plan: What was trained.
        results: Of `study`.
    """
    missing = sorted({f"{arm}: {arm.missing}." for arm in Arm if arm.missing})
    sizes = "; ".join(
        sorted({f"{c.data}: {c.epochs} epochs, at most {c.num_train} examples" for c in plan.cells})
    )
    settings = (
        f"{sizes}. Rates {', '.join(f'{rate:g}' for rate in plan.rates)}, chosen by "
        f"{plan.choosing_seeds} seeds; {plan.seeds} others reported."
    )
    head = f"# Accuracy at low bits against other libraries\n\n{machine_line()}"
    parts = [head, _HOW_TO_READ, settings, *missing]
    parts += ["## Differences", verdicts(results), difference_table(results)]
    return "\n\n".join([*parts, "## Accuracies", accuracy_table(results)]) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study and prints or writes its report.

    Args:
        arguments: Of the command line; those of the process where None.
    """
    parser = argparse.ArgumentParser(prog="python -m fedhq.studies.quality", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two small cells, two seeds")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the report to a file")
    options = parser.parse_args(arguments)
    plan = QUICK if options.quick else FULL
    text = report(plan, study(plan, options.workers))
    if options.out is None:
        print(text, end="")
    else:
        write_at_once(options.out, text)


if __name__ == "__main__":
    main()
