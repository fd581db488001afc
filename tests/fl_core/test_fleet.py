"""Fleets are seeded, hold the classes in their shares, and follow the data as far as asked."""

from dataclasses import replace

import numpy as np
import pytest

from fedhq.allocator.hardware import DeviceProfile
from fedhq.fl_core.data.partitions import DirichletPartitioner, count_labels
from fedhq.fl_core.fleet.fleet import Fleet
from fedhq.fl_core.fleet.generate import make_fleet
from fedhq.fl_core.fleet.rarity import rarity
from fedhq.fl_core.fleet.trace import write_trace
from fedhq.fl_core.fleet.windows import Windows
from fedhq.fl_core.settings import (
    AvailabilitySettings,
    DeviceClass,
    FleetSettings,
    LogNormalSettings,
    MemoryTier,
)

CLASSES = tuple(
    DeviceClass(name, 1.0, slowdown, 1e6, 1e6)
    for name, slowdown in (("fast", 1.0), ("medium", 2.0), ("slow", 4.0))
)


def label_counts(seed: int, clients: int = 30) -> np.ndarray:
    labels = np.repeat(np.arange(10), 300)
    parts = DirichletPartitioner(clients, 0.2, 5).partition(labels, np.random.default_rng(seed))
    return count_labels(labels, parts, 10)


def test_classes_come_in_their_shares() -> None:
    settings = FleetSettings((CLASSES[0], DeviceClass("slow", 2.0, 4.0, 1e6, 1e6)), 0.0)
    fleet = make_fleet(settings, label_counts(0), np.random.default_rng(0))
    names = [d.device_class for d in fleet.devices]
    assert (names.count("fast"), names.count("slow")) == (10, 20)


def test_the_same_seed_gives_the_same_fleet() -> None:
    fleets = [
        make_fleet(FleetSettings(CLASSES), label_counts(0), np.random.default_rng(s))
        for s in (5, 5, 6)
    ]
    assert fleets[0].devices == fleets[1].devices != fleets[2].devices


@pytest.mark.parametrize(("tie", "sign"), [(1.0, 1), (-1.0, -1)])
def test_full_correlation_gives_the_rare_classes_to_the_slow_or_to_the_fast(tie, sign) -> None:
    counts = label_counts(1)
    fleet = make_fleet(FleetSettings(CLASSES, 0.0, tie), counts, np.random.default_rng(0))
    slowdown = np.array([d.slowdown for d in fleet.devices])
    rare = rarity(counts)
    assert sign * (rare[slowdown == 4].min() - rare[slowdown == 1].max()) >= 0


def test_without_correlation_speed_says_nothing_about_rarity() -> None:
    ties = []
    for seed in range(60):
        counts = label_counts(seed)
        rng = np.random.default_rng(seed)
        fleet = make_fleet(FleetSettings(CLASSES, 0.0, 0.0), counts, rng)
        ties.append(np.corrcoef([d.slowdown for d in fleet.devices], rarity(counts))[0, 1])
    assert abs(np.mean(ties)) < 3 / np.sqrt(60 * 30)


def test_spread_is_log_normal_around_the_class() -> None:
    settings = FleetSettings((CLASSES[1],), spread=0.5)
    fleet = make_fleet(settings, label_counts(0, 100), np.random.default_rng(0))
    logs = np.log([d.slowdown / 2.0 for d in fleet.devices])
    assert abs(logs.mean()) < 0.2
    assert 0.4 < logs.std() < 0.6


def test_a_population_has_the_medians_spreads_and_correlation_that_are_asked_for() -> None:
    wanted = LogNormalSettings(8.0, 0.6, 5e5, 0.8, 2e6, 0.4, network_correlation=0.7)
    settings = FleetSettings(kind="lognormal", lognormal=wanted)
    devices = make_fleet(settings, np.ones((1000, 2)), np.random.default_rng(0)).devices
    speed = np.log([d.slowdown for d in devices])
    up = np.log([d.uplink_bytes_per_second for d in devices])
    down = np.log([d.downlink_bytes_per_second for d in devices])
    for values, median, spread in ((speed, 8, 0.6), (up, 5e5, 0.8), (down, 2e6, 0.4)):
        assert values.mean() == pytest.approx(np.log(median), abs=0.1)
        assert values.std() == pytest.approx(spread, rel=0.1)
    assert np.corrcoef(speed, up)[0, 1] == pytest.approx(-0.7, abs=0.06)
    assert np.corrcoef(up, down)[0, 1] == pytest.approx(1)


