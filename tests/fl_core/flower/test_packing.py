"""Models and updates as records: the bytes of the in-process trainer, and nothing but `WireError`.

`Uplink` and `broadcast` are the oracles.
"""

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from fedhq.allocator.errors import DivergedError, WireError
from fedhq.allocator.strategy import Strategy
from fedhq.fl_core.flower.messages.npy import array_form, read_array
from fedhq.fl_core.flower.messages.orders import Decision
from fedhq.fl_core.flower.messages.packing import (
    coded_names,
    pack_model,
    pack_update,
    unpack_model,
    unpack_update,
)
from fedhq.fl_core.flower.messages.tensor_list import TENSORS
from fedhq.fl_core.rounds.uplink import Uplink
from fedhq.fl_core.settings import QuantizationSettings
from fedhq.fl_core.wire.codec import decode_update, encode_update
from fedhq.fl_core.wire.downlink import broadcast

RNG = np.random.default_rng(0)
VALUES = {
    "conv.weight": RNG.normal(size=(4, 3, 3, 3)).astype(np.float32),
    "bn.weight": np.ones(4, np.float32),
    "bn.running_mean": RNG.normal(size=4).astype(np.float32),
    "bn.num_batches_tracked": np.array(7),
    "half": RNG.normal(size=(2, 5)).astype(np.float16),
    "double": RNG.normal(size=(3,)),
    "empty": np.zeros((0, 3), np.float32),
    "scalar": np.array(0.25, np.float32),
    "mask": np.array([True, False]),
    "turned": np.asfortranarray(RNG.normal(size=(3, 4)).astype(np.float32)),
}
CODED = ("conv.weight", "bn.weight", "half", "double", "empty", "scalar", "turned")
PLAIN = ("bn.running_mean", "bn.num_batches_tracked", "mask")


def record(values=VALUES):
    return ArrayRecord({name: Array(np.asarray(value)) for name, value in values.items()})


def decide(strategy="qat-w2a2", **changes):
    decision = Decision(
        strategy=Strategy.parse(strategy),
        deployed=Strategy.parse("qat-w2a2"),
        round_number=3,
        client=5,
        seed=11,
        arrays_key="arrays",
        downlink_bits=32,
        names=CODED,
        quantization=QuantizationSettings(),
    )
    return replace(decision, **changes)


def train(values=VALUES, seed=1, step=0.1):
    """Another model of the same names, shapes and types."""
    rng = np.random.default_rng(seed)
    moved = {}
    for name, value in values.items():
        change = step * rng.normal(size=value.shape)
        moved[name] = value if value.dtype.kind in "ib" else (value + change).astype(value.dtype)
    return moved


def float32(values, names=CODED):
    return {name: np.asarray(values[name], np.float32) for name in names}


# --- Models ---


def test_floats_are_coded_but_no_statistics_counters_or_masks():
    assert coded_names(record()) == CODED


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_packed_model_is_the_payload_of_the_in_process_trainer(bits):
    packed = pack_model(record(), CODED, bits, round_number=3, seed=11)
    oracle = broadcast(float32(VALUES), bits, 3, 11)
    assert packed["fedhq"].numpy().tobytes() == oracle.payload
    assert set(packed) == {"fedhq", TENSORS, *PLAIN}
    model = unpack_model(packed, decide(downlink_bits=bits))
    assert list(model) == list(VALUES)
    for name, value in VALUES.items():
        got = model[name].numpy()
        assert (got.dtype, got.shape) == (value.dtype, value.shape), name
        expected = oracle.weights[name].astype(value.dtype) if name in CODED else value
        assert got.tobytes() == expected.tobytes(), name


def test_a_model_of_32_bits_is_the_record_itself():
    model = record()
    assert pack_model(model, CODED, 32, 1, 0) is model
    assert unpack_model(model, decide()) is model


def test_the_same_call_gives_the_same_bytes_and_another_round_others():
    def pack(number):
        return pack_model(record(), CODED, 4, number, 0)["fedhq"].data

    assert pack(1) == pack(1) != pack(2)


@pytest.mark.parametrize("bits", [4, 32])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_a_model_that_is_not_finite_as_float32_is_not_sent(bits, bad):
    values = VALUES | {"double": np.array([1.0, bad, 0.0])}
    with pytest.raises(DivergedError, match="round 9, but those of 'double'"):
        pack_model(record(values), CODED, bits, 9, 0)


def test_a_model_with_a_tensor_of_our_name_or_names_out_of_order_is_refused():
    with pytest.raises(ValueError, match="must not be named 'fedhq'"):
        pack_model(record({"fedhq": np.ones(1, np.float32)}), ("fedhq",), 4, 1, 0)
    with pytest.raises(ValueError, match="in its order"):
        pack_model(record(), CODED[::-1], 4, 1, 0)


def test_the_greatest_half_survives_rounding():
    values = {"w": np.array([65504, -65504, 1], np.float16)}
    for seed in range(20):
        packed = pack_model(record(values), ("w",), 4, 1, seed)
        model = unpack_model(packed, decide(names=("w",), downlink_bits=4, round_number=1))
        assert np.isfinite(model["w"].numpy()).all()


