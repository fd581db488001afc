"""The data sets that ship in packages, and how they are cut."""

import numpy as np
import pytest
import torch

from fedhq.fl_core.datasets import load_dataset, split_dataset


@pytest.mark.parametrize(("name", "examples", "side"), [("digits", 1797, 8), ("mnist5k", 5000, 28)])
def test_data_sets_hold_what_they_promise(name, examples, side) -> None:
    data = load_dataset(name)
    assert data.inputs.shape == (examples, 1, side, side)
    assert data.inputs.dtype == torch.float32
    assert float(data.inputs.min()) == 0.0
    assert float(data.inputs.max()) == 1.0
    assert sorted(set(data.labels.tolist())) == list(range(10))


def test_a_split_shares_no_example_and_keeps_the_classes_even() -> None:
    data = load_dataset("digits")
    marked = data.take(np.arange(len(data)))
    marked.inputs[:, 0, 0, 0] = torch.arange(len(data))  # a mark that is unique
    split = split_dataset(marked, 400, 100, np.random.default_rng(0))
    marks = [p.inputs[:, 0, 0, 0].tolist() for p in (split.train, split.calibration, split.test)]
    assert [len(m) for m in marks] == [1297, 100, 400]
    assert sorted(m for part in marks for m in part) == list(range(1797))
    counts = np.bincount(split.test.labels.numpy(), minlength=10)
    assert counts.max() - counts.min() <= 4


def test_unknown_names_and_greedy_splits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\['digits', 'mnist5k'\].*'cifar'"):
        load_dataset("cifar")
    with pytest.raises(ValueError, match="num_test"):
        split_dataset(load_dataset("digits"), 1700, 97, np.random.default_rng(0))
