"""What each trained federation shows: its loss, and all that a model may explain it by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...allocator import Strategy
from ...allocator.arrays import FloatArray, IntArray
from ...allocator.data import total_variation, wire_noise
from ...allocator.features import feature_counts, find_centres
from ..runs import RunStore, TrainedRun
from .drawing import Kind
from .grid import Setting, Trial, federation_of, label_counts_of, same_data

MIXED = (Kind.RANDOM, Kind.BIASED)
REFERENCES = (Kind.ALL_PTQ, Kind.ALL_QAT)
_CENTRES_A_CLASS = 2


@dataclass(frozen=True, eq=False)
class Covered:
    """How much of every class, or of every cluster of inputs, something holds.

    Args:
        share: `(classes,)` in 0 ... 1.
        weights: `(classes,)` the population's distribution.
    """

    share: FloatArray
    weights: FloatArray

    @classmethod
    def of(cls, counts: IntArray, chosen: FloatArray) -> Covered:
        """Of the chosen clients.

        Args:
            counts: `(clients, classes)`.
            chosen: `(clients,)` zeros and ones.
        """
        population = counts.sum(axis=0)
        share = chosen @ counts / population.clip(min=1)
        return cls(share, population / population.sum())


@dataclass(frozen=True, eq=False)
class Evidence:
    """One federation.

    Args:
        trial: Which.
        accuracy: Deployed, mean of the last rounds.
        loss: Against all-QAT of its setting and seed, the mean of its repeats.
        gap: The loss of all-PTQ there, likewise.
        taught: Classes by what of them lies with QAT clients.
        present: Classes by what of them does not skip.
        clusters: Clusters of inputs by what of them lies with QAT clients.
        distance: Total variation between the labels of the QAT clients together and the
            population's; 1 where nobody does QAT.
        skewed: Share of the examples without QAT, each client's times its own labels' total
            variation from the population's.
        absent: Share of the examples that skip.
        noise: Wire noise, weighted by examples.
    """

    trial: Trial
    accuracy: float
    loss: float
    gap: float
    taught: Covered
    present: Covered
    clusters: Covered
    distance: float
    skewed: float
    absent: float
    noise: float

    @property
    def share(self) -> float:
        """Share of the examples that lie with QAT clients."""
        return float(self.taught.share @ self.taught.weights)


@dataclass(frozen=True, eq=False)
class Cell:
    """A setting and seed of which every federation is trained.

    Args:
        setting: Where.
        seed: Of its federations.
        evidence: One a federation.
        server_gap: What all-PTQ loses by being quantized, on the server's own examples: float
            accuracy less deployed, of the same weights.
        core_seconds: That training took.
    """

    setting: Setting
    seed: int
    evidence: tuple[Evidence, ...]
    server_gap: float
    core_seconds: float

    @property
    def mixed(self) -> tuple[Evidence, ...]:
        """What models are judged on: each random and biased set once."""
        return tuple(e for e in self.evidence if e.trial.drawn.kind in MIXED and not e.trial.repeat)

    @property
    def gap(self) -> float:
        """The loss of all-PTQ."""
        return self.evidence[0].gap

    def pairs_of(self, kinds: Sequence[Kind] = (*Kind,)) -> FloatArray:
        """`(pairs, 2)` accuracies of what was trained twice, of allocations of some kinds."""
        again = {e.trial.drawn: e.accuracy for e in self.evidence if e.trial.repeat}
        return np.array(
            [
                (e.accuracy, again[e.trial.drawn])
                for e in self.evidence
                if not e.trial.repeat and e.trial.drawn in again and e.trial.drawn.kind in kinds
            ]
        )


@dataclass(frozen=True)
class Lacking:
    """A setting and seed that is not whole yet.

    Args:
        setting: Where.
        seed: Of its federations.
        runs: How many are not trained.
        of: All of them.
    """

    setting: Setting
    seed: int
    runs: int
    of: int

    def __str__(self) -> str:
        return f"{self.setting}, seed {self.seed}: {self.runs} of {self.of}"


def gather(
    store: RunStore, batches: Iterable[Sequence[Trial]]
) -> tuple[tuple[Cell, ...], tuple[Lacking, ...]]:
    """The cells that are whole, in the order of batches, and those that lack federations."""
    asked: dict[tuple[Setting, int], list[Trial]] = {}
    for batch in batches:
        for trial in batch:
            asked.setdefault((trial.setting, trial.seed), []).append(trial)
    cells: list[Cell] = []
    missing: list[Lacking] = []
    for (setting, seed), trials in asked.items():
        runs = [store.find(trial.spec) for trial in trials]
        if lacking := runs.count(None):
            missing.append(Lacking(setting, seed, lacking, len(trials)))
        else:
            cells.append(_cell(setting, seed, trials, [run for run in runs if run]))
    return tuple(cells), tuple(missing)


def _cell(setting: Setting, seed: int, trials: Sequence[Trial], runs: Sequence[TrainedRun]) -> Cell:
    best = _mean(r.tail() for t, r in zip(trials, runs, strict=True) if _is(t, Kind.ALL_QAT))
    floats = [r for t, r in zip(trials, runs, strict=True) if _is(t, Kind.ALL_PTQ)]
    gap = best - _mean(run.tail() for run in floats)
    counts = label_counts_of(setting, seed)
    clusters = _cluster_counts(same_data(setting), seed)
    evidence = tuple(
        _evidence(trial, run.tail(), best, gap, counts, clusters)
        for trial, run in zip(trials, runs, strict=True)
    )
    seen = _mean(r.server_in_float[-1] - r.server_deployed[-1] for r in floats)
    return Cell(setting, seed, evidence, seen, sum(run.core_seconds for run in runs))


def _is(trial: Trial, kind: Kind) -> bool:
    return trial.drawn.kind is kind


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _evidence(
    trial: Trial,
    accuracy: float,
    best: float,
    gap: float,
    counts: IntArray,
    clusters: IntArray,
) -> Evidence:
    menu = [Strategy.parse(s) for s in trial.drawn.strategies(trial.setting.ptq, trial.setting.qat)]
    does_qat = np.array([float(s.method == "qat") for s in menu])
    skips = np.array([float(s.is_skip) for s in menu])
    shares = counts.sum(axis=1) / counts.sum()
    pool = does_qat @ counts
    return Evidence(
        trial=trial,
        accuracy=accuracy,
        loss=best - accuracy,
        gap=gap,
        taught=Covered.of(counts, does_qat),
        present=Covered.of(counts, 1 - skips),
        clusters=Covered.of(clusters, does_qat),
        distance=float(total_variation(pool[None], counts.sum(axis=0))[0]) if pool.any() else 1.0,
        skewed=float(((1 - does_qat) * shares) @ total_variation(counts)),
        absent=float(skips @ shares),
        noise=float(shares @ wire_noise(menu)),
    )


@lru_cache
def _cluster_counts(setting: Setting, seed: int) -> IntArray:
    """`(clients, centres)` counts of inputs, with centres found on the server's own examples."""
    federation = federation_of(setting, seed)
    num_centres = _CENTRES_A_CLASS * federation.label_counts.shape[1]
    own = federation.calibration.inputs.numpy()
    centres = find_centres(own, num_centres, np.random.default_rng(seed))
    return np.array([feature_counts(data.inputs.numpy(), centres) for data in federation.clients])
