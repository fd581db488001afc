"""Weighing and combining updates: against numpy, scipy, and the theory that it rests on."""

import math

import numpy as np
import pytest
from scipy.stats import trim_mean

from fedhq.fl_core.server import robust
from fedhq.fl_core.server.aggregate import federated_average, mean_change
from fedhq.fl_core.server.robust import median_change, trimmed_mean_change
from fedhq.fl_core.server.weighting import (
    error_aware_weights,
    example_weights,
    norm_of,
    shares_of,
    staleness_weights,
)
from fedhq.fl_core.wire.codec import WIRE_BITS, Update, decode_update, encode_update
from fedhq.fl_core.wire.measure import decode_range, rounding_variance, squared_norm

SHAPES = [(), (1,), (7,), (5, 3, 3), (0, 2), (4, 75)]


def update(client, tensors, num_examples=10, wire_bits=32, number=1) -> Update:
    """As it comes out of the wire."""
    payload = encode_update(
        tensors,
        wire_bits=wire_bits,
        round_number=number,
        client=client,
        num_examples=num_examples,
        rng=np.random.default_rng([client, wire_bits]),
    )
    return decode_update(payload, tensors)


def mixed(count: int) -> list[Update]:
    """Clients of all widths, with sizes of updates that differ much."""
    rng = np.random.default_rng(count)
    return [
        update(
            k,
            {
                f"t{j}": np.asarray(rng.normal(size=s) * 10.0 ** rng.integers(-3, 1), np.float32)
                for j, s in enumerate(SHAPES)
            },
            int(rng.integers(1, 50)),
            WIRE_BITS[k % len(WIRE_BITS)],
        )
        for k in range(count)
    ]


TEMPLATE = {f"t{j}": np.zeros(shape, np.float32) for j, shape in enumerate(SHAPES)}


# --- What is read of a coded tensor ---


@pytest.mark.parametrize("one", mixed(8), ids=lambda u: f"{u.wire_bits} bits")
def test_stretch_norm_and_greatest_value_are_those_of_the_decoded(one: Update) -> None:
    rng = np.random.default_rng(0)
    for name, coded in one.coded.items():
        whole = one.tensors[name].ravel()
        for _ in range(20):
            start, stop = np.sort(rng.integers(0, whole.size + 1, 2)).tolist()
            assert decode_range(coded, start, stop).tobytes() == whole[start:stop].tobytes()
        exact = np.square(whole, dtype=np.float64).sum()
        assert squared_norm(coded) == pytest.approx(exact, rel=1e-6)
    everything = np.concatenate([v.ravel() for v in one.tensors.values()]).astype(np.float64)
    assert norm_of(one) == pytest.approx(np.linalg.norm(everything), rel=1e-6)
    assert one.greatest == pytest.approx(np.abs(everything).max(), rel=1e-6)


@pytest.mark.parametrize("wire_bits", [2, 3, 4, 8])
def test_the_rounding_variance_is_that_of_the_codec(wire_bits) -> None:
    """Of values that lie anywhere between two levels; raw floats have none."""
    values = {"w": np.random.default_rng(0).uniform(-1, 1, (20, 2000)).astype(np.float32)}
    coded = update(0, values, wire_bits=wire_bits).coded["w"]
    measured = np.square(coded.decode() - values["w"], dtype=np.float64).sum()
    assert rounding_variance(coded) == pytest.approx(measured, rel=0.03)
    assert rounding_variance(update(0, values).coded["w"]) == 0


# --- The mean ---


def test_the_mean_change_is_what_federated_averaging_adds() -> None:
    updates = mixed(17)
    change = mean_change(TEMPLATE, updates, shares_of(example_weights(updates)))
    old = {k: np.asarray(np.random.default_rng(1).normal(size=v.shape), np.float32)
           for k, v in TEMPLATE.items()}  # fmt: skip
    for name, new in federated_average(old, updates).items():
        assert new.tobytes() == np.asarray(change[name] + old[name]).tobytes()


# --- Median and trimmed mean ---


@pytest.mark.parametrize("count", [1, 2, 5, 16])
@pytest.mark.parametrize("block", [1 << 20, 37])
def test_the_median_is_that_of_numpy(count, block, monkeypatch) -> None:
    monkeypatch.setattr(robust, "BLOCK_VALUES", block)
    updates = mixed(count)
    got = median_change(TEMPLATE, updates, [1.0] * count)
    for name, values in got.items():
        expected = np.median([u.tensors[name] for u in updates], axis=0)
        assert (values.shape, values.dtype) == (TEMPLATE[name].shape, np.float32)
        np.testing.assert_array_equal(values, np.asarray(expected, np.float32))


@pytest.mark.parametrize("count", [1, 2, 5, 16])
@pytest.mark.parametrize("trim", [0.0, 0.1, 0.25, 0.49])
def test_the_trimmed_mean_is_that_of_scipy(count, trim, monkeypatch) -> None:
    monkeypatch.setattr(robust, "BLOCK_VALUES", 50)
    updates = mixed(count)
    got = trimmed_mean_change(TEMPLATE, updates, [0.5] * count, trim)
    for name, values in got.items():
        stacked = np.array([u.tensors[name] for u in updates], np.float64).reshape(count, -1)
        expected = 0.5 * trim_mean(stacked, trim, axis=0).reshape(values.shape)
        np.testing.assert_allclose(values, expected, rtol=2**-23, atol=0)


