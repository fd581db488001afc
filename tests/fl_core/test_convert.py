"""What others call a data set becomes one here, or the rule that it breaks is named."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fedhq.fl_core.data.convert import as_clients, as_dataset
from fedhq.fl_core.data.datasets import Dataset
from fedhq.fl_core.data.hub import shakespeare_windows
from fedhq.fl_core.data.pydoc_text import ALPHABET

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 6, 4), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 1, 0])


class Table:
    """As much of a Hugging Face table as is asked of it: columns that are read one by one."""

    def __init__(self, columns: dict, features: dict | None = None) -> None:
        self._columns = columns
        self.column_names = list(columns)
        self.features = features

    def __getitem__(self, name: str):
        return iter(self._columns[name])


class Items(torch.utils.data.Dataset):
    def __init__(self, items: list) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place: int):
        return self._items[place]


def test_pairs_tensor_data_sets_and_items_give_the_same() -> None:
    series = RNG.normal(size=(5, 2, 7)).astype(np.float32)
    tensors = torch.from_numpy(series), torch.from_numpy(LABELS)
    sources = [
        (series, LABELS),
        (series.astype(np.float64), LABELS.astype(np.uint8)),
        (series.tolist(), LABELS.tolist()),
        tensors,
        torch.utils.data.TensorDataset(*tensors),
        Items(list(zip(*tensors, strict=True))),
        Items([(x, int(y)) for x, y in zip(series, LABELS, strict=True)]),
        Dataset(*tensors, 3),
    ]
    for source in sources:
        data = as_dataset(source)
        assert torch.equal(data.inputs, tensors[0])
        assert torch.equal(data.labels, tensors[1])
        assert (data.inputs.dtype, data.labels.dtype) == (torch.float32, torch.int64)
        assert (data.num_classes, data.groups) == (3, None)
    assert as_dataset((series, LABELS), 7).num_classes == 7


def test_a_data_set_owns_its_values() -> None:
    inputs = torch.zeros(2, 3)
    as_dataset((inputs, np.array([0, 1]))).inputs.fill_(1)
    assert inputs.sum() == 0


def test_images_become_floats_with_channels_first() -> None:
    grey, colour = as_dataset((GREY, LABELS)).inputs, as_dataset((COLOUR, LABELS)).inputs
    assert (grey.shape, colour.shape) == ((5, 1, 6, 4), (5, 3, 6, 4))
    np.testing.assert_array_equal(grey[:, 0], GREY.astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(colour[3, 2], COLOUR[3, :, :, 2] / np.float32(255))
    for last in (torch.from_numpy(COLOUR), torch.from_numpy(COLOUR.transpose(0, 3, 1, 2).copy())):
        assert torch.equal(as_dataset((last, LABELS)).inputs, colour)
    pictures = Items([(Image.fromarray(x), int(y)) for x, y in zip(COLOUR, LABELS, strict=True)])
    assert torch.equal(as_dataset(pictures).inputs, colour)
    bits = Items([(Image.fromarray(GREY[0] > 127), 0)])
    assert sorted(set(as_dataset(bits).inputs.flatten().tolist())) == [0, 1]


def test_texts_are_characters_with_a_label_each() -> None:
    characters = np.array([[0, 3, 1], [2, 2, 5]])
    data = as_dataset((characters, characters[:, ::-1]))
    assert data.inputs.dtype == data.labels.dtype == torch.int64
    assert data.num_classes == 6
    assert data.labels[0].tolist() == [1, 3, 0]


@pytest.mark.parametrize(
    ("image", "label", "features", "num_classes"),
    [
        ("img", "label", {"label": SimpleNamespace(num_classes=10)}, 10),
        ("img", "fine_label", {"fine_label": SimpleNamespace(num_classes=100)}, 100),
        ("image", "label", {"label": SimpleNamespace(dtype="int64")}, 3),
        ("x", "y", None, 3),
    ],
)
def test_tables_are_known_by_their_columns(image, label, features, num_classes) -> None:
    columns = {"coarse_label": [9] * 5, label: LABELS.tolist()}
    columns[image] = [Image.fromarray(picture) for picture in COLOUR]
    data = as_dataset(Table(columns, features))
    assert torch.equal(data.inputs, as_dataset((COLOUR, LABELS)).inputs)
    assert data.labels.tolist() == LABELS.tolist()
    assert (data.num_classes, data.groups) == (num_classes, None)


def test_writers_of_femnist_become_natural_clients() -> None:
    table = Table(
        {
            "image": [Image.fromarray(picture) for picture in GREY],
            "writer_id": ["f0001_41", "f0000_14", "f0001_41", "f0000_14", "f0123_00"],
            "hsf_id": [0, 0, 1, 0, 4],
            "character": [61, 0, 5, 5, 0],
        },
        {"character": SimpleNamespace(num_classes=62)},
    )
    data = as_dataset(table)
    assert data.groups.tolist() == [1, 0, 1, 0, 2]
    assert (data.num_classes, data.input_shape) == (62, (1, 6, 4))
    assert data.labels.tolist() == [61, 0, 5, 5, 0]


def sliding_rows(role: str, text: str, width: int) -> list[tuple[str, str, str]]:
    """Rows as LEAF makes them: every place of a text."""
    ends = range(width, len(text))
    return [(role, text[end - width : end], text[end]) for end in ends]


def test_shakespeare_windows_cover_each_role_once_without_overlap() -> None:
    speech = "to be, or not to be; that is the question"
    rows = [
        *sliding_rows("HAMLET", speech, 5),
        *sliding_rows("HAMLET", "words, words", 5),
        *sliding_rows("GHOST", "adieu, adieu! remember me", 5),
    ]
    data = shakespeare_windows(*(list(column) for column in zip(*rows, strict=True)))
    assert data.num_classes == len(ALPHABET)
    assert torch.equal(data.inputs[:, 1:], data.labels[:, :-1])
    texts = ["".join(ALPHABET[code] for code in row) for row in data.inputs]
    assert "".join(texts[:8]) == speech[:40]
    assert texts[8:10] == ["words", ", wor"]
    assert texts[10:] == ["adieu", ", adi", "eu! r", "ememb"]
    assert data.groups.tolist() == [1] * 10 + [0] * 4
    assert ALPHABET[data.labels[0, -1]] == ","


FLOATS = np.zeros((5, 2, 3))


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ((FLOATS, LABELS[:4]), r"one entry for each example.*\(5, 2, 3\) and \(4,\)"),
        ((FLOATS[:0], LABELS[:0]), "at least one example"),
        (([], []), "at least one example"),
        ((np.float32(1), 0), "one entry for each example"),
        ((np.where(np.arange(5) == 3, np.nan, 0), LABELS), "example 3 has NaN"),
        ((np.where(np.arange(5) == 2, np.inf, 0), LABELS), "example 2 has NaN or infinite"),
        ((FLOATS, LABELS - 1), "`labels` must be >= 0, but got -1"),
        ((FLOATS, LABELS + 0.5), "whole numbers, but got float64"),
        ((FLOATS, LABELS > 0), "whole numbers, but got bool"),
        ((FLOATS, list("abcde")), "whole numbers, but got <U1"),
        ((FLOATS, np.zeros((5, 3), int)), r"must have shape \(5,\)"),
        ((FLOATS.astype(complex), LABELS), "but got complex128"),
        ((FLOATS > 0, LABELS), "but got bool"),
        ((FLOATS.astype(int), LABELS), "but got int64 of shape"),
        ((np.array(list("abcde")), LABELS), "but got <U1"),
        ((np.zeros((5, 4), int), LABELS), r"must have shape \(5, 4\), one per example or char"),
        ((np.full((5, 4), -1), np.zeros((5, 4), int)), "texts must be >= 0, but got -1"),
        ((np.zeros((5, 4, 4, 2), np.uint8), LABELS), r"1 or 3 channels.*\(5, 4, 4, 2\)"),
        ((np.zeros((5, 4), np.uint8), LABELS), "1 or 3 channels"),
        ((FLOATS, LABELS, LABELS), "a pair .* but holds 3"),
        (Items([(FLOATS[0], 0), FLOATS[0]]), "items must be pairs .* item 1"),
        (Items([(FLOATS[0], 0), (FLOATS[0, :1], 0)]), r"example 1 has \(1, 3\) and example 0"),
        (iter([(FLOATS[0], 0)]), "a length and items .* Put its items in a list"),
        (Table({"pixels": [1], "label": [0]}), r"'img', 'image', 'x'.*\['pixels', 'label'\]"),
        (Table({"x": ["to be"], "y": ["o"]}), "but got <U5"),
        (Table({"x": [[0.5]], "target": [0]}), "'fine_label'"),
    ],
)
def test_what_is_no_data_set_is_refused_with_the_rule(source, rule) -> None:
    with pytest.raises(ValueError, match=rule):
        as_dataset(source)


def test_more_labels_than_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="got 2 with num_classes = 2"):
        as_dataset((FLOATS, LABELS), num_classes=2)


def test_clients_get_one_number_of_classes_and_must_have_one_shape() -> None:
    clients = as_clients([(FLOATS, LABELS), (FLOATS[:1], [6])])
    assert [data.num_classes for data in clients] == [7, 7]
    assert [len(data) for data in clients] == [5, 1]
    with pytest.raises(ValueError, match=r"client 1 has \(3,\) and client 0 \(2, 3\)"):
        as_clients([(FLOATS, LABELS), (FLOATS[:, 0], LABELS)])
    with pytest.raises(ValueError, match=r"client 1: `labels` must be >= 0"):
        as_clients([(FLOATS, LABELS), (FLOATS, -LABELS)])
    with pytest.raises(ValueError, match="at least one client"):
        as_clients([])
