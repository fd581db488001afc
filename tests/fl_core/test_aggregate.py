"""Federated averaging against sums written out."""

import numpy as np
import pytest

from fedhq.fl_core.server.aggregate import federated_average
from fedhq.fl_core.wire.codec import WIRE_BITS, Update, decode_update, encode_update


def update(client: int, num_examples: int, values, wire_bits: int = 32) -> Update:
    """As it comes out of the wire."""
    tensors = {"w": np.array(values, dtype=np.float32)}
    payload = encode_update(
        tensors,
        wire_bits=wire_bits,
        round_number=1,
        client=client,
        num_examples=num_examples,
        rng=np.random.default_rng(client),
    )
    return decode_update(payload, tensors)


def test_updates_are_weighted_by_examples() -> None:
    """1 + (3 * 4 + 1 * 8) / 4 = 6 and 2 + (3 * 0 - 1 * 4) / 4 = 1."""
    old = {"w": np.array([1, 2], dtype=np.float32)}
    new = federated_average(old, [update(0, 3, [4, 0]), update(1, 1, [8, -4])])
    assert new["w"].tolist() == [6, 1]
    assert new["w"].dtype == np.float32
    assert old["w"].tolist() == [1, 2]


def mixed_updates(count: int, shape: tuple[int, ...]) -> list[Update]:
    """Clients of all widths, with sizes of updates that differ much."""
    rng = np.random.default_rng(0)
    return [
        update(
            client,
            int(rng.integers(1, 50)),
            rng.normal(size=shape) * 10.0 ** rng.integers(-3, 1),
            WIRE_BITS[client % len(WIRE_BITS)],
        )
        for client in range(count)
    ]


@pytest.mark.parametrize("shape", [(), (64,), (5, 3, 3), (0, 2)])
def test_the_order_of_arrival_does_not_matter(shape: tuple[int, ...]) -> None:
    updates = mixed_updates(17, shape)
    old = {"w": np.zeros(shape, dtype=np.float32)}
    first = federated_average(old, updates)["w"]
    assert (first.shape, first.dtype) == (shape, np.float32)
    for seed in range(3):
        other = [updates[k] for k in np.random.default_rng(seed).permutation(17)]
        assert first.tobytes() == federated_average(old, other)["w"].tobytes()


@pytest.mark.parametrize("count", [1, 3, 200])
def test_the_average_is_that_in_float64_within_the_stated_bound(count: int) -> None:
    updates = mixed_updates(count, (4, 75))
    total = sum(u.num_examples for u in updates)
    exact, magnitude = np.zeros((4, 75)), np.zeros((4, 75))
    for u in updates:
        exact += u.num_examples / total * u.tensors["w"].astype(np.float64)
        magnitude += u.num_examples / total * np.abs(u.tensors["w"].astype(np.float64))
    got = federated_average({"w": np.zeros((4, 75), dtype=np.float32)}, updates)["w"]
    assert (np.abs(got - exact) <= (count + 4) * 2.0**-24 * magnitude).all()


def test_nothing_to_average_is_refused() -> None:
    old = {"w": np.zeros(2, dtype=np.float32)}
    for updates in ([], [update(0, 0, [1, 1])]):
        with pytest.raises(ValueError, match="at least one update with examples"):
            federated_average(old, updates)
