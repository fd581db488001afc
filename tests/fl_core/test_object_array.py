"""A pickled array is read, and nothing that it asks for is run."""

import io
import os
import pickle

import numpy as np
import pytest

from fedhq.fl_core.data.object_array import read_object
from fedhq.fl_core.data.smartwatch import read_smartwatch


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def write(path, value, protocol=2) -> None:
    """A file as `numpy.save` writes it, at any pickle protocol."""
    array = np.empty((), dtype=object)
    array[()] = value
    file = io.BytesIO()
    np.save(file, np.array(None, dtype=object))
    header = file.getvalue()[: 10 + int.from_bytes(file.getvalue()[8:10], "little")]
    path.write_bytes(header + pickle.dumps(array, protocol))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_literals_and_arrays_come_back_as_they_were(tmp_path, protocol) -> None:
    value = {"x": [np.arange(6.0).reshape(2, 3), np.array([1, 2])], "y": ("a", 3, None)}
    write(tmp_path / "a.npy", value, protocol)
    found = read_object(tmp_path / "a.npy")
    assert found["y"] == ("a", 3, None)
    for a, b in zip(found["x"], value["x"], strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.mkdir, "mkdir"), (eval, "eval"), (getattr, "getattr"), (np.load, "load")],
)
def test_a_pickle_that_names_a_function_is_refused_and_the_function_not_run(
    tmp_path, function, name, protocol
) -> None:
    made = tmp_path / "made"
    arguments = (str(made),) if function is os.mkdir else ("1",)
    write(tmp_path / "bad.npy", [Calls(function, *arguments)], protocol)
    with pytest.raises(ValueError, match=rf"bad.npy must hold .* it names [\w.]+\.{name}, which"):
        read_object(tmp_path / "bad.npy")
    assert not made.exists()


def test_the_check_above_would_run_the_function_without_the_restriction(tmp_path) -> None:
    made = tmp_path / "made"
    write(tmp_path / "bad.npy", [Calls(os.mkdir, str(made))])
    np.load(tmp_path / "bad.npy", allow_pickle=True)
    assert made.exists()


def test_bytes_are_decoded_as_latin1_only(tmp_path) -> None:
    write(tmp_path / "a.npy", b"\xe9")
    assert read_object(tmp_path / "a.npy") == b"\xe9"
    content = (tmp_path / "a.npy").read_bytes().replace(b"latin1", b"zip-io")
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match="writes bytes as 'zip-io' instead of latin1"):
        read_object(tmp_path / "a.npy")


def test_damaged_files_are_refused(tmp_path) -> None:
    path = tmp_path / "a.npy"
    write(path, {"x": np.arange(3)})
    whole = path.read_bytes()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="must hold one pickled object"):
            read_object(path)
    np.save(path, np.arange(3))
    with pytest.raises(ValueError, match="it is an array of int64 with shape"):
        read_object(path)
    path.write_bytes(whole[:128] + pickle.dumps([1]))
    with pytest.raises(ValueError, match="holds a list instead"):
        read_object(path)


def test_a_file_without_the_smartwatchs_keys_is_refused(tmp_path) -> None:
    write(tmp_path / "a.npy", {"X": []})
    with pytest.raises(ValueError, match="a dictionary with X, y, subject, side"):
        read_smartwatch(tmp_path / "a.npy")
