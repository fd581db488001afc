"""Rounds as they are in the world: who is asked, who answers in time, and what comes of it."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fedhq.allocator import DeviceProfile, FedHQError, Uniform
from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.data.clients import PartitionedClients
from fedhq.fl_core.federation import Federation
from fedhq.fl_core.fleet.fleet import Fleet
from fedhq.fl_core.fleet.windows import Windows
from fedhq.fl_core.records.recorder import read_clients, read_rounds
from fedhq.fl_core.rounds.cohort import sample_cohort, wanted_clients
from fedhq.fl_core.rounds.timeline import Fate, bottleneck, close_round, draw_fate
from fedhq.fl_core.settings import (
    DataSettings,
    DeviceClass,
    FederationSettings,
    FleetSettings,
    ParticipationSettings,
    PartitionSettings,
    ServerSettings,
    Slowdown,
    TrainingSettings,
)
from fedhq.fl_core.trainer import Trainer

FP32 = Uniform(Strategy.parse("fp32"))
SETTINGS = FederationSettings(
    fleet=FleetSettings(
        (
            DeviceClass("fast", 1, 1.0, 1e6, 1e6, active_watts=2.0),
            DeviceClass("slow", 1, 40.0, 1e6, 1e6, active_watts=2.0),
        ),
        spread=0.0,
    ),
    menu=("skip", "fp32"),
    model="mlp",
    data=DataSettings("digits", num_test=200, num_calibration=40),
    partition=PartitionSettings("iid", num_clients=6),
    training=TrainingSettings(rounds=6, evaluate_every=6),
)


def train(folder, server=None, fleet=None, solver=FP32, channel=None, rounds=6, **participation):
    """The records of a run, and its federation."""
    settings = replace(
        SETTINGS,
        participation=ParticipationSettings(**participation),
        server=server or ServerSettings(),
        training=replace(SETTINGS.training, rounds=rounds),
    )
    federation = Federation.build(settings)
    if fleet is not None:
        federation = replace(federation, fleet=fleet)
    keywords = {} if channel is None else {"channel": channel}
    trainer = Trainer(federation, federation.allocator(solver), folder, **keywords)
    trainer.run()
    return read_rounds(folder), read_clients(folder), federation


def by_round(clients, number, status=None):
    return [c for c in clients if c.round == number and status in (None, c.status)]


# --- Sampling ---


def test_uniform_cohorts_draw_everybody_alike_and_no_one_twice() -> None:
    settings = ParticipationSettings(cohort=3, over_selection=1.3)
    ready = np.array([0, 2, 3, 5, 7, 8, 9, 11])
    counts: Counter[int] = Counter()
    for number in range(2000):
        cohort = sample_cohort(settings, number, 0, ready, None, 12)
        assert len(cohort) == 4  # ceil(1.3 * 3)
        assert (np.diff(cohort) > 0).all()
        counts.update(cohort.tolist())
    assert set(counts) == set(ready.tolist())
    assert stats.chisquare(list(counts.values())).pvalue > 0.001


def test_weighted_cohorts_draw_the_first_in_proportion() -> None:
    """Of a cohort of one the shares are the weights'; the larger the weight the more often else."""
    weights = np.array([1.0, 2.0, 5.0, 0.0])
    one = ParticipationSettings(cohort=1)
    drawn = [int(sample_cohort(one, k, 1, np.arange(4), weights, 4)[0]) for k in range(4000)]
    counts = np.bincount(drawn, minlength=4)
    assert counts[3] == 0
    assert stats.chisquare(counts[:3], 4000 * weights[:3] / 8).pvalue > 0.001


def test_who_has_no_weight_comes_last_and_without_any_weight_all_are_alike() -> None:
    three = ParticipationSettings(cohort=3)
    cohort = sample_cohort(three, 1, 0, np.arange(4), np.array([0.0, 1.0, 1.0, 0.0]), 4)
    assert {1, 2} < set(cohort.tolist())
    drawn = {
        tuple(sample_cohort(three, k, 0, np.arange(4), np.zeros(4), 4).tolist()) for k in range(50)
    }
    assert len(drawn) == 4


def test_a_tenth_more_than_a_hundred_is_a_hundred_and_ten() -> None:
    settings = ParticipationSettings(cohort=100, over_selection=1.1)
    assert len(sample_cohort(settings, 1, 0, np.arange(500), None, 500)) == 110


def test_a_cohort_is_at_most_the_fleet() -> None:
    assert wanted_clients(ParticipationSettings(), 7) == 7
    assert wanted_clients(ParticipationSettings(cohort=3), 7) == 3
    ready = np.array([4, 6])
    assert sample_cohort(ParticipationSettings(cohort=3), 1, 0, ready, None, 7) is ready


# --- The virtual clock ---