# --- Updates ---


@pytest.mark.parametrize(
    "strategies",
    [["qat-w2a2"] * 3, ["fp32"] * 2, ["ptq-w2a2-u2"] * 2, ["qat-w2a2", "fp32", "ptq-w2a2-u2"] * 2],
)
def test_updates_are_those_of_the_in_process_trainer_over_rounds(strategies):
    """Also where widths change: what is owed waits for the next width with feedback."""
    uplink, residual = Uplink(seed=11), None
    for number, strategy in enumerate(strategies, start=1):
        decision = decide(strategy, round_number=number)
        after = train(seed=number)
        update = {}
        for name in CODED:  # halves are subtracted as float32, doubles as doubles
            wide = np.float64 if name == "double" else np.float32
            update[name] = np.asarray(after[name].astype(wide) - VALUES[name], np.float32)
        bits = decision.strategy.wire_bits
        oracle = uplink.send(number, 5, bits, update, num_examples=80)
        packed, residual = pack_update(record(), record(after), decision, 80, residual)
        assert packed["fedhq"].numpy().tobytes() == oracle
        kept = uplink.residuals.get(5)
        assert (kept is None) == (residual is None)
        assert kept is None or kept.tobytes() == residual.tobytes()

        payload, _, plain = unpack_update(packed, record(), decision)
        assert payload == oracle
        assert list(plain) == list(PLAIN)
        assert all((plain[name] == after[name]).all() for name in PLAIN)


def test_the_order_of_the_trained_tensors_does_not_matter():
    after = train()
    turned = dict(reversed(after.items()))
    one, _ = pack_update(record(), record(after), decide(), 80, None)
    two, _ = pack_update(record(), record(turned), decide(), 80, None)
    assert list(one) == list(two)
    assert one["fedhq"].data == two["fedhq"].data


def without(name):
    return {key: value for key, value in train().items() if key != name}


@pytest.mark.parametrize(
    ("trained", "match"),
    [
        (without("half"), "tensors that were received.*half"),
        (without("mask"), "tensors that were received.*mask"),
        (train() | {"more": np.ones(2)}, "tensors that were received.*more"),
        (train() | {"half": np.ones((5, 2), np.float16)}, "shape of 'half'"),
        (train() | {"mask": np.ones(2, np.int64)}, "type and shape of 'mask'"),
        (train() | {"half": np.ones((2, 5), np.int64)}, "'half' is one of"),
        (train() | {"scalar": np.array(np.nan, np.float32)}, "finite.*'scalar'"),
        (train() | {"double": np.full(3, 1e300)}, "finite.*'double'"),
        (train() | {"bn.running_mean": np.full(4, np.inf, np.float32)}, "finite"),
    ],
)
def test_an_update_of_another_model_or_not_finite_is_not_sent(trained, match):
    with pytest.raises(WireError, match=match):
        pack_update(record(), record(trained), decide(), 80, None)


def test_a_residual_of_another_model_is_refused():
    with pytest.raises(ValueError, match="`residual` must have shape"):
        pack_update(record(), record(train()), decide(), 80, np.zeros(3, np.float32))


def payload_of(**changes):
    about = {"wire_bits": 4, "round_number": 3, "client": 5, "num_examples": 80} | changes
    return encode_update(float32(VALUES), rng=np.random.default_rng(0), **about)


def reply_with(**arrays):
    packed, _ = pack_update(record(), record(train()), decide(), 80, None)
    for name, values in arrays.items():
        packed[name.replace("__", ".")] = Array(np.asarray(values))
    return packed


def as_array(payload):
    return np.frombuffer(payload, np.uint8)


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        (record(), "has the payload"),
        (reply_with(more=np.ones(2)), "has the payload.*more"),
        (reply_with(fedhq=as_array(payload_of(wire_bits=8))), "bytes, as the tensors take at 4"),
        (reply_with(fedhq=as_array(payload_of(client=6))), "sender, round and bits"),
        (reply_with(fedhq=as_array(payload_of(round_number=2))), "sender, round and bits"),
        (reply_with(fedhq=as_array(payload_of()).astype(np.int16)), "bytes"),
        (reply_with(mask=np.ones(2, np.float32)), "type and shape of 'mask'"),
        (reply_with(bn__running_mean=np.full(4, np.nan, np.float32)), "finite"),
        (reply_with(bn__running_mean=np.ones(5, np.float32)), "type and shape"),
    ],
)
def test_a_reply_that_is_not_as_decided_is_refused(reply, match):
    with pytest.raises(WireError, match=match):
        unpack_update(reply, record(), decide())


# --- What comes from anywhere ---


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


def test_a_payload_is_smaller_by_the_width():
    values = {"w": RNG.normal(size=(1000, 100)).astype(np.float32)}
    packed, _ = pack_update(record(values), record(train(values)), decide(names=("w",)), 80, None)
    assert record(values).count_bytes() > 7 * packed.count_bytes()
    decoded = decode_update(packed["fedhq"].numpy().tobytes(), values)
    assert decoded.num_examples == 80
