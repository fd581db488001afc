"""What gaps say: how long weights remember, how much of a gap is lost, and how much it scatters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..allocator import fitted_loss
from ..allocator.adjust.exposure import MEMORY
from ..allocator.arrays import FloatArray

MEMORIES = (0.0, 0.5, 0.8, 0.9, 0.95)
_FIRST = 3  # rounds in which there is little to lose yet
_TAIL = 5  # rounds of which a run's end is the mean
_THIRDS = 3

_HOW = f"""A gap is the accuracy of the float model less that of the same weights as deployed. Of
each setting and seed eleven federations are trained: QAT on all clients, on none, on random sets of
2 to 12, on all or none until round 10, and on all in every second or fourth round. Gaps are
explained by the shipped curve phi at the coverage that weights remember: the mean over the rounds,
each counting *memory* times the next. *Spread by memory*: standard deviation of what that leaves,
after round {_FIRST}. At memory {MEMORY:g}, over the ends of runs: *gap, slope*: how much of it goes
with one phi; *lost, the factor*: deployed accuracy lost for one phi, which is what the curve is to
be multiplied with here (its spread is `SCALE_SPREAD`); *lost a gap*: the ratio of both
(`LOSS_PER_GAP`); *base*: what is lost, by the gap, where phi is 0 (`BASE`). *Round, by thirds*:
standard deviation of a round's gap around the fit to all rounds (`ROUND_SPREAD`). *Server*: how far
the gap on the server's own examples is off, standard deviation."""


@dataclass(frozen=True, eq=False)
class Watched:
    """A run whose gaps were watched.

    Args:
        setting: The task and alpha.
        seed: Of the federation.
        accuracy: `(rounds, 4)` on the test examples as deployed and in float, then on the server's.
        covered: `(rounds, classes)` coverage.
    """

    setting: str
    seed: int
    accuracy: FloatArray
    covered: FloatArray

    @property
    def gaps(self) -> FloatArray:
        """`(rounds,)` on the test examples."""
        return np.asarray(self.accuracy[:, 1] - self.accuracy[:, 0])


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


@dataclass(frozen=True)
class Found:
    """What the runs of a setting and seed say; see the record's text."""

    spreads: tuple[float, ...]
    base: float
    slope: float
    lost: float
    by_thirds: tuple[float, ...]
    server: float

    @property
    def lost_a_gap(self) -> float:
        """Deployed accuracy lost, by gap."""
        return self.lost / self.slope


def find(runs: Sequence[Watched]) -> Found:
    """The figures of the runs of one setting and seed.

    Example:
        >>> covered = np.repeat([[0.0], [0.2], [1.0]], 20, axis=1)[:, :, None]
        >>> phis = [remembered(c, MEMORY) for c in covered]
        >>> curves = [np.stack([0.9 - p, 0.92 + p, 0.9 - p, 0.92 + p], axis=1) for p in phis]
        >>> runs = [Watched("invented", 0, a, c) for a, c in zip(curves, covered)]
        >>> found = find(runs)
        >>> round(found.slope, 3), round(found.lost, 3), round(found.lost_a_gap, 3)
        (2.0, 1.0, 0.5)
        >>> round(found.base, 3), round(max(found.spreads), 3)
        (0.01, 0.0)
    """
    gaps = np.array([run.gaps for run in runs])[:, _FIRST:]
    spreads = []
    for memory in MEMORIES:
        spreads.append(float(_unexplained(runs, memory, gaps).std()))
    ends = np.array([remembered(r.covered, MEMORY)[-1] for r in runs])
    slope, base = np.polyfit(ends, gaps[:, -_TAIL:].mean(axis=1), 1)
    lost = -np.polyfit(ends, [r.accuracy[-_TAIL:, 0].mean() for r in runs], 1)[0]
    thirds = np.array_split(_unexplained(runs, MEMORY, gaps), _THIRDS, axis=1)
    off = [r.accuracy[:, 3] - r.accuracy[:, 2] - r.gaps for r in runs]
    return Found(
        tuple(spreads),
        float(base * lost / slope),
        float(slope),
        float(lost),
        tuple(float(third.std()) for third in thirds),
        float(np.std(off)),
    )


def _unexplained(runs: Sequence[Watched], memory: float, gaps: FloatArray) -> FloatArray:
    """`(runs, rounds)` what a line through phi leaves of the gaps."""
    design = np.array([remembered(run.covered, memory)[_FIRST:] for run in runs])
    line = np.polynomial.Polynomial.fit(design.ravel(), gaps.ravel(), 1)
    return np.asarray(gaps - line(design))


def report(runs: Sequence[Watched], machine: str, core_seconds: float) -> str:
    """The record, as Markdown.

    Args:
        runs: All.
        machine: On which they were trained.
        core_seconds: What they took.
    """
    by_setting: dict[tuple[str, int], list[Watched]] = {}
    for run in runs:
        by_setting.setdefault((run.setting, run.seed), []).append(run)
    found = {key: find(members) for key, members in by_setting.items()}
    head = f"{len(runs)} runs, {core_seconds / 60:.1f} core-minutes."
    told = ["# Gaps: what the learner of the loss is told by", machine, f"{_HOW}\n\n{head}"]
    return "\n\n".join([*told, _table(found)]) + "\n"


def _table(found: dict[tuple[str, int], Found]) -> str:
    memories = " / ".join(f"{memory:g}" for memory in MEMORIES)
    headings = (
        "setting",
        "seed",
        f"spread by memory {memories}",
        "gap, slope",
        "lost, the factor",
        "lost a gap",
        "base",
        "round, by thirds",
        "server",
    )
    rows = [(setting, str(seed), *_cells(f)) for (setting, seed), f in found.items()]
    columns = [[getattr(f, name) for f in found.values()] for name in _SUMMED]
    ranges = [f"{np.mean(c):.3f} ({min(c):.3f} to {max(c):.3f})" for c in columns]
    spreads = np.mean([f.spreads for f in found.values()], axis=0)
    thirds = np.mean([f.by_thirds for f in found.values()], axis=0)
    slope, lost, ratio, base, server = ranges
    mean = ("**mean (range)**", "", _list(spreads), slope, lost, ratio, base, _list(thirds), server)
    lines = [headings, ("---",) * len(headings), *rows, mean]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_SUMMED = ("slope", "lost", "lost_a_gap", "base", "server")


def _cells(found: Found) -> tuple[str, ...]:
    return (
        _list(found.spreads),
        f"{found.slope:.2f}",
        f"{found.lost:.2f}",
        f"{found.lost_a_gap:.2f}",
        f"{found.base:.3f}",
        _list(found.by_thirds),
        f"{found.server:.3f}",
    )


def _list(values: Sequence[float] | FloatArray) -> str:
    return " / ".join(f"{value:.3f}" for value in values)
