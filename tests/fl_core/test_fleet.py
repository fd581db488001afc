"""Fleets are seeded, hold the classes in their shares, and follow the data as far as asked."""

import numpy as np
import pytest

from fedhq.fl_core.data.partitions import DirichletPartitioner, count_labels
from fedhq.fl_core.fleet.generate import make_fleet
from fedhq.fl_core.fleet.rarity import rarity
from fedhq.fl_core.settings import DeviceClass, FleetSettings

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