def test_a_round_closes_with_the_last_wanted_the_last_possible_or_at_the_deadline() -> None:
    fates = {1: Fate(4.0, True), 2: Fate(1.0, True), 3: Fate(6.0, False), 4: Fate(3.0, True)}
    assert close_round(fates, 1, None).seconds == 1.0
    assert close_round(fates, 2, None).seconds == 3.0
    assert close_round(fates, 3, None).seconds == 4.0
    assert close_round(fates, 4, None).seconds == 6.0  # until 3 is known to be lost
    assert close_round(fates, 4, 3.5).seconds == 3.5
    assert close_round({}, 4, 3.5).seconds == 0.0
    timeline = close_round(fates, 2, None)
    assert [timeline.is_on_time(c) for c in (1, 2, 3, 4)] == [False, True, False, True]
    assert [timeline.is_late(c) for c in (1, 2, 3, 4)] == [True, False, False, False]
    assert bottleneck(timeline) == 4
    assert bottleneck(close_round(fates, 4, None)) == 3
    assert bottleneck(close_round(fates, 4, 3.5)) is None
    assert bottleneck(close_round({}, 4, None)) is None


def test_fates_follow_from_seed_round_and_client_with_the_chances_asked_for() -> None:
    settings = ParticipationSettings(dropout=0.3, jitter=0.5)
    fates = [draw_fate(settings, 0, k, 5, 10.0, math.inf) for k in range(2000)]
    assert fates[3] == draw_fate(settings, 0, 3, 5, 10.0, math.inf)
    assert fates[3] != draw_fate(settings, 1, 3, 5, 10.0, math.inf)
    lost = sum(not f.arrives for f in fates)
    assert stats.binomtest(lost, 2000, 0.3).pvalue > 0.001
    logs = np.log([f.seconds / 10 for f in fates if f.arrives])
    assert stats.kstest(logs / 0.5, "norm").pvalue > 0.001
    assert all(
        draw_fate(settings, 0, k, 5, 10.0, 0.0) == Fate(0.0, False) for k in range(20)
    )  # offline at once


# --- Whole rounds ---


def test_over_selection_takes_the_first_wanted_and_loses_the_rest(tmp_path) -> None:
    rounds, clients, _ = train(tmp_path, cohort=2, over_selection=2.0)
    for record in rounds:
        mine = by_round(clients, record.round)
        used = [c for c in mine if c.status == "ok"]
        assert record.selected == len(mine) == 4
        # Equal devices answer at the same time: then more than two may be in time.
        assert len(used) >= 2
        assert record.used == len(used)
        assert max(c.seconds for c in used) == record.round_seconds
        assert all(c.seconds > record.round_seconds for c in mine if c.status == "late")
        assert sum(c.share for c in mine) == pytest.approx(1)
    assert any(c.status == "late" for c in clients)


def test_a_deadline_closes_the_round_and_the_slow_are_late(tmp_path) -> None:
    federation = Federation.build(SETTINGS)
    fast, slow = sorted(set(federation.hardware.seconds[:, 1].round(9)))
    deadline = (fast + slow) / 2
    rounds, clients, _ = train(tmp_path, deadline_seconds=deadline)
    statuses = {c.client: c.status for c in by_round(clients, 1)}
    for client, device in enumerate(federation.fleet.devices):
        assert statuses[client] == ("ok" if device.device_class == "fast" else "late")
    assert [r.round_seconds for r in rounds] == [deadline] * 6
    late = next(c for c in clients if c.status == "late")
    assert "closed after" in late.reason
    assert late.uplink_bytes == 0  # nobody trains for nothing


def test_late_updates_are_taken_by_the_round_in_which_they_arrive(tmp_path) -> None:
    slow = Federation.build(SETTINGS).hardware.seconds[:, 1].max()
    deadline = float(slow) * 0.4  # the slow arrive two rounds later
    server = ServerSettings(max_staleness=3, staleness_power=1.0)
    rounds, clients, _ = train(tmp_path, server, deadline_seconds=deadline)
    stale = [c for c in clients if c.status == "stale"]
    assert {c.staleness for c in stale} == {2}
    sent = {(c.round, c.client) for c in clients if c.status == "late"}
    assert {(c.round - 2, c.client) for c in stale} <= sent
    # Whoever is still busy is not asked.
    for record in clients:
        if record.status == "stale":
            busy = {c.round for c in clients if c.client == record.client and c.status != "stale"}
            assert not {record.round - 1, record.round} & busy
    # One third of the weight of a fresh update of as many examples.
    third = [c for c in clients if c.round == 3 and c.share > 0]
    fresh = {c.share / c.num_examples for c in third if c.status == "ok"}
    old = {c.share / c.num_examples for c in third if c.status == "stale"}
    assert max(old) == pytest.approx(max(fresh) / 3)
    assert rounds[2].used == len(third)


