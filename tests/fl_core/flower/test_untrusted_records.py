"""Models and updates from anywhere: a `WireError` or something sound, and no memory taken."""

import json
import tracemalloc

import numpy as np
import pytest
from flower_records import CODED, PLAIN, as_array, decide, record, reply_with
from flwr.app import Array, ArrayRecord

from fedhq.allocator.errors import WireError
from fedhq.fl_core.flower.messages.npy import array_form, read_array
from fedhq.fl_core.flower.messages.packing import pack_model, unpack_model, unpack_update
from fedhq.fl_core.flower.messages.tensor_list import TENSORS


def damaged(array, rng):
    """An array with its bytes, its claims or its length changed."""
    data = bytearray(array.data)
    kind = rng.integers(5)
    if kind == 0:
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.integers(256)
    elif kind == 1:
        del data[rng.integers(len(data)) :]
    elif kind == 2:
        data += rng.bytes(rng.integers(1, 9))
    elif kind == 3:
        data = bytearray(rng.bytes(rng.integers(40)))
    shape = (*array.shape, 2) if kind == 4 else array.shape
    return Array(array.dtype, shape, array.stype, bytes(data))


@pytest.mark.parametrize("seed", range(8))
def test_damage_gives_a_wire_error_or_something_sound(seed):
    rng = np.random.default_rng(seed)
    decision = decide(downlink_bits=4)
    model = pack_model(record(), CODED, 4, 3, 11)
    reply = reply_with()
    refused = 0
    for _ in range(40):
        for packed, unpack in (
            (model, lambda r: unpack_model(r, decision)),
            (reply, lambda r: unpack_update(r, record(), decide())),
        ):
            name = list(packed)[rng.integers(len(packed))]
            hurt = ArrayRecord({**packed, name: damaged(packed[name], rng)})
            try:
                unpack(hurt)
            except WireError:
                refused += 1
    assert refused > 30


@pytest.mark.parametrize("listed", ["nonsense", "[" * 100_000, "{}", "[]", "[[1]]", '["a"]'])
def test_a_list_of_tensors_that_is_none_is_refused(listed):
    packed = pack_model(record(), CODED, 4, 3, 11)
    packed[TENSORS] = Array(as_array(listed.encode()))
    with pytest.raises(WireError):
        unpack_model(packed, decide(downlink_bits=4))


def test_shapes_that_would_take_all_memory_take_none():
    packed = pack_model(record(), CODED, 4, 3, 11)
    huge = [["float32", [2**31, 2**31]]] * len(CODED)
    packed[TENSORS] = Array(as_array(json.dumps([*huge, *PLAIN]).encode()))
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999,), }\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    tracemalloc.start()
    with pytest.raises(WireError):
        unpack_model(packed, decide(downlink_bits=4))
    with pytest.raises(WireError, match="length = "):
        read_array("w", Array("float64", (999999999,), "numpy.ndarray", data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def test_objects_are_not_unpickled():
    values = np.array([{"a": 1}], object)
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': {values.shape}, }}\n".encode()
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"x" * 8
    with pytest.raises(WireError, match="array of numbers"):
        read_array("w", Array("object", (1,), "numpy.ndarray", data))


@pytest.mark.parametrize("dtype", ["?", "<i2", ">f4", "<f8", "|u1", "<c8"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (1, 2, 3, 4)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_numpy_writes_is_read_as_numpy_reads_it(dtype, shape, order):
    values = np.asarray(np.arange(np.prod(shape)).reshape(shape), dtype, order=order)
    array = Array(values)
    got = read_array("w", array)
    assert array_form("w", array) == (values.dtype, shape)
    assert got.shape == shape
    assert (got == array.numpy()).all()
    assert got.dtype.isnative
