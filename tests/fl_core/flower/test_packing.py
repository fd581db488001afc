"""Models and updates as records: the bytes of the in-process trainer, and nothing but `WireError`.

`Uplink` and `broadcast` are the oracles.
"""

import numpy as np
import pytest
from flower_records import (
    CODED,
    PLAIN,
    VALUES,
    as_array,
    decide,
    float32,
    record,
    reply_with,
    train,
)

from fedhq.allocator.errors import DivergedError, WireError
from fedhq.fl_core.flower.messages.packing import (
    coded_names,
    pack_model,
    pack_update,
    unpack_model,
    unpack_update,
)
from fedhq.fl_core.flower.messages.tensor_list import TENSORS
from fedhq.fl_core.rounds.uplink import Uplink
from fedhq.fl_core.wire.codec import decode_update, encode_update
from fedhq.fl_core.wire.downlink import broadcast

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


def test_a_payload_is_smaller_by_the_width():
    values = {"w": np.random.default_rng(0).normal(size=(1000, 100)).astype(np.float32)}
    packed, _ = pack_update(record(values), record(train(values)), decide(names=("w",)), 80, None)
    assert record(values).count_bytes() > 7 * packed.count_bytes()
    decoded = decode_update(packed["fedhq"].numpy().tobytes(), values)
    assert decoded.num_examples == 80
