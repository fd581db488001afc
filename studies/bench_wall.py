"""Wall-clock to an accuracy against today's operators: `python -m fedhq.studies.bench_wall`.

The rivals are plain PyTorch loops of federated averaging, all clients on QAT with the fake
quantization of torch.ao or torchao. They train the same federations as fedhq does: clients, first
weights, batches, learning rates, rounds. `--quick` trains little; `--out FILE.md` writes the
report instead of printing it.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console

from ..allocator import Strategy, Uniform
from ..fl_core.federation import Federation
from ..fl_core.runtime import set_up_process
from ..fl_core.settings import (
    DataSettings,
    DeviceClass,
    FederationSettings,
    FleetSettings,
    TrainingSettings,
)
from .benchmark import machine_line
from .plain_loop import Library
from .wall_runs import Contestant, Course, Lap, fedhq_laps, plain_laps, run_in_turn
from .wall_steps import step_table
from .wall_tables import effects_table, goal_lines, rounds_table, targets_table
from .writing import write_at_once

OURS = "fedhq, as it decides"
ALL_QAT = "fedhq, all-QAT"
ONE_BY_ONE = ", one client after the other"
OUR_POOLS = "torch.ao, fedhq's pools"
_TIMED_ROUNDS = 5

_HOW_TO_READ = """All train the same federation: 20 clients (Dirichlet .3) with the demo's fleet
of three device classes (slow-downs of 5, 10 and 20), the same first weights, batches in the same
order, SGD with momentum .9 and a half cosine from .05 over the rounds, one local epoch. Everything
runs in one process, the contestants in turn, a round each, so that a busy machine slows all alike.
All of it keeps freed memory (`mallopt`), which fedhq sets and a loop of one's own has not: that
favours the rivals. So do their uploads, which are floats and cost nothing; fedhq plans, packs and
unpacks updates of 4 bits and writes records in every round, and is charged for it. Checkpoints,
which the rivals have none of, are written after the last round only.

**torch.ao** is `prepare_qat` with a stub before every layer that quantizes: fused modules (as in
`get_default_qat_qconfig`), or several operators (`default_qat_qconfig`), which also have scales of
their own (the largest magnitude over half of the codes). Observers' ranges travel with the weights
and are averaged, which deployed more accurately than fresh ranges in every round (two other seeds).
**torchao** has no convolution: its fake quantizers are put into one, with a range for every
example. Deployed accuracy is that of each library's own rounding, with its averaged ranges; beside
it stands that of the same weights shipped as fedhq ships. **fedhq** is its trainer in the same
process, deployed with static ranges.

Seconds to a target are the rounds after which the curve averaged over the seeds is there in the
mean of its last three rounds, times the contestant's median seconds of a round: all rounds are the
same work, and what else the machine did in one of them says nothing. Targets were set before fedhq
was run; of the rivals two other seeds had been seen. In brackets is the least and the greatest of
the seeds' own ratios; that of averaged curves, which come to a target at rounds of their own, may
lie outside. A rival that never gets there counts with all its rounds, a lower bound (>=); fedhq
likewise makes an upper bound (<=), which counts as 0 for the goal, as does a target that neither
gets to. **fedhq, as it decides** is the default rule without a finish: one machine does the work of
all clients here, so that QAT costs its time whoever does it. **torch.ao, fedhq's pools** trains
five rounds, to tell effects apart. The slowest device is the greatest, over the clients, of the
median seconds of the client's training times its device's slow-down: what a round waits for on the
fleet, without links."""


@dataclass(frozen=True)
class Cell:
    """What is trained.

    Args:
        data: A data set.
        network: A network that is a sequence of layers.
        bits: Of weights and activations.
        rounds: How many.
        num_test: Test examples.
        targets: Deployed accuracies to reach, rising.
        together: Clients that fedhq trains stacked (`training.clients_together`).
    """

    data: str
    network: Literal["cnn", "mlp"]
    bits: int
    rounds: int
    num_test: int
    targets: tuple[float, ...]
    together: int = 1

    def __str__(self) -> str:
        return f"{self.data}, {self.network}, W{self.bits}A{self.bits}"

    def settings(self, seed: int, threads: int = 1) -> FederationSettings:
        """The settings of a seed's federation, one client after the other."""
        bits = f"w{self.bits}a{self.bits}"
        return FederationSettings(
            fleet=_FLEET,
            menu=("skip", f"ptq-{bits}", f"qat-{bits}"),
            weight_bits=self.bits,
            activation_bits=self.bits,
            model=self.network,
            seed=seed,
            data=DataSettings(self.data, num_test=self.num_test),
            training=TrainingSettings(
                rounds=self.rounds,
                learning_rate=0.05,
                momentum=0.9,
                threads=threads,
                checkpoint_every=self.rounds,
            ),
        )

    @property
    def convolves(self) -> bool:
        """Whether the network has pools, which are fedhq's own."""
        return self.network == "cnn"