def test_the_order_of_arrival_changes_no_bit() -> None:
    updates = [*mixed(12), update(3, TEMPLATE, wire_bits=4, number=2)]  # a client twice
    updates.append(update(99, {k: -v for k, v in TEMPLATE.items()}))  # -0.0 beside 0.0
    factors = np.linspace(0.1, 1, len(updates)).tolist()

    def results(order) -> list[bytes]:
        them, theirs = [updates[k] for k in order], [factors[k] for k in order]
        changes = [
            mean_change(TEMPLATE, them, shares_of(theirs)),
            median_change(TEMPLATE, them, theirs),
            trimmed_mean_change(TEMPLATE, them, theirs, 0.2),
        ]
        return [values.tobytes() for change in changes for values in change.values()]

    first = results(range(len(updates)))
    for seed in range(5):
        assert results(np.random.default_rng(seed).permutation(len(updates))) == first


def test_a_minority_that_sends_anything_moves_the_median_no_further_than_the_rest() -> None:
    rng = np.random.default_rng(0)
    honest = [update(k, {"w": rng.normal(size=50).astype(np.float32)}) for k in range(6)]
    hostile = [update(6 + k, {"w": np.full(50, 1e17, np.float32)}) for k in range(3)]
    both, template = honest + hostile, {"w": np.zeros(50, np.float32)}
    low, high = (f([u.tensors["w"] for u in honest], axis=0) for f in (np.min, np.max))
    for change in (
        median_change(template, both, [1.0] * 9),
        trimmed_mean_change(template, both, [1.0] * 9, 0.34),
    ):
        assert ((change["w"] >= low) & (change["w"] <= high)).all()
    assert mean_change(template, both, [1 / 9] * 9)["w"].min() > 1e16


# --- Weights ---


def test_shares_sum_up_to_one_whatever_the_order_and_nothing_gives_none() -> None:
    weights = (10.0 ** np.random.default_rng(0).uniform(-9, 9, 100)).tolist()
    shares = shares_of(weights)
    assert math.fsum(shares) == pytest.approx(1, abs=1e-12)
    assert shares_of(weights[::-1]) == shares[::-1]
    assert shares_of([0.0, 0.0]) == [0.0, 0.0]
    assert shares_of([]) == []


def test_a_stale_update_weighs_less_by_the_power() -> None:
    updates = [update(0, TEMPLATE, number=n) for n in (9, 8, 6)]
    assert staleness_weights(updates, 9, 0.5) == pytest.approx([1, 1 / math.sqrt(2), 0.5])
    assert staleness_weights(updates, 9, 0.0) == [1, 1, 1]


def squared_norm_of_mean(template, updates) -> float:
    shares = shares_of(example_weights(updates))
    return float(np.square(mean_change(template, updates, shares)["w"], dtype=np.float64).sum())


def cohort(rng, truth, sampling, counts, widths) -> list[Update]:
    """Each client's update: the truth, and noise of variance sampling / examples a weight."""
    return [
        update(
            k + int(rng.integers(1 << 30)),
            {"w": (truth + rng.normal(size=truth.shape) * (sampling / n) ** 0.5).astype("f4")},
            n,
            bits,
        )
        for k, (n, bits) in enumerate(zip(counts, widths, strict=True))
    ]


def test_error_aware_weights_lower_the_squared_error_of_the_average() -> None:
    """2, 8 and 32 bits together, paired over trials; close to what the true noise would give."""
    rng = np.random.default_rng(0)
    truth, template = rng.normal(size=(10, 60)), {"w": np.zeros((10, 60), np.float32)}
    counts, widths, sampling = [40, 25, 60, 30, 50, 20], [2, 2, 2, 8, 8, 32], 20.0
    errors, best = [], []
    for _ in range(40):
        updates = cohort(rng, truth, sampling, counts, widths)
        aware = error_aware_weights(updates, squared_norm_of_mean(template, updates))
        noise = [rounding_variance(u.coded["w"]) for u in updates]
        known = [1 / (sampling * 600 / n + r) for n, r in zip(counts, noise, strict=True)]
        means = (mean_change(template, updates, shares_of(w))["w"] for w in (counts, aware, known))
        errors.append([np.square(mean - truth).mean() for mean in means])
    by_examples, by_aware, best = np.mean(errors, axis=0)
    assert by_aware < 0.75 * by_examples
    assert by_aware < 1.05 * best
    assert (np.array(errors)[:, 1] < np.array(errors)[:, 0]).mean() > 0.95


def test_error_aware_weights_are_those_of_the_examples_where_rounding_is_nothing() -> None:
    rng = np.random.default_rng(0)
    truth, template = rng.normal(size=(10, 60)), {"w": np.zeros((10, 60), np.float32)}
    raw = cohort(rng, truth, 20.0, [40, 20, 10], [32] * 3)
    assert error_aware_weights(raw, squared_norm_of_mean(template, raw)) == [40, 20, 10]
    fine = cohort(rng, truth, 20.0, [40, 20, 10], [8, 8, 32])
    fine_weights = error_aware_weights(fine, squared_norm_of_mean(template, fine))
    assert fine_weights == pytest.approx([40, 20, 10], rel=0.02)


def test_error_aware_weights_bear_agreement_and_missing_examples() -> None:
    """Clients that agree leave no sampling noise to see; the raw one must not count for all."""
    template = {"w": np.zeros((4, 8), np.float32)}
    same = {"w": np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)}
    updates = [update(0, same, 10, 2), update(1, same, 10, 32), update(2, same, 0, 2)]
    weights = error_aware_weights(updates, squared_norm_of_mean(template, updates))
    assert weights[2] == 0
    assert 0 < weights[0] < weights[1] < 1000 * weights[0]
    assert error_aware_weights(updates[:1], 1.0) == [10]
    assert error_aware_weights([], 0.0) == []
    only_raw_has_examples = [update(0, same, 0, 2), update(1, same, 5), update(2, same, 5)]
    assert error_aware_weights(only_raw_has_examples, 1e9) == [0, 5, 5]
