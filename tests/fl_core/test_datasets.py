"""The data sets that ship in packages, and how they are cut."""

from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from fedhq.fl_core.data.datasets import Dataset, load_dataset, split_dataset
from fedhq.fl_core.data.pydoc_text import ALPHABET, OTHER, encode_text
from fedhq.fl_core.settings import DataSettings


@pytest.mark.parametrize(("name", "examples", "side"), [("digits", 1797, 8), ("mnist5k", 5000, 28)])
def test_data_sets_hold_what_they_promise(name, examples, side) -> None:
    data = load_dataset(name)
    assert data.inputs.shape == (examples, 1, side, side)
    assert data.input_shape == (1, side, side)
    assert data.inputs.dtype == torch.float32
    assert float(data.inputs.min()) == 0.0
    assert float(data.inputs.max()) == 1.0
    assert sorted(set(data.labels.tolist())) == list(range(10))


def test_smartwatch_windows_are_scaled_and_overlap_by_half() -> None:
    data = load_dataset("smartwatch")
    assert data.inputs.shape == (4677, 6, 100)
    assert data.input_shape == (6, 100)
    assert (data.inputs.dtype, data.labels.dtype) == (torch.float32, torch.int64)
    assert sorted(set(data.labels.tolist())) == list(range(7)) == list(range(data.num_classes))
    assert data.inputs.mean(dim=(0, 2)).abs().max() < 0.01
    assert (data.inputs.std(dim=(0, 2)) - 1).abs().max() < 0.01
    assert torch.equal(data.inputs[0, :, 50:], data.inputs[1, :, :50])
    same = (data.inputs[:-1, :, 50:] == data.inputs[1:, :, :50]).all(dim=(1, 2))
    assert int((~same).sum()) == 139  # 140 recordings


def test_pydoc_labels_are_the_next_characters_of_the_help_texts() -> None:
    data = load_dataset("pydoc")
    assert data.input_shape == (64,)
    assert data.inputs.dtype == data.labels.dtype == torch.int64
    assert data.labels.shape == data.inputs.shape
    assert len(data) > 5000
    assert torch.equal(data.inputs.flatten()[1:], data.labels.flatten()[:-1])
    text = "".join(ALPHABET[code] for code in data.inputs[:3].flatten())
    assert '"assert"' in text
    assert 0 <= int(data.inputs.min()) <= int(data.inputs.max()) < data.num_classes


def test_the_alphabet_is_small_letters_and_one_stand_in() -> None:
    assert len(ALPHABET) == len(set(ALPHABET)) == 71
    codes = encode_text("A\n~\t\N{LATIN SMALL LETTER SHARP S}\N{KELVIN SIGN}")
    assert "".join(ALPHABET[code] for code in codes) == f"a\n~{OTHER}{OTHER}{OTHER}"


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


def test_a_split_of_texts_shares_no_text_and_keeps_labels_with_their_inputs() -> None:
    characters = torch.arange(60).reshape(20, 3)
    split = split_dataset(Dataset(characters, characters + 1, 61), 5, 4, np.random.default_rng(0))
    parts = (split.train, split.calibration, split.test)
    assert [len(p) for p in parts] == [11, 4, 5]
    assert sorted(torch.cat([p.inputs for p in parts]).flatten().tolist()) == list(range(60))
    assert all(torch.equal(p.inputs + 1, p.labels) for p in parts)


def test_the_settings_offer_exactly_the_registered_data_sets() -> None:
    offered = sorted(get_args(get_type_hints(DataSettings)["name"]))
    with pytest.raises(ValueError, match=r"`name` must be one of \[") as error:
        load_dataset("cifar")
    assert f"{offered}, but got 'cifar'" in str(error.value)


def test_greedy_splits_are_refused() -> None:
    with pytest.raises(ValueError, match="num_test"):
        split_dataset(load_dataset("digits"), 1700, 97, np.random.default_rng(0))
