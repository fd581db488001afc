"""What the schedules study found: tables of its arms, and the two fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..allocator import Recency, fitted_loss
from ..allocator.arrays import BoolArray, FloatArray
from .headline.course import TAIL, Course
from .runs import RunSpec, TrainedRun
from .schedule_plans import Arm

_RATIO = 2.0  # of QAT's time to float's, in the tables
_SLOWER = 4.0  # the slow third against the rest: 20x against 5x
_WITHIN = 0.02  # of all-QAT's accuracy: the target of the resting arms
_HOW = f"""Twenty clients, label-Dirichlet 0.3, W2A2, 20 rounds, a learning rate that falls as a
half cosine. Accuracy is that of the deployed model after the last round; differences are paired by
seed, with the standard error of their mean. Time is relative to all-QAT with all clients alike,
where a QAT round takes {_RATIO:g} times a PTQ round (another ratio scales it), and in the last
table with a third of the clients {_SLOWER:g} times as slow as the rest, all on QAT. There the time
to a target is that after which the curve averaged over the seeds is at it in the mean of its last
three rounds; > stands where it never is, before all the time that was waited."""


@dataclass(frozen=True)
class Run:
    """A trained run of the study.

    Args:
        task: Data set and network.
        seed: Of the federation.
        arm: The schedule.
        spec: What was trained.
        shares: `(clients, classes)` each client's part of a class.
        trained: What came of it.
    """

    task: str
    seed: int
    arm: Arm
    spec: RunSpec
    shares: FloatArray
    trained: TrainedRun

    @property
    def accuracy(self) -> float:
        """Deployed accuracy at the end."""
        return self.trained.deployed[-1]

    @property
    def taught(self) -> FloatArray:
        """`(rounds, clients)` 1 where a client did QAT."""
        return self._marks("qat")

    @property
    def covered(self) -> FloatArray:
        """`(rounds, classes)` coverage."""
        return np.asarray(self.taught @ self.shares)

    @property
    def absent(self) -> FloatArray:
        """`(rounds, clients)` 1 where a client skipped."""
        return self._marks("skip")

    def _marks(self, method: str) -> FloatArray:
        rounds = self.spec.settings.training.rounds
        rows = [self.spec.row(t) for t in range(1, rounds + 1)]
        return np.array([[float(s.startswith(method)) for s in row] for row in rows])


@dataclass(frozen=True)
class Fit:
    """How well a rule explains the share of the gap that a schedule leaves open.

    Args:
        name: The rule.
        value: Its one number, fitted.
        error: Root mean square over the arms it was fitted to.
        held_out: The same over the arms of the question `share`, which it never saw.
    """

    name: str
    value: float
    error: float
    held_out: float


def report(runs: Sequence[Run], machine: str) -> str:
    """Markdown: tables of all arms, then the fits.

    Args:
        runs: All runs of the study.
        machine: On which they were trained.
    """
    seconds = sum(r.trained.core_seconds for r in runs)
    seeds = len({r.seed for r in runs})
    head = f"{len(runs)} runs, {seeds} seeds, {seconds / 60:.1f} core-minutes."
    parts = ["# Schedules: when in training QAT pays", machine, f"{_HOW} {head}"]
    parts += ["## Accuracy at the end", accuracy_table(runs)]
    parts += ["## What the rounds weigh", fit_table(recency_fits(runs))]
    parts += ["## Clients that rest", rest_table(runs), rest_line(runs)]
    return "\n\n".join(parts) + "\n"


def _paired(runs: Sequence[Run], task: str, name: str) -> FloatArray:
    """`(seeds,)` accuracy less that of all-QAT."""
    best = {r.seed: r.accuracy for r in runs if (r.task, r.arm.name) == (task, "all-QAT")}
    mine = [r for r in runs if (r.task, r.arm.name) == (task, name)]
    return np.array([r.accuracy - best[r.seed] for r in mine])


def _points(gaps: FloatArray) -> str:
    error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else float("nan")
    return f"{100 * gaps.mean():+.1f} ± {100 * error:.1f}"


def accuracy_table(runs: Sequence[Run]) -> str:
    """Points of accuracy against all-QAT, by arm and task."""
    tasks = list(dict.fromkeys(r.task for r in runs))
    lines = [
        f"| question | schedule | time | {' | '.join(tasks)} |",
        f"|---|---|---|{'---|' * len(tasks)}",
    ]
    for arm in dict.fromkeys((r.arm.question, r.arm.name) for r in runs):
        run = next(r for r in runs if (r.arm.question, r.arm.name) == arm)
        busy = (run.taught > 0).any(axis=1).mean()
        time = "" if arm[0] == "rest" else f"{(1 + (_RATIO - 1) * busy) / _RATIO:.2f}"
        cells = [_points(_paired(runs, task, arm[1])) for task in tasks]
        lines.append(f"| {arm[0]} | {arm[1]} | {time} | {' | '.join(cells)} |")
    return "\n".join(lines)


def recency_fits(runs: Sequence[Run]) -> list[Fit]:
    """Two rules of how rounds add up, with the forgetting that fits best, and as it ships."""
    curve = np.array(fitted_loss().loss_curve)

    def phi(covered: FloatArray) -> FloatArray:
        return np.asarray(np.interp(covered, curve[:, 0], curve[:, 1]) / curve[0, 1])

    seen = [r for r in runs if r.arm.question == "when" and not r.arm.name.startswith("all-")]
    kept = [r for r in runs if r.arm.question == "share"]

    def error(rows: Sequence[Run], forgetting: float, inside: bool) -> float:
        left = []
        for run in rows:
            covered = run.covered
            weights = Recency(forgetting).weights(len(covered))
            model = weights @ phi(covered) if inside else phi(weights @ covered)
            left.append(float(model.mean()) - open_gap(runs, run))
        return float(np.sqrt(np.mean(np.square(left))))

    fits = []
    for name, inside in (
        ("`sum w_t phi(coverage_t)`: rounds lose apart", True),
        ("`phi(sum w_t coverage_t)`: coverage adds up", False),
    ):
        best = min(np.linspace(0.02, 0.6, 59).tolist(), key=lambda h: error(seen, h, inside))
        fits.append(Fit(name, best, error(seen, best, inside), error(kept, best, inside)))
    default = Recency().forgetting
    errors = error(seen, default, False), error(kept, default, False)
    return [*fits, Fit("the same, as the allocator has it", default, *errors)]


def open_gap(runs: Sequence[Run], run: Run) -> float:
    """What a run leaves of the mean gap of its task: 0 is all-QAT, 1 all-PTQ."""
    gap = -float(_paired(runs, run.task, "all-PTQ").mean())
    best = next(
        r.accuracy for r in runs if (r.task, r.seed, r.arm.name) == (run.task, run.seed, "all-QAT")
    )
    return (best - run.accuracy) / gap


def fit_table(fits: Sequence[Fit]) -> str:
    """The fits; errors in parts of the gap between all-PTQ and all-QAT."""
    lines = ["| rule | forgetting | error, fitted | error, held out |", "|---|---|---|---|"]
    lines += [f"| {f.name} | {f.value:.2f} | {f.error:.2f} | {f.held_out:.2f} |" for f in fits]
    return "\n".join(lines)


def rest_table(runs: Sequence[Run]) -> str:
    """Resting arms: time of all rounds and to the target, and accuracy against never resting."""
    tasks = list(dict.fromkeys(r.task for r in runs))
    names = ["all-QAT", *dict.fromkeys(r.arm.name for r in runs if r.arm.question == "rest")]
    lines = [
        "| task | slow third | time of all rounds | accuracy | time to 2 points below all-QAT |",
        "|---|---|---|---|---|",
    ]
    for task in tasks:
        for name in names:
            mine = [r for r in runs if (r.task, r.arm.name) == (task, name)]
            whole = np.mean([clock(r)[-1] / clock(r, never=True)[-1] for r in mine])
            seconds, is_there = time_to_target(runs, task, name)
            told = f"{'' if is_there else '> '}{seconds:.2f}"
            shown = "never rests" if name == "all-QAT" else name.removeprefix("slow third ")
            gap = _points(_paired(runs, task, name))
            lines.append(f"| {task} | {shown} | {whole:.2f} | {gap} | {told} |")
    return "\n".join(lines)


def clock(run: Run, never: bool = False) -> FloatArray:
    """`(rounds,)` simulated time after every round, in rounds of the fast clients.

    Args:
        run: Of the question `rest`, or all-QAT.
        never: As if nobody ever rested.
    """
    rests = 0 * run.absent.any(axis=1) if never else run.absent.any(axis=1)
    return np.cumsum(np.where(rests, 1.0, _SLOWER))


def time_to_target(runs: Sequence[Run], task: str, name: str) -> tuple[float, bool]:
    """Time of an arm to two points below what all-QAT ends with, in parts of all-QAT's whole time.

    It is that of the curve averaged over all seeds: the seeds that get there by themselves are the
    lucky ones.

    Args:
        runs: Of the study.
        task: Data set and network.
        name: Of the arm.

    Returns:
        The time, and whether the target was reached; if not, how long was waited for it.
    """
    best, mine = (
        [r for r in runs if (r.task, r.arm.name) == (task, arm)] for arm in ("all-QAT", name)
    )
    whole = np.array([clock(r, never=True)[-1] for r in mine])
    course = Course(
        np.array([clock(r) for r in mine]) / whole[:, None],
        np.array([r.trained.deployed for r in mine]),
    )
    end = float(np.mean([r.trained.deployed[-TAIL:] for r in best]))
    found = course.reaches(end - _WITHIN, np.ones((1, len(mine)), dtype=np.int64))
    return float(found.seconds[0]), bool(found.reached[0])


def skip_memory(runs: Sequence[Run]) -> tuple[float, float]:
    """The `skip_memory` that explains the resting arms best, and its root mean square error.

    The loss of a rhythm, in parts of the loss of never being there, is the mean over the rounds of
    `1 - skip_memory ** a`, a the absences in a row.
    """
    rows, losses = [], []
    for task in dict.fromkeys(r.task for r in runs):
        never = -float(_paired(runs, task, "slow third never").mean())
        for name in dict.fromkeys(r.arm.name for r in runs if r.arm.question == "rest"):
            run = next(r for r in runs if (r.task, r.arm.name) == (task, name))
            rows.append(_absences(np.asarray(run.absent.any(axis=1))))
            losses.append(-float(_paired(runs, task, name).mean()) / never)

    def error(memory: float) -> float:
        model = [np.where(a > 0, 1 - memory**a, 0.0).mean() for a in rows]
        return float(np.sqrt(np.mean(np.square(np.subtract(model, losses)))))

    best = min(np.linspace(0.0, 0.95, 96).tolist(), key=error)
    return best, error(best)


def _absences(rests: BoolArray) -> FloatArray:
    """`(rounds,)` absences in a row up to each round."""
    counts, row = [], 0
    for absent in rests.tolist():
        row = row + 1 if absent else 0
        counts.append(row)
    return np.array(counts, dtype=float)


def rest_line(runs: Sequence[Run]) -> str:
    """The fit of the resting arms in a sentence."""
    memory, error = skip_memory(runs)
    return (
        f"`skip_memory` = {memory:.2f} explains the loss of a rhythm, in parts of that of never "
        f"being there, with an error of {error:.2f}."
    )
