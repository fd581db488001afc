"""The cells of the study: a task, how its data are spread, and what the clock is like."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

EXACT = "exact"
"""The clock is the told one, to the last digit."""

NOISY = "noisy"
"""Every client's time scatters about what was told."""

MISTOLD = "mistold"
"""The classes of devices are told in another order than they have; times scatter."""

SLOWING = "slowing"
"""The devices of the middle class take twice as long from a quarter of the run on; times scatter.
"""

PHONES, BOARDS = "phones", "boards"
"""Fleets: links are alike, and boards compute five times slower; see `situation.FLEETS`."""

UNSURE = (NOISY, MISTOLD, SLOWING)
"""The clocks by which learning is judged."""


@dataclass(frozen=True)
class Ground:
    """What is trained on, whatever the clock says.

    Args:
        task: A key of `runs.TASKS`.
        alpha: Of the labels' Dirichlet distribution over clients.
        seed: Root of all randomness.
    """

    task: str
    alpha: float
    seed: int


@dataclass(frozen=True)
class Cell:
    """A ground and a clock: what the arms are compared in.

    Args:
        ground: What is trained on.
        correlation: Of speed and skew; at 1 the slowest devices hold the rarest classes.
        ratio: Time of a QAT step over a float step's; the measured one where None.
        clock: One of `EXACT`, `NOISY`, `MISTOLD`, `SLOWING`.
        fleet: `PHONES` or `BOARDS`.

    Example:
        >>> Cell(Ground("digits-mlp", 0.3, 4), 1.0, None).name
        'digits-mlp alpha 0.3, phones, tie +1, r measured, exact, seed 4'
    """

    ground: Ground
    correlation: float
    ratio: float | None
    clock: str = EXACT
    fleet: str = PHONES

    @property
    def name(self) -> str:
        """The cell in words, the same for the same cell."""
        return f"{self.setting}, seed {self.ground.seed}"

    @property
    def setting(self) -> str:
        """The cell in words without its seed: what curves are averaged over."""
        told = "measured" if self.ratio is None else f"{self.ratio:g}"
        tie = f"{self.correlation:+g}" if self.correlation else "0"
        ground = f"{self.ground.task} alpha {self.ground.alpha:g}"
        return f"{ground}, {self.fleet}, tie {tie}, r {told}, {self.clock}"


@dataclass(frozen=True)
class OracleGrid:
    """Fleets so small that all of their allocations are trained.

    Args:
        places: Tasks and alphas.
        seeds: Of each.
        repeats: Trainings of every allocation.
        rounds: Of each; fewer than the tasks' own, since there are so many.
        num_clients: Of the fleet; `2 ** num_clients` allocations.
    """

    places: tuple[tuple[str, float], ...]
    seeds: tuple[int, ...]
    repeats: int
    rounds: int = 12
    num_clients: int = 8


@dataclass(frozen=True)
class Grid:
    """All cells, as products.

    Not everything is crossed with everything: the fleet of boards at the alphas, effects and unsure
    clocks at the alphas and ratios that are given for them only, and these with phones.

    Args:
        tasks: From the cheapest to train to the dearest.
        alphas: Of the data.
        correlations: Of speed and skew.
        ratios: Of QAT steps to float ones; None is the measured one.
        seeds: Of the study.
        apart_alphas: Where effects are kept apart, learning is judged, and boards are compared.
        apart_ratios: Where effects are kept apart and learning is judged.
        oracle: Where all allocations are trained.
    """

    tasks: tuple[str, ...]
    alphas: tuple[float, ...]
    correlations: tuple[float, ...]
    ratios: tuple[float | None, ...]
    seeds: tuple[int, ...]
    apart_alphas: tuple[float, ...]
    apart_ratios: tuple[float | None, ...]
    oracle: OracleGrid | None

    def grounds(self, seeds: Iterable[int]) -> list[Ground]:
        """The grounds of some seeds, seed by seed, the cheapest tasks first."""
        return [Ground(t, a, s) for s, t, a in product(seeds, self.tasks, self.alphas)]

    def cells(self, ground: Ground) -> list[Cell]:
        """The cells of a ground: those of the told clock first.

        Example:
            >>> [cell.clock for cell in SMALL.cells(Ground("digits-mlp", 0.3, 0))].count(EXACT)
            16
        """
        told = [Cell(ground, c, r) for c, r in product(self.correlations, self.ratios)]
        boards = [replace(c, fleet=BOARDS) for c in told if ground.alpha in self.apart_alphas]
        unsure = [replace(c, clock=k) for k in UNSURE for c in told if self.is_apart(c)]
        return told + boards + unsure

    def is_apart(self, cell: Cell) -> bool:
        """Whether effects are kept apart and learning is judged in a cell."""
        is_wanted = cell.ground.alpha in self.apart_alphas and cell.ratio in self.apart_ratios
        return is_wanted and cell.fleet == PHONES


_MEASURED = None

WHOLE = Grid(
    tasks=("digits-mlp", "mnist5k-mlp", "digits-cnn", "mnist5k-cnn"),
    alphas=(0.1, 0.3, 1.0),
    correlations=(-1.0, 0.0, 1.0),
    ratios=(_MEASURED, 1.5, 2.0, 3.0),
    seeds=(0, 1, 2, 3, 4),
    apart_alphas=(0.3,),
    apart_ratios=(_MEASURED, 2.0),
    oracle=OracleGrid(
        (("digits-mlp", 0.3), ("digits-mlp", 0.1), ("mnist5k-mlp", 0.3)), seeds=(0, 1), repeats=2
    ),
)
"""The study as it is judged."""

SMALL = replace(
    WHOLE,
    tasks=("digits-mlp", "mnist5k-mlp"),
    alphas=(0.3,),
    correlations=(0.0, 1.0),
    seeds=(0, 1),
    apart_ratios=(2.0,),
    oracle=None,
)
"""What ends in ten minutes on two cores."""

GRIDS = {"whole": WHOLE, "small": SMALL}
"""By name."""
