"""A cell made ready: what the server is told of its devices, and how long they really take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache

import numpy as np

from ...allocator.arrays import FloatArray
from ...allocator.hardware import HardwareTables, StepProfile
from ...allocator.strategy import Method, Strategy, parse_menu
from ...fl_core.costs import analyse_costs
from ...fl_core.federation import Federation
from ...fl_core.fleet.generate import make_fleet
from ...fl_core.profiling import find_profile, shipped_profile
from ...fl_core.seeds import Purpose, generator
from ...fl_core.settings import FederationSettings, FleetSettings
from ...fl_core.settings.fleet import DeviceClass
from ..runs import task_settings
from .grid import BOARDS, EXACT, MISTOLD, PHONES, SLOWING, Cell, Ground

BITS = 2
"""Of the deployed weights and activations."""

MENU = parse_menu("skip fp32 ptq-w2a2-u2 ptq-w2a2 qat-w2a2-u2 qat-w2a2 qat-w4a4 qat-w8a8".split())
"""What any arm may do; the place of a strategy here is its digit in the decisions."""

_PHONES = (
    DeviceClass("fast", 1.0, 5.0, 1e6, 4e6),
    DeviceClass("medium", 1.0, 10.0, 5e5, 2e6),
    DeviceClass("slow", 1.0, 20.0, 2.5e5, 1e6),
)
_AS_BOARDS = 5.0

FLEETS: Mapping[str, tuple[DeviceClass, ...]] = {
    PHONES: _PHONES,
    BOARDS: tuple(replace(c, slowdown=_AS_BOARDS * c.slowdown) for c in _PHONES),
}
"""Classes of devices, thirds of a fleet each: the demo's, and slower ones, whose time is computing
rather than sending."""

SCATTER = 0.1
"""Of log-seconds of a client's round, where the clock is not exact."""

_SPREAD = 0.1
_SLOWING_FROM, _SLOWER = 0.25, 2.0  # share of the rounds; factor of the medium class's steps
_LOW_BIT = 8  # a device with low-bit units does such a step as fast as a float one


@dataclass(frozen=True, eq=False)
class Situation:
    """What arms decide on and are timed by, in one cell.

    Args:
        cell: The cell.
        federation: Its data; devices and costs as the server is told.
        told: `(clients, strategies)` tables of `MENU`, as the server is told them.
        real: Tables as they are at first.
        later: Tables as they are from round `turns_at` on.
        low_bit: Tables of devices that compute faster at fewer bits.
        turns_at: The round from which `later` holds.
    """

    cell: Cell
    federation: Federation
    told: HardwareTables
    real: HardwareTables
    later: HardwareTables
    low_bit: HardwareTables
    turns_at: int

    @classmethod
    def of(cls, cell: Cell, num_clients: int | None = None) -> Situation:
        """Builds a cell; the data of a ground are built once for all its cells."""
        classes = FLEETS[cell.fleet]
        federation = _built(cell.ground, num_clients)
        settings = ground_settings(cell.ground, num_clients)
        profile = _profile(find_profile(settings, federation.calibration), cell.ratio)
        tables = {
            name: _tables(federation, believed, cell.correlation, profile)
            for name, believed in _by_clock(classes, cell.clock).items()
        }
        low_bit = _tables(federation, classes, cell.correlation, _low_bit(profile))
        rounds = federation.training.rounds
        fleet = _fleet(classes, cell.correlation)
        devices = make_fleet(fleet, federation.label_counts, _draws(federation))
        return cls(
            cell=cell,
            federation=replace(federation, fleet=devices, menu=MENU, hardware=tables["told"]),
            low_bit=low_bit,
            turns_at=round(_SLOWING_FROM * rounds) + 1,
            **tables,
        )

    @property
    def rounds(self) -> int:
        """Of the federation."""
        return self.federation.training.rounds

    def shortened(self, share: float) -> Situation:
        """The same for a federation of fewer rounds, whose learning rate falls in them.

        Args:
            share: Of the rounds.
        """
        training = replace(self.federation.training, rounds=round(share * self.rounds))
        return replace(self, federation=replace(self.federation, training=training))

    @property
    def device_classes(self) -> list[str]:
        """`(clients,)` the class of each one's device: the fleet's first third is `fast`."""
        return [device.device_class for device in self.federation.fleet.devices]

    def seconds(self, round_number: int, *, low_bit: bool = False) -> FloatArray:
        """`(clients, strategies)` how long a round of every client really takes.

        Args:
            round_number: Counted from 1.
            low_bit: Whether devices compute faster at fewer bits.
        """
        table = self.real if round_number < self.turns_at else self.later
        seconds = (self.low_bit if low_bit else table).seconds
        return np.asarray(seconds * self._scatter[round_number - 1][:, None])

    @cached_property
    def _scatter(self) -> FloatArray:
        """`(rounds, clients)` by what each time is longer: a matter of seed and place alone."""
        shape = self.rounds, len(self.federation.clients)
        if self.cell.clock == EXACT:
            return np.ones(shape)
        draws = generator(self.cell.ground.seed, Purpose.FATE)
        return np.asarray(np.exp(SCATTER * draws.standard_normal(shape)))


