"""What it costs that clients tell less of their labels: `python -m fedhq.studies.bench_privacy`.

Random fleets of 20 clients with 100 to 400 examples of ten classes (Dirichlet 0.3), their speeds
lognormal. Planned is the least loss with at most five clients on QAT, and none of the slowest fifth
of the fleet. A plan made with less is judged by the program that knows the exact counts: figures
are points of predicted accuracy lost against the plan made with these.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..allocator import (
    Count,
    Dual,
    Goal,
    HardwareTables,
    HybridAllocator,
    grouped_counts,
    noisy_counts,
    parse_menu,
)
from ..allocator.arrays import FloatArray, IntArray
from .benchmark import machine_line
from .writing import write_at_once

EPSILONS = (1.0, 0.1, 0.01)
_MENU = parse_menu(["skip", "ptq-w2a2", "qat-w2a2"])
_SKIP, _PTQ, _QAT = range(3)
_CLIENTS, _CLASSES = 20, 10
_MOST_QAT = 5
_DRAWS = 40  # of clients by lot


@dataclass(frozen=True, eq=False)
class PrivateFleet:
    """A fleet whose labels are known exactly, to judge plans by.

    Args:
        counts: `(clients, classes)` labels.
        seconds: `(clients, strategies)` times.

    Example:
        >>> fleet = PrivateFleet.drawn(np.random.default_rng(0))
        >>> fleet.loss_of(fleet.plan(fleet.counts)) <= fleet.loss_of(fleet.plan(None))
        True
    """

    counts: IntArray
    seconds: FloatArray

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> PrivateFleet:
        """A random one."""
        sizes = rng.integers(100, 400, _CLIENTS)
        counts = rng.multinomial(sizes, rng.dirichlet(np.full(_CLASSES, 0.3), _CLIENTS))
        return cls(counts, np.outer(np.exp(rng.normal(1, 0.5, _CLIENTS)), [0, 1, 1.5]))

    def allocator(
        self, label_counts: ArrayLike | None, tells_examples: bool = True
    ) -> HybridAllocator:
        """Who knows only these counts, and perhaps how many examples each has."""
        zeros, can = np.zeros(self.seconds.shape), np.ones(self.seconds.shape, dtype=bool)
        examples = self.counts.sum(axis=1) if tells_examples else np.full(_CLIENTS, np.nan)
        return HybridAllocator(
            _MENU,
            HardwareTables(self.seconds, zeros, zeros, can, _MENU),
            "qat-w2a2",
            Dual(),
            num_examples=examples,
            label_counts=label_counts,
            goal=Goal(
                deadline_seconds=float(np.quantile(self.seconds[:, _QAT], 0.8)),
                counts=[Count(["qat-w2a2"], at_most=_MOST_QAT)],
            ),
        )

    def plan(self, label_counts: ArrayLike | None, tells_examples: bool = True) -> IntArray:
        """`(clients,)` what is planned with these counts."""
        return self.allocator(label_counts, tells_examples).plan(1).choice

    def loss_of(self, choice: IntArray) -> float:
        """What a choice loses, by the exact counts."""
        return self.allocator(self.counts).problem().total_loss(choice)

    def by_lot(self, rng: np.random.Generator) -> float:
        """Mean loss where as many clients as may do QAT are drawn of those that can in time."""
        problem = self.allocator(self.counts).problem()
        fits = self.seconds <= (problem.deadline_seconds or 0.0)
        losses = []
        for _ in range(_DRAWS):
            choice = np.where(fits[:, _PTQ], _PTQ, _SKIP)
            choice[rng.choice(np.flatnonzero(fits[:, _QAT]), _MOST_QAT, replace=False)] = _QAT
            losses.append(problem.total_loss(choice))
        return float(np.mean(losses))


def points_lost(seed: int) -> Iterator[tuple[str, float]]:
    """What a random fleet loses, by what its clients tell, in points of predicted accuracy."""
    rng = np.random.default_rng(seed)
    fleet = PrivateFleet.drawn(rng)
    least = fleet.loss_of(fleet.plan(fleet.counts))
    for epsilon in EPSILONS:
        noisy = fleet.plan(noisy_counts(fleet.counts, epsilon, rng), tells_examples=False)
        yield f"noise of epsilon {epsilon:g}, no number of examples", fleet.loss_of(noisy) - least
    pairs = fleet.plan(grouped_counts(fleet.counts, [c // 2 for c in range(_CLASSES)]))
    yield "classes grouped in pairs", fleet.loss_of(pairs) - least
    half = fleet.plan(np.where(np.arange(_CLIENTS)[:, None] % 2, fleet.counts, np.nan))
    yield "half of the clients withhold", fleet.loss_of(half) - least
    yield "all withhold", fleet.loss_of(fleet.plan(None)) - least
    yield "for comparison: five clients drawn by lot", fleet.by_lot(rng) - least


def run(fleets: int) -> str:
    """Measures and returns Markdown.

    Args:
        fleets: Of seeds 0, 1, ...
    """
    lost: dict[str, list[float]] = {}
    for seed in range(fleets):
        for name, value in points_lost(seed):
            lost.setdefault(name, []).append(100 * value)
    about = (__doc__ or "").partition("\n\n")[2]
    lines = [f"# Private label counts\n\n{machine_line()}\n\n{about}"]
    lines += [
        f"| what clients tell | points lost, mean of {fleets} fleets | most |",
        "|---|---:|---:|",
    ]
    lines += [f"| {name} | {np.mean(of):.1f} | {max(of):.1f} |" for name, of in lost.items()]
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table, and writes it if asked.

    Args:
        arguments: Of the command line; those of the process where None.
    """
    parser = argparse.ArgumentParser("python -m fedhq.studies.bench_privacy", description=__doc__)
    parser.add_argument("--fleets", type=int, default=50, metavar="N", help="random ones (50)")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="the table")
    options = parser.parse_args(arguments)
    if options.fleets < 1:
        parser.error(f"`fleets >= 1` must hold, but got {options.fleets}.")
    text = run(options.fleets)
    if options.out is not None:
        write_at_once(options.out, text)
    print(text, end="")


if __name__ == "__main__":
    main()