def _device(name: str, slowdown: float) -> DeviceClass:
    return DeviceClass(name, 1.0, slowdown, 5e6 / slowdown, 2e7 / slowdown)


_FLEET = FleetSettings(
    classes=(_device("fast", 5.0), _device("medium", 10.0), _device("slow", 20.0))
)
FULL = (
    Cell("mnist5k", "cnn", 2, 15, 1000, (0.75, 0.80, 0.85)),
    Cell("mnist5k", "cnn", 4, 15, 1000, (0.85, 0.90, 0.92)),
    Cell("digits", "mlp", 2, 30, 300, (0.70, 0.75, 0.80), together=16),
    Cell("digits", "mlp", 4, 30, 300, (0.80, 0.85, 0.90), together=16),
)
QUICK = (Cell("digits", "cnn", 2, 2, 300, (0.10, 0.99), together=16),)


def contestants_of(cell: Cell) -> list[Contestant]:
    """Rivals, and fedhq in all the ways that keep its effects apart."""
    qat = Uniform(Strategy.parse(f"qat-w{cell.bits}a{cell.bits}"))
    rivals = [
        Contestant(str(library), partial(plain_laps, library=library), cell.rounds, is_rival=True)
        for library in (Library.TORCH_AO, Library.TORCH_AO_APART, Library.TORCHAO)
        if not library.missing
    ]
    found = [*rivals]
    if cell.convolves:
        start = partial(plain_laps, library=Library.TORCH_AO, torch_pools=False)
        found.append(Contestant(OUR_POOLS, start, min(cell.rounds - 1, _TIMED_ROUNDS)))
    for name, solver in ((ALL_QAT, qat), (OURS, None)):
        one_by_one = partial(fedhq_laps, solver=solver)
        if cell.together > 1:
            found.append(Contestant(name + ONE_BY_ONE, one_by_one, cell.rounds))
            found.append(Contestant(name, partial(_stacked, one_by_one, cell), cell.rounds))
        else:
            found.append(Contestant(name, one_by_one, cell.rounds))
    return found


def _stacked(
    start: Callable[[Federation], Iterator[Lap]], cell: Cell, federation: Federation
) -> Iterator[Lap]:
    training = replace(federation.training, clients_together=cell.together)
    return start(replace(federation, training=training))


def study(
    cells: Sequence[Cell], seeds: int, threads: int, tell: Callable[[str], None]
) -> dict[Cell, list[Course]]:
    """Trains all cells.

    Args:
        cells: What.
        seeds: How many.
        threads: Of torch's operators.
        tell: Is told how far it is.
    """
    set_up_process(threads)
    found = {}
    for cell in cells:
        federations = {
            seed: Federation.build(cell.settings(seed, threads)) for seed in range(seeds)
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.ao says that it is deprecated
            contestants = contestants_of(cell)
            found[cell] = run_in_turn(contestants, federations, partial(_tell, tell, cell))
    return found


def _tell(tell: Callable[[str], None], cell: Cell, text: str) -> None:
    tell(f"{cell}: {text}")


def report(found: dict[Cell, list[Course]], steps: str) -> str:
    """Markdown: goals, then tables of every cell.

    Args:
        found: Of `study`.
        steps: The table of training steps.
    """
    by_title = {str(cell): (cell.targets, courses) for cell, courses in found.items()}
    missing = [f"{lib}: {lib.missing}." for lib in Library if lib.missing]
    seeds = {len(courses[0].seconds) for courses in found.values()}
    parts = [
        f"# Wall-clock against today's eager operators\n\n{machine_line()}",
        _HOW_TO_READ,
        f"{', '.join(map(str, sorted(seeds)))} seeds.",
        *missing,
        "## Goals",
        goal_lines(by_title, OURS),
    ]
    for title, (targets, courses) in by_title.items():
        parts += [
            f"## {title}",
            targets_table(courses, targets, OURS),
            rounds_table(courses, OURS),
            effects_table(courses, (str(Library.TORCH_AO), OUR_POOLS, ALL_QAT, OURS), ONE_BY_ONE),
        ]
    return "\n\n".join([*parts, "## Training steps of other networks", steps]).rstrip() + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints or writes its report.

    Args:
        arguments: Of the command line; those of the process where None.
    """
    parser = argparse.ArgumentParser(prog="python -m fedhq.studies.bench_wall", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small cell, two rounds")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the report to a file")
    options = parser.parse_args(arguments)
    for name in ("seeds", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"`{name} >= 1` must hold, but got {getattr(options, name)}.")
    cells = QUICK if options.quick else FULL
    with Console(stderr=True).status("") as status:
        found = study(cells, options.seeds, options.threads, status.update)
        status.update("training steps")
        steps = step_table(options.quick)
    text = report(found, steps)
    if options.out is None:
        print(text, end="")
    else:
        write_at_once(options.out, text)


if __name__ == "__main__":
    main()