def ground_settings(
    ground: Ground, num_clients: int | None = None, rounds: int | None = None
) -> FederationSettings:
    """The settings that a ground's runs share.

    Args:
        ground: The ground.
        num_clients: The task's own where None.
        rounds: Likewise.
    """
    told = task_settings(ground.task, alpha=ground.alpha, bits=BITS, seed=ground.seed)
    if num_clients is not None:
        told = replace(told, partition=replace(told.partition, num_clients=num_clients))
    if rounds is not None:
        told = replace(told, training=replace(told.training, rounds=rounds))
    return told


@cache
def step_profile(task: str) -> StepProfile:
    """The step times that ship with a task."""
    return shipped_profile(f"{task}.json", "Restore the step profile that ships.")


def measured_ratio(task: str) -> float:
    """Time of a QAT step over a float step's, in the profile that ships with a task."""
    profile = step_profile(task).select(MENU)
    in_float, qat = (MENU.index(Strategy.parse(text)) for text in ("fp32", f"qat-w{BITS}a{BITS}"))
    return float(profile.step_seconds[qat] / profile.step_seconds[in_float])


@lru_cache(1)
def _built(ground: Ground, num_clients: int | None) -> Federation:
    return Federation.build(ground_settings(ground, num_clients))


def _by_clock(classes: Sequence[DeviceClass], clock: str) -> dict[str, Sequence[DeviceClass]]:
    """The classes from the fastest rank to the slowest: as told, as they are, as they become."""
    told = later = classes
    fast, medium, slow = classes
    if clock == MISTOLD:
        told = (medium, slow, fast)  # those of the last rank are taken for the fastest
    if clock == SLOWING:
        later = (fast, replace(medium, slowdown=medium.slowdown * _SLOWER), slow)
    return {"told": told, "real": classes, "later": later}


def _fleet(classes: Sequence[DeviceClass], correlation: float) -> FleetSettings:
    return FleetSettings(tuple(classes), _SPREAD, correlation)


def _draws(federation: Federation) -> np.random.Generator:
    return generator(federation.seed, Purpose.FLEET)


def _tables(
    federation: Federation,
    classes: Sequence[DeviceClass],
    correlation: float,
    profile: StepProfile,
) -> HardwareTables:
    settings = _fleet(classes, correlation)
    fleet = make_fleet(settings, federation.label_counts, _draws(federation))
    training = federation.training
    return analyse_costs(federation.model, federation.clients, fleet, MENU, profile, training)


def _profile(measured: StepProfile, ratio: float | None) -> StepProfile:
    """The step times of the menu; QAT steps are `ratio` times as long as the float step."""
    profile = measured.select(MENU)
    if ratio is None:
        return profile
    in_float = profile.step_seconds[MENU.index(Strategy.parse("fp32"))]
    is_qat = np.array([s.method is Method.QAT for s in MENU])
    seconds = np.where(is_qat, ratio * in_float, profile.step_seconds)
    return replace(profile, step_seconds=seconds, origin=f"{measured.origin}; QAT at {ratio:g}")


def _low_bit(profile: StepProfile) -> StepProfile:
    """Step times in proportion to the bits, 8 bits as in float: kinder than any device we know."""
    in_float = profile.step_seconds[MENU.index(Strategy.parse("fp32"))]
    bits = np.array([s.weight_bits if s.method is Method.QAT else math.nan for s in MENU])
    seconds = np.where(np.isnan(bits), profile.step_seconds, bits / _LOW_BIT * in_float)
    return replace(profile, step_seconds=seconds, origin=f"{profile.origin}; low-bit units")