def test_the_slowest_of_a_population_have_the_first_memory_tier() -> None:
    tiers = (MemoryTier(1.0, 1e9), MemoryTier(3.0, 4e9))
    settings = FleetSettings(kind="lognormal", lognormal=LogNormalSettings(memory=tiers))
    devices = make_fleet(settings, label_counts(0), np.random.default_rng(0)).devices
    by_speed = [d.memory_bytes for d in sorted(devices, key=lambda d: d.slowdown)]
    assert by_speed == [4e9] * 22 + [1e9] * 8  # shares 1 : 3 of 30
    assert [d.device_class for d in sorted(devices, key=lambda d: d.slowdown)] == (
        ["fast"] * 10 + ["medium"] * 10 + ["slow"] * 10
    )


def write_slowdowns(folder, count) -> str:
    """A trace whose row k has slowdown k + 1, and is online in second k alone."""
    devices = [DeviceProfile("d", k + 1.0, 1e6, 1e6) for k in range(count)]
    path = folder / "trace.csv"
    write_trace(path, Fleet(devices, [Windows([(k, k + 1)]) for k in range(count)]))
    return str(path)


def rows_of(fleet) -> list[int]:
    """Which row each client has, and that its availability came along."""
    rows = [int(d.slowdown) - 1 for d in fleet.devices]
    assert [w.spans[0][0] for w in fleet.windows] == rows
    return rows


def test_as_many_rows_as_clients_stay_in_their_order(tmp_path) -> None:
    settings = FleetSettings(kind="trace", path=write_slowdowns(tmp_path, 30))
    assert rows_of(make_fleet(settings, label_counts(0), np.random.default_rng(0))) == [*range(30)]


@pytest.mark.parametrize("rows", [12, 100])
def test_other_numbers_of_rows_are_dealt_evenly_and_seeded(tmp_path, rows) -> None:
    settings = FleetSettings(kind="trace", path=write_slowdowns(tmp_path, rows))
    dealt = [
        rows_of(make_fleet(settings, label_counts(0), np.random.default_rng(s))) for s in (0, 0, 1)
    ]
    assert dealt[0] == dealt[1] != dealt[2]
    times = np.bincount(dealt[0], minlength=rows)
    assert times.max() - times.min() == 1
    assert times.sum() == 30


@pytest.mark.parametrize("kind", ["lognormal", "trace"])
@pytest.mark.parametrize("rows", [30, 100])
def test_every_kind_ties_speed_to_the_data(tmp_path, kind, rows) -> None:
    settings = FleetSettings(kind=kind, skew_correlation=1.0, path=write_slowdowns(tmp_path, rows))
    counts = label_counts(1)
    fleet = make_fleet(settings, counts, np.random.default_rng(0))
    by_rarity = np.argsort(rarity(counts), kind="stable")
    slowdown = np.array([d.slowdown for d in fleet.devices])
    assert (np.diff(slowdown[by_rarity]) >= 0).all()


def test_availability_changes_no_device_and_counts_before_a_traces_own(tmp_path) -> None:
    path = write_slowdowns(tmp_path, 12)
    for settings in (FleetSettings(CLASSES), FleetSettings(kind="trace", path=path)):
        with_pauses = replace(settings, availability=AvailabilitySettings(0.5))
        plain, paused = (
            make_fleet(s, label_counts(0), np.random.default_rng(0))
            for s in (settings, with_pauses)
        )
        assert plain.devices == paused.devices
        assert [w.share for w in paused.windows] == pytest.approx([0.5] * 30)


def test_what_a_kind_needs_must_be_given() -> None:
    with pytest.raises(ValueError, match=r"`fleet.classes` must hold at least 1 class"):
        FleetSettings(kind="classes")
    with pytest.raises(ValueError, match=r"`fleet.path` must name a trace"):
        FleetSettings(kind="trace")
