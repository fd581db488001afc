"""Federated averaging against sums written out."""

import numpy as np
import pytest

from fedhq.fl_core.aggregate import federated_average
from fedhq.fl_core.wire import Update


def update(client: int, num_examples: int, values: list[float]) -> Update:
    tensors = {"w": np.array(values, dtype=np.float32)}
    return Update(
        round_number=1, client=client, num_examples=num_examples, wire_bits=32, tensors=tensors
    )


def test_updates_are_weighted_by_examples() -> None:
    """1 + (3 * 4 + 1 * 8) / 4 = 6 and 2 + (3 * 0 - 1 * 4) / 4 = 1."""
    old = {"w": np.array([1, 2], dtype=np.float32)}
    new = federated_average(old, [update(0, 3, [4, 0]), update(1, 1, [8, -4])])
    assert new["w"].tolist() == [6, 1]
    assert new["w"].dtype == np.float32
    assert old["w"].tolist() == [1, 2]


def test_the_order_of_arrival_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    updates = [update(i, int(rng.integers(1, 50)), list(rng.normal(size=64))) for i in range(9)]
    old = {"w": np.zeros(64, dtype=np.float32)}
    first = federated_average(old, updates)["w"]
    assert first.tobytes() == federated_average(old, updates[::-1])["w"].tobytes()


def test_nothing_to_average_is_refused() -> None:
    old = {"w": np.zeros(2, dtype=np.float32)}
    for updates in ([], [update(0, 0, [1, 1])]):
        with pytest.raises(ValueError, match="at least one update with examples"):
            federated_average(old, updates)
