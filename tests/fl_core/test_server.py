"""The server as a whole: what rounds of arrivals do to the weights, and to nothing else."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from fedhq.allocator.errors import CheckpointError, FedHQError
from fedhq.fl_core.server.aggregate import federated_average
from fedhq.fl_core.server.inbox import Arrival
from fedhq.fl_core.server.server import Server
from fedhq.fl_core.settings import ServerSettings
from fedhq.fl_core.wire.codec import WIRE_BITS, decode_update, encode_update

EXAMPLES = [10, 20, 30, 5, 8, 0, 40]
START = {
    "w": np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32),
    "b": np.array(0.5, np.float32),
}
EVERYTHING = ServerSettings(
    "fedyogi", 0.1, weighting="error_aware", norm_bound=3.0, outlier_factor=20.0, max_staleness=2
)


def arrive(client, number=1, values=None, scale=1.0, wire_bits=None) -> Arrival:
    rng = np.random.default_rng([client, number])
    update = {k: np.asarray(rng.normal(size=v.shape) * scale, np.float32) for k, v in START.items()}
    payload = encode_update(
        update if values is None else values,
        wire_bits=wire_bits or WIRE_BITS[client % len(WIRE_BITS)],
        round_number=number,
        client=client,
        num_examples=EXAMPLES[client],
        rng=rng,
    )
    return Arrival(client, number, payload)


def make(settings=ServerSettings(), **changes) -> Server:  # noqa: B008
    return Server(START, replace(settings, **changes), EXAMPLES)


def content(server: Server) -> list[bytes]:
    return [values.tobytes() for values in server.weights.values()]


def test_by_default_a_round_is_federated_averaging_to_the_byte() -> None:
    server = make()
    arrivals = [arrive(k) for k in range(7)]
    applied = server.apply(1, arrivals)
    expected = federated_average(START, [decode_update(a.payload, START) for a in arrivals])
    assert content(server) == [values.tobytes() for values in expected.values()]
    assert applied.changed
    assert applied.num_used == 7
    assert [r.share for r in applied.receipts] == [n / sum(EXAMPLES) for n in EXAMPLES]
    assert server.weights["b"].shape == ()


@pytest.mark.parametrize("aggregation", ["mean", "median", "trimmed_mean"])
@pytest.mark.parametrize("optimizer", ["fedavg", "fedadam", "fedyogi"])
def test_the_order_of_arrival_changes_no_bit(aggregation, optimizer) -> None:
    arrivals = [arrive(k, n, scale=10.0**k) for k, n in product(range(4), (3, 4))] + [arrive(6, 4)]
    settings = ServerSettings(
        optimizer, aggregation=aggregation, max_staleness=1, norm_bound=5.0, outlier_factor=50.0
    )
    results = []
    for seed in range(4):
        server = make(settings)
        order = np.random.default_rng(seed).permutation(len(arrivals))
        applied = server.apply(4, [arrivals[k] for k in order])
        assert 1 < applied.num_used < len(arrivals)  # some are refused for their norm
        results.append(content(server))
    assert results.count(results[0]) == 4
    assert results[0] != [values.tobytes() for values in START.values()]


def test_every_arrival_has_its_receipt_and_only_good_ones_count() -> None:
    good = [arrive(0), arrive(1)]
    bad = [Arrival(2, 1, b"?"), Arrival(3, 1, good[0].payload), good[1], arrive(2, 1, scale=1e20)]
    server, alone = make(), make()
    applied = server.apply(1, [good[0], bad[0], bad[1], good[1], bad[2], bad[3]])
    assert [str(r.status) for r in applied.receipts] == [
        "ok", "malformed", "foreign", "ok", "duplicate", "too_large",
    ]  # fmt: skip
    assert [r.client for r in applied.receipts] == [0, 2, 3, 1, 1, 2]
    assert [r.share for r in applied.receipts] == [1 / 3, 0, 0, 2 / 3, 0, 0]
    assert applied.num_used == 2
    alone.apply(1, good)
    assert content(server) == content(alone)


def test_without_a_usable_update_nothing_moves() -> None:
    """Not the weights, nor the moments, which would drift on."""
    server = make(optimizer="fedadam", learning_rate=0.1)
    server.apply(1, [arrive(k) for k in range(3)])
    before = server.state_dict()[1]
    for arrivals in ([], [Arrival(0, 2, b"?")]):
        assert not server.apply(2, arrivals).changed
    after = server.state_dict()[1]
    assert all(after[name].tobytes() == values.tobytes() for name, values in before.items())


def test_a_cohort_without_examples_changes_nothing_unless_all_count_alike() -> None:
    for weighting in ("examples", "error_aware"):
        server = make(weighting=weighting)
        applied = server.apply(1, [arrive(5)])
        assert (applied.changed, applied.num_used, applied.receipts[0].share) == (False, 1, 0)
        assert content(server) == content(make())
    uniform = make(weighting="uniform")
    assert uniform.apply(1, [arrive(5), arrive(0)]).changed
    assert [r.share for r in uniform.apply(2, [arrive(5, 2), arrive(0, 2)]).receipts] == [0.5, 0.5]


def test_stale_updates_count_less_and_replays_not_at_all() -> None:
    server = make(max_staleness=2, staleness_power=1.0, weighting="uniform")
    applied = server.apply(3, [arrive(0, 3), arrive(1, 2), arrive(2, 1), arrive(3, 0)])
    assert [str(r.status) for r in applied.receipts] == ["ok", "ok", "ok", "stale"]
    weights = [1, 1 / 2, 1 / 3]
    assert [r.share for r in applied.receipts[:3]] == pytest.approx(
        [w / sum(weights) for w in weights]
    )
    before = content(server)
    again = server.apply(3, [arrive(0, 3), arrive(1, 2)])
    assert {str(r.status) for r in again.receipts} == {"replayed"}
    assert content(server) == before
    with pytest.raises(ValueError, match="`round_number >= 3`"):
        server.apply(2, [])


def test_long_updates_are_shortened_to_the_bound_and_short_ones_are_not() -> None:
    ones = {"w": np.ones((4, 6), np.float32), "b": np.array(1, np.float32)}  # norm 5
    tens = {name: 10 * values for name, values in ones.items()}
    for aggregation in ("mean", "median", "trimmed_mean"):
        server = make(norm_bound=10.0, weighting="uniform", aggregation=aggregation)
        server.apply(1, [arrive(0, values=ones), arrive(1, values=tens)])
        np.testing.assert_allclose(server.weights["w"], START["w"] + 1.5, rtol=1e-5)


def test_norms_far_above_the_median_are_refused_and_not_asked_again() -> None:
    server = make(outlier_factor=4.0)
    arrivals = [arrive(k, wire_bits=8) for k in range(4)] + [arrive(4, wire_bits=8, scale=30.0)]
    applied = server.apply(1, arrivals)
    assert [str(r.status) for r in applied.receipts] == ["ok"] * 4 + ["too_large"]
    assert "`norm <= " in applied.receipts[4].detail
    assert "outlier_factor" in applied.receipts[4].detail
    alone = make()
    alone.apply(1, arrivals[:4])
    assert content(server) == content(alone)
    assert [str(r.status) for r in server.apply(1, arrivals[4:]).receipts] == ["replayed"]


@pytest.mark.parametrize("optimizer", ["fedavg", "fedadam"])
def test_weights_that_would_not_be_finite_are_dropped_with_an_error(optimizer) -> None:
    server = make(optimizer=optimizer, learning_rate=3e38)
    before, tensors = server.state_dict()
    with pytest.raises(FedHQError, match=r"weights/.*finite.*round 1.*server\.learning_rate"):
        server.apply(1, [arrive(k, scale=1e3) for k in range(3)])
    # Nothing was taken either: the same clients may send again.
    after, left = server.state_dict()
    assert after == before
    assert all(left[name].tobytes() == values.tobytes() for name, values in tensors.items())


@pytest.mark.parametrize("settings", [ServerSettings(), ServerSettings("fedadam"), EVERYTHING])
def test_nothing_that_arrives_leaves_weights_that_are_not_finite(settings) -> None:
    rng, server = np.random.default_rng(0), make(settings)
    statuses = set()
    for number in range(1, 20):
        arrivals = []
        for client in range(7):
            changed = bytearray(arrive(client, number, scale=10.0 ** rng.integers(-45, 38)).payload)
            if rng.random() < 0.3:
                changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
            arrivals.append(Arrival(client, number, bytes(changed)))
        statuses |= {str(r.status) for r in server.apply(number, arrivals).receipts}
        assert all(np.isfinite(values).all() for values in server.weights.values())
    assert statuses == {"ok", "malformed", "too_large"}


@pytest.mark.parametrize(
    "settings", [ServerSettings(), EVERYTHING, ServerSettings("fedadam", 0.1, aggregation="median")]
)
def test_a_restored_server_goes_on_with_the_same_bytes(settings) -> None:
    def play(server, rounds):
        seen = []
        for number in rounds:
            late = [arrive(k, number - 1) for k in range(3)]
            applied = server.apply(number, [arrive(k, number) for k in range(1, 7)] + late)
            seen += [(str(r.status), r.share) for r in applied.receipts]
        return seen

    whole, broken, restored = make(settings), make(settings), make(settings)
    play(whole, range(2, 5))
    play(broken, range(2, 5))
    state, tensors = broken.state_dict()
    state = json.loads(json.dumps(state))
    tensors = {name: values.copy() for name, values in tensors.items()}
    play(broken, range(5, 6))  # what was saved does not change with the server
    restored.load_state_dict(state, tensors)
    assert play(restored, range(5, 8)) == play(whole, range(5, 8))
    assert content(restored) == content(whole)
    first, second = restored.state_dict(), whole.state_dict()
    assert first[0] == second[0]
    assert all(first[1][k].tobytes() == values.tobytes() for k, values in second[1].items())


def test_a_state_of_another_server_is_refused_and_changes_nothing() -> None:
    state, tensors = make(optimizer="fedadam").state_dict()
    server = make()
    with pytest.raises(CheckpointError, match=r"mean/.*same model and optimizer"):
        server.load_state_dict(state, tensors)
    other = {**server.state_dict()[1], "weights/b": np.zeros(2, np.float32)}
    with pytest.raises(CheckpointError, match=r"weights/b has shape \(\).*got \(2,\)"):
        server.load_state_dict(state, other)
    for wrong in ({}, {"round_number": 1, "taken": [1]}, {"round_number": None, "taken": []}):
        with pytest.raises(CheckpointError, match="round_number and taken"):
            server.load_state_dict(wrong, server.state_dict()[1])
    assert content(server) == content(make())


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adam"},
        {"learning_rate": 0.0},
        {"beta1": 1.0},
        {"tau": 0.0},
        {"trim": 0.5},
        {"trim": -0.1},
        {"norm_bound": 0.0},
        {"outlier_factor": 1.0},
        {"max_staleness": -1},
        {"max_staleness": True},
        {"staleness_power": -0.5},
        {"weighting": "error_aware", "aggregation": "median"},
    ],
)
def test_settings_that_break_a_rule_are_refused(changes) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        ServerSettings(**changes)
