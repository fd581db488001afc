"""Simulated federations, whose truth may be another than the allocator was told; no training.

Times are log-normal around the truth. The gap follows a curve of the coverage that the last rounds
taught, decayed, and scatters as real ones do (`studies.gaps`); the server sees few examples. How
long weights remember, what a gap costs and what rounding costs at full coverage is drawn by world
from what `studies.gaps` found in its settings, so that the learner's constants are wrong in each.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from fedhq.allocator import (
    FastestWithin,
    FittedLoss,
    FrontierPick,
    HardwareTables,
    HybridAllocator,
    Outcome,
    ServerAccuracy,
    parse_menu,
)

MENU = parse_menu(["skip", "ptq-w2a2", "qat-w2a2"])
FITTED = FittedLoss(
    ((0.0, 0.224), (0.05, 0.14), (0.1, 0.065), (0.15, 0.03), (0.5, 0.0)),
    0.257,
    0.014,
    0.01,
    "digits",
)
"""Of one network on one data set, where quantization hurts enough to be learned from."""

CURVE = np.array(FITTED.loss_curve)
RATIO = 2.0  # QAT against PTQ
MEMORIES, LOSSES_PER_GAP, BASES = (0.7, 0.95), (0.57, 0.92), (0.004, 0.034)
UNLIKE = np.array([[0.0, 0.25], [0.25, 0.22], [0.45, 0.02], [0.7, 0.0]])
"""A true phi that no curve of the program has: little helps at first, then much."""

BEST = 0.95  # float accuracy in the end
SERVER_EXAMPLES = 100


def steeper(factor: float) -> np.ndarray:
    """The fitted curve, where quantization hurts so many times as much."""
    return CURVE * [1.0, factor]


@dataclass
class World:
    """A fleet and what really happens to it.

    Args:
        seed: Of the fleet.
        spread: Of the devices' speeds, in log-seconds.
        alpha: Of the Dirichlet distribution of labels.
        curve: The true phi.
        rounds: Of a run.
    """

    seed: int
    spread: float = 0.15
    alpha: float = 0.3
    curve: np.ndarray = field(default_factory=lambda: CURVE)
    rounds: int = 40
    num_clients: int = 20

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        shares = rng.dirichlet(np.full(10, self.alpha), self.num_clients)
        self.told_counts = np.round(100 * shares) + 0.0
        self.counts = self.told_counts.copy()
        slowdown = np.exp(rng.normal(0, self.spread, self.num_clients))
        self.told_seconds = np.outer(slowdown, [0.0, 1.0, RATIO])
        self.seconds = self.told_seconds.copy()
        self.rng = rng
        truth = np.random.default_rng([self.seed, 1])  # beside the fleet's own draws
        ranges = (MEMORIES, LOSSES_PER_GAP, BASES)
        self.memory, self.loss_per_gap, self.base = (float(truth.uniform(*r)) for r in ranges)
        self._taught, self._rounds = np.zeros(self.num_clients), 0.0

    def allocator(self, **settings) -> HybridAllocator:
        """One that was told what the world tells, and decides by the usual rule."""
        tables = HardwareTables.unknown(MENU, self.num_clients)
        return HybridAllocator(
            MENU,
            replace(tables, seconds=self.told_seconds),
            "qat-w2a2",
            FrontierPick(FastestWithin(FITTED.rule_loss)),
            num_examples=self.told_counts.sum(axis=1),
            label_counts=self.told_counts,
            fitted=FITTED,
            **settings,
        )

    def train(self, number: int, choice: np.ndarray, rng: np.random.Generator):
        """Seconds of the clients, deployed accuracy, the loss in it, what the server measures."""
        self._taught = self.memory * self._taught + (choice == 2)
        self._rounds = self.memory * self._rounds + 1
        population = self.counts.sum(axis=0)
        covered = self._taught / self._rounds @ self.counts / np.maximum(population, 1)
        loss = float(population / population.sum() @ np.interp(covered, *self.curve.T))
        in_float = BEST - 0.55 * np.exp(-number / 6)
        wild = max(0.0325 * (1 + np.cos(np.pi * number / self.rounds)), 0.02)
        seen = float((rng.random(SERVER_EXAMPLES) < in_float).mean())
        few = np.sqrt(max(loss, 0.02) / SERVER_EXAMPLES)
        gap = (loss + self.base) / self.loss_per_gap + rng.normal(0, wild) + rng.normal(0, few)
        if rng.random() < 0.03:  # an evaluation that went wrong
            gap += rng.choice([-0.4, 0.4])
        measured = ServerAccuracy(float(np.clip(seen - gap, 0, 1)), seen, SERVER_EXAMPLES)
        seconds = self.seconds[np.arange(self.num_clients), choice]
        seconds = seconds * np.exp(rng.normal(0, 0.05, self.num_clients))
        return seconds, in_float - self.base - loss, loss, measured


@dataclass(frozen=True)
class Run:
    """What came of one run.

    Args:
        seconds: `(rounds,)` since the start.
        deployed: `(rounds,)` accuracy.
        loss: `(rounds,)` of it, lost for want of coverage.
        teaching: `(rounds,)` share of the clients on QAT.
        switches: `(rounds,)` clients that do another thing than in the round before.
        base: What of the accuracy no coverage mends.
    """

    seconds: np.ndarray
    deployed: np.ndarray
    loss: np.ndarray
    teaching: np.ndarray
    switches: np.ndarray
    base: float

    def seconds_to(self, accuracy: float) -> float:
        """When it was reached, but for what no coverage mends beyond 0.02; infinite if never."""
        reached = np.flatnonzero(self.deployed + self.base - 0.02 >= accuracy)
        return float(self.seconds[reached[0]]) if len(reached) else np.inf


Event = Callable[[World, HybridAllocator, int], None]


def simulate(world: World, event: Event | None = None, **settings) -> Run:
    """Runs all rounds; the same world and seed have the same noise, whatever is decided."""
    allocator, rows = world.allocator(**settings), []
    last = np.full(world.num_clients, -1)
    for number in range(1, world.rounds + 1):
        if event is not None:
            event(world, allocator, number)
        plan = allocator.plan(number)
        rng = np.random.default_rng([world.seed, number])
        seconds, deployed, loss, measured = world.train(number, plan.choice, rng)
        taught, changed = float((plan.choice == 2).mean()), int((plan.choice != last).sum())
        rows.append((seconds[plan.choice > 0].max(), deployed, loss, taught, changed))
        last = plan.choice
        clients = range(world.num_clients)
        allocator.observe(
            [Outcome(i, plan.strategy(i), float(seconds[i]), True) for i in clients], measured
        )
    table = np.array(rows).T
    return Run(table[0].cumsum(), *table[1:], base=world.base)