def test_updates_that_are_too_stale_are_refused(tmp_path) -> None:
    slow = Federation.build(SETTINGS).hardware.seconds[:, 1].max()
    server = ServerSettings(max_staleness=1)
    _, clients, _ = train(tmp_path, server, deadline_seconds=float(slow) * 0.4)
    assert not [c for c in clients if c.status == "stale"]
    refused = [c for c in clients if c.status == "refused"]
    assert refused
    assert all(c.reason.startswith("stale") and c.staleness == 2 for c in refused)


def test_a_third_of_the_connections_lost_each_round_leaves_a_model_that_learns(tmp_path) -> None:
    rounds, clients, _ = train(tmp_path, rounds=30, dropout=0.3)
    dropped = sum(c.status == "dropped" for c in clients)
    assert stats.binomtest(dropped, len(clients), 0.3).pvalue > 0.001
    assert rounds[-1].float_accuracy > 0.85
    lost = next(c for c in clients if c.status == "dropped")
    assert "connection was lost" in lost.reason
    assert lost.uplink_bytes == 0 < lost.downlink_bytes


def test_below_the_quorum_nothing_changes(tmp_path) -> None:
    rounds, clients, _ = train(tmp_path, rounds=8, dropout=0.6, quorum=3)
    assert {r.used >= 3 for r in rounds} == {True, False}
    for record in rounds:
        mine = by_round(clients, record.round)
        if record.used == 0:
            assert sum(c.status == "refused" for c in mine) < 3
            assert all(
                "usable updates are too few" in c.reason for c in mine if c.status == "refused"
            )


def test_joules_are_watts_times_computing_and_less_of_those_who_are_lost(tmp_path) -> None:
    rounds, clients, federation = train(tmp_path, dropout=0.4, jitter=0.3)
    for c in clients:
        planned = federation.hardware.energy_joules[c.client, 1]
        share = c.seconds / federation.hardware.seconds[c.client, 1]
        assert planned > 0
        assert c.energy_joules == pytest.approx(planned * share)
    assert {c.status for c in clients} == {"ok", "dropped"}
    first = sum(c.energy_joules for c in by_round(clients, 1))
    assert rounds[0].energy_joules == pytest.approx(first)


def windows_fleet(*texts: str) -> Fleet:
    device = DeviceProfile("one", 1.0, 1e6, 1e6)
    return Fleet([device] * len(texts), [Windows.parse(text) for text in texts])


def test_only_who_is_online_is_asked_and_rounds_wait_until_somebody_is(tmp_path) -> None:
    one_round = float(Federation.build(SETTINGS).hardware.seconds[:, 1].max())
    day = 1000 * one_round
    fleet = windows_fleet(
        *[f"0:{day / 2} per {day}"] * 2, *[f"{day / 2 + 7}:{day} per {day}"] * 2, *["never"] * 2
    )
    rounds, clients, _ = train(tmp_path, fleet=fleet)
    assert {c.client for c in clients} == {0, 1}
    assert all(r.waiting_seconds == 0 for r in rounds)
    fleet = windows_fleet(*["50:1000 per 2000"] * 6)
    rounds, clients, _ = train(tmp_path / "waits", fleet=fleet)
    assert rounds[0].waiting_seconds == 50
    assert rounds[0].simulated_seconds == 50 + rounds[0].round_seconds
    assert {c.client for c in clients} == set(range(6))


def test_who_goes_offline_on_the_way_is_lost(tmp_path) -> None:
    seconds = float(Federation.build(SETTINGS).hardware.seconds[:, 1].max())
    fleet = windows_fleet(*[f"0:{seconds / 2} per {4 * seconds}"] * 6)
    _, clients, federation = train(tmp_path, fleet=fleet, rounds=1)
    for c in clients:
        slow = federation.hardware.seconds[c.client, 1] > seconds / 2
        assert c.status == ("dropped" if slow else "ok")
        assert c.seconds == (seconds / 2 if slow else federation.hardware.seconds[c.client, 1])


def test_a_round_waits_while_all_who_are_online_are_still_at_work(tmp_path) -> None:
    """With everybody late, the next round begins when the first comes back."""
    federation = Federation.build(SETTINGS)
    seconds = federation.hardware.seconds[:, 1]
    server = ServerSettings(max_staleness=4)
    rounds, clients, _ = train(tmp_path, server, deadline_seconds=float(seconds.min()) / 2)
    assert rounds[0].used == 0
    assert rounds[1].waiting_seconds == pytest.approx(seconds.min() / 2)
    assert by_round(clients, 2, "stale")
    assert {c.client for c in by_round(clients, 2) if c.status != "stale"} == set(
        np.flatnonzero(seconds == seconds.min()).tolist()
    )


def test_a_fleet_that_is_never_online_is_an_error(tmp_path) -> None:
    with pytest.raises(FedHQError, match=r"some client will be online.*after 0"):
        train(tmp_path, fleet=windows_fleet(*["never"] * 6))
    with pytest.raises(FedHQError, match="some client will be online"):
        train(tmp_path / "once", fleet=windows_fleet(*["0:0.001"] * 6))


def test_sampling_by_availability_prefers_who_stays(tmp_path) -> None:
    fleet = windows_fleet(*["0:100 per 1e9"] * 3, *["0:1e8 per 1e9"] * 3)
    _, clients, _ = train(tmp_path, fleet=fleet, rounds=40, cohort=2, sampling="availability")
    assert sum(c.client >= 3 for c in clients) > 0.99 * len(clients)


def test_sampling_by_examples_prefers_who_holds_more(tmp_path) -> None:
    settings = replace(
        SETTINGS,
        participation=ParticipationSettings(cohort=1, sampling="examples"),
        training=replace(SETTINGS.training, rounds=60, local_steps=1, evaluate_every=60),
    )
    federation = Federation.build(settings)
    ends = np.cumsum([40, 40, 40, 40, 400, 800])
    parts = tuple(
        np.arange(end - n, end) for n, end in zip(np.diff(ends, prepend=0), ends, strict=True)
    )
    clients = PartitionedClients(federation.clients.dataset, parts)
    federation = replace(federation, clients=clients)
    Trainer(federation, federation.allocator(FP32), tmp_path).run()
    counts = np.bincount([c.client for c in read_clients(tmp_path)], minlength=6)
    assert stats.binomtest(int(counts[5]), 60, 800 / 1360).pvalue > 0.001
    assert counts[5] > counts[:4].sum()


# --- The channel ---


def test_what_the_channel_does_is_in_the_records_and_the_model_stays_sound(tmp_path) -> None:
    kept: dict[int, bytes] = {}

    def channel(round_number, client, payload):
        kept.setdefault(client, payload)
        return {
            0: [payload, payload],  # twice
            1: [],  # lost
            2: [payload[:-3]],  # cut
            3: [kept.get(3, payload)],  # the first again and again
            4: [kept.get(5, payload)],  # another's
        }.get(client, [payload])

    rounds, clients, _ = train(tmp_path, rounds=3, channel=channel)
    second = {c.client: (c.status, (c.reason or "").split(":")[0]) for c in by_round(clients, 2)}
    assert second == {
        0: ("ok", ""),
        1: ("dropped", "nothing of it arrived"),
        2: ("refused", "malformed"),
        3: ("refused", "stale"),
        4: ("refused", "foreign"),
        5: ("ok", ""),
    }
    assert rounds[1].used == 2
    assert np.isfinite(rounds[-1].deployed_accuracy)


def test_cohorts_of_one_and_clients_of_one_example_train(tmp_path) -> None:
    rounds, clients, _ = train(tmp_path, cohort=1, rounds=4)
    assert [r.selected for r in rounds] == [1] * 4
    assert [r.used for r in rounds] == [1] * 4
    assert all(c.share == 1 for c in clients)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cohort": 7}, "participation.cohort <= clients.*7 > 6"),
        ({"quorum": 7}, "participation.quorum <= clients.*7 > 6"),
        ({"over_selection": 0.5}, "over_selection"),
        ({"dropout": 1.0}, "dropout"),
        ({"jitter": -1.0}, "jitter"),
        ({"sampling": "best"}, "sampling"),
        ({"deadline_seconds": 0.0}, "deadline_seconds"),
        (
            {"slowdowns": (Slowdown(2.0), Slowdown(2.0, clients=(0, 1000)))},
            r"`participation.slowdowns` must name clients in 0 \.\.\. \d+, but got 1000",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        Federation.build(replace(SETTINGS, participation=ParticipationSettings(**changes)))


def test_a_slowdown_takes_longer_than_the_tables_say_from_its_round_on(tmp_path) -> None:
    slower = Slowdown(3.0, from_round=2, until_round=3, clients=(1,))
    twice = Slowdown(2.0, from_round=3)
    _, clients, federation = train(tmp_path, rounds=4, slowdowns=(slower, twice))
    for number, factors in enumerate(([1, 1], [1, 3], [2, 6], [2, 2]), start=1):
        records = by_round(clients, number)[:2]
        told = federation.hardware.seconds[:2, 1]
        assert [c.seconds for c in records] == pytest.approx(factors * told)
        watts = [c.energy_joules / c.seconds for c in records]
        assert watts == pytest.approx(federation.hardware.joules[:2, 1] / told)
    with pytest.raises(ValueError, match="`from_round <= until_round` must hold"):
        Slowdown(2.0, from_round=5, until_round=4)
