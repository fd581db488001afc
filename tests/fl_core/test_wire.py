"""The wire codec: its layout, its rounding, and what it does with bytes that are not its own."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from fedhq.allocator.errors import WireError
from fedhq.fl_core.wire.codec import (
    WIRE_BITS,
    decode_update,
    encode_update,
    encode_with_feedback,
    encoded_bytes,
)

ROUNDED = [bits for bits in WIRE_BITS if bits < 32]
SHAPES = [(), (0,), (1,), (5,), (7, 1), (1, 9), (3, 0), (0, 4), (0, 0), (8, 3, 3, 3), (2, 1, 2, 5)]


def random_update(seed=0, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return {
        f"t{k}": np.asarray(rng.normal(size=shape) * 10.0 ** rng.integers(-3, 3), np.float32)
        for k, shape in enumerate(shapes)
    }


def encode(update, wire_bits=4, seed=0, **changes):
    about = {"round_number": 3, "client": 7, "num_examples": 100} | changes
    return encode_update(update, wire_bits=wire_bits, rng=np.random.default_rng(seed), **about)


def steps(values, wire_bits):
    """Scale of every element, from the definition, in float64."""
    rows = tuple(range(1, values.ndim)) if values.ndim >= 2 else None
    absmax = np.abs(values.astype(np.float64)).max(axis=rows, keepdims=True, initial=0)
    return np.broadcast_to(absmax / (2 ** (wire_bits - 1) - 1), values.shape)


def reseal(payload):
    """Gives changed bytes a right checksum, so that the checks behind it are reached."""
    payload = bytearray(payload)
    payload[12:16] = bytes(4)
    payload[12:16] = struct.pack("<I", zlib.crc32(payload))
    return bytes(payload)


# --- Round trip and rounding ---


@pytest.mark.parametrize("wire_bits", ROUNDED)
def test_a_round_trip_errs_by_at_most_one_step_per_element(wire_bits):
    update = {k: v for k, v in random_update().items() if v.size}
    decoded = decode_update(encode(update, wire_bits), update).tensors
    for name, values in update.items():
        limit = steps(values, wire_bits) * (1 + 1e-5)
        assert (np.abs(decoded[name] - values) <= limit).all(), name


@pytest.mark.parametrize("wire_bits", WIRE_BITS)
def test_all_that_was_sent_arrives(wire_bits):
    update = random_update()
    big = {"round_number": 2**32 - 1, "client": 2**64 - 1, "num_examples": 0}
    got = decode_update(encode(update, wire_bits, **big), update)
    assert (got.round_number, got.client, got.num_examples) == tuple(big.values())
    assert got.wire_bits == wire_bits
    assert list(got.tensors) == list(update)
    for name, values in update.items():
        assert got.tensors[name].shape == values.shape
        assert got.tensors[name].dtype == np.float32
        assert not got.tensors[name].flags.writeable
    with pytest.raises(TypeError):
        got.tensors["t0"] = None


def test_32_bits_lose_nothing_and_need_no_randomness():
    update = random_update()
    payload = encode(update, 32, seed=0)
    assert payload == encode(update, 32, seed=1)
    for name, values in decode_update(payload, update).tensors.items():
        assert values.tobytes() == update[name].tobytes()


@pytest.mark.parametrize("wire_bits", ROUNDED)
def test_rounding_is_unbiased(wire_bits):
    repeats, rng = 4000, np.random.default_rng(1)
    row = np.array([1, -1, 0.3, -0.3, 0.01, -0.01, 0.77, 0], np.float32)
    update = {"w": np.tile(row, (repeats, 1))}
    payload = encode_update(
        update, wire_bits=wire_bits, round_number=0, client=0, num_examples=1, rng=rng
    )
    mean = decode_update(payload, update).tensors["w"].mean(axis=0, dtype=np.float64)
    step = 1 / (2 ** (wire_bits - 1) - 1)
    deviation = 0.5 * step / np.sqrt(repeats)  # at most: a coin between two neighbours
    assert (np.abs(mean - row) < 4.5 * deviation).all()
    np.testing.assert_allclose(mean[[0, 1, 7]], row[[0, 1, 7]], rtol=1e-6)


def test_values_on_the_grid_are_kept_whatever_the_generator_draws():
    levels = np.arange(-127, 128, dtype=np.float32)[None]
    for seed in range(20):
        decoded = decode_update(encode({"w": levels}, 8, seed), {"w": levels})
        assert (decoded.tensors["w"] == levels).all()


@pytest.mark.parametrize("wire_bits", ROUNDED)
@pytest.mark.parametrize("peak", [1e-45, 3e-45, 1e-38, 3.4028235e38])
def test_the_ends_of_float32_neither_overflow_nor_divide_by_zero(wire_bits, peak):
    values = np.array([[peak, -peak, peak / 3, 0], [0, 0, 0, 0]], np.float32)
    decoded = decode_update(encode({"w": values}, wire_bits), {"w": values}).tensors["w"]
    limit = np.maximum(steps(values, wire_bits) * (1 + 1e-5), 2.0**-126)
    assert np.isfinite(decoded).all()
    assert (np.abs(decoded.astype(np.float64) - values) <= limit).all()
    assert (decoded[1] == 0).all()


def test_same_seed_same_bytes_and_another_seed_others():
    update = random_update()
    assert encode(update, seed=5) == encode(update, seed=5)
    assert encode(update, seed=5) != encode(update, seed=6)


def test_memory_layout_of_the_input_changes_nothing():
    values = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    assert encode({"w": np.asfortranarray(values)}) == encode({"w": values})
    assert encode({"w": np.repeat(values, 2, axis=1)[:, ::2]}) == encode({"w": values})


# --- Layout ---


def test_the_layout_of_a_tiny_payload_is_pinned_byte_by_byte():
    update = {
        "a": np.array([[7, -7, 1], [0, 0, 0]], np.float32),  # two rows: scales 1 and 0
        "b": np.array([-14, 0, 14, 2, -2], np.float32),  # one row, odd length: scale 2
    }
    payload = encode(update, 4, round_number=258, client=2**40 + 5, num_examples=100)
    # a: levels + 7 = 14 0 8 | 7 7 7; b: 0 7 14 | 8 6 and a missing one; the first run lies low.
    expected = """
        46485155  01 04 0000  44000000  63cd390f  02010000 02000000 7178e815 64000000
        0500000000010000 1200000000000000
        02000000 02000000 03000000  01000000 05000000
        0000803f 00000000  00000040
        7e 70 78  80 67 0e
    """
    assert payload == bytes.fromhex(expected)
    for name, values in decode_update(bytes.fromhex(expected), update).tensors.items():
        assert (values == update[name]).all()
    zeroed = payload[:12] + bytes(4) + payload[16:]
    assert struct.unpack("<I", payload[12:16]) == (zlib.crc32(zeroed),)
    assert struct.unpack("<I", payload[24:28]) == (zlib.crc32(b"a\0b"),)


def test_two_bits_pack_quarters_and_eight_bits_one_code_a_byte():
    values = np.array([1, 0, -1, 1, 0, -1, -1, 1, 0], np.float32)
    codes = [2, 1, 0, 2, 1, 0, 0, 2, 1]  # level + 1; runs of ceil(9 / 4) = 3
    runs = [codes[0:3], codes[3:6], codes[6:9], [0, 0, 0]]
    packed = [sum(runs[r][j] << (2 * r) for r in range(4)) for j in range(3)]
    assert list(encode({"w": values}, 2)[-3:]) == packed
    eight = np.array([127, -127, 0, 1], np.float32)
    assert list(encode({"w": eight}, 8)[-4:]) == [254, 0, 127, 128]


@pytest.mark.parametrize(
    ("wire_bits", "checksum"),
    [
        (2, 0xE05DA42A),
        (3, 0xFC48A900),
        (4, 0xB77B42C0),
        (5, 0x6C9810DF),
        (8, 0xA319C426),
        (32, 0x9A941658),
    ],
)
def test_the_bytes_of_a_seed_are_pinned(wire_bits, checksum):
    values = (np.arange(-30, 30, dtype=np.float32) ** 3 / 1000).reshape(6, 10)
    payload = encode({"w": values, "b": values[:, 3]}, wire_bits)
    assert struct.unpack_from("<I", payload, 12) == (checksum,)


def test_other_widths_are_planes_of_two_powers_highest_bits_first():
    values = np.array([15, -15, 0], np.float32)  # codes 30, 0, 15 = 11110, 00000, 01111
    # Upper four bits 15, 0 and 7, a second run of one; lowest bits 0, 0 and 1, three runs of one.
    assert list(encode({"w": values}, 5)[-3:]) == [15 | 7 << 4, 0, 0b100]
    six = np.array([31, -31], np.float32)  # codes 62, 0: upper four bits 15, 0, lower two 2, 0
    assert list(encode({"w": six}, 6)[-2:]) == [15, 2]


@pytest.mark.parametrize("wire_bits", WIRE_BITS)
def test_encoded_bytes_is_the_length_of_every_payload(wire_bits):
    for n in range(20):
        shapes = [(n,), (n, 3), (3, n), ()]
        payload = encode(random_update(n, shapes), wire_bits)
        assert len(payload) == encoded_bytes(shapes, wire_bits)
    payload = encode(random_update(), wire_bits)
    assert len(payload) == encoded_bytes(SHAPES, wire_bits)
    assert len(encode({}, wire_bits)) == encoded_bytes([], wire_bits) == 48
    assert decode_update(encode({}, wire_bits), {}).tensors == {}


# --- Error feedback ---


@pytest.mark.parametrize("wire_bits", ROUNDED)
def test_with_feedback_the_sum_of_updates_arrives_within_one_step(wire_bits):
    rng = np.random.default_rng(3)
    shapes = {"w": (4, 25), "b": (), "empty": (0, 3)}
    drift = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    true = {name: np.zeros(shape) for name, shape in shapes.items()}
    arrived = {name: np.zeros(shape) for name, shape in shapes.items()}
    residual = None
    for number in range(60):
        update = {k: np.asarray(drift[k] + rng.normal(size=shapes[k]), np.float32) for k in shapes}
        before = residual or {k: np.zeros_like(v) for k, v in update.items()}
        payload, residual = encode_with_feedback(
            update,
            residual,
            wire_bits=wire_bits,
            round_number=number,
            client=1,
            num_examples=1,
            rng=rng,
        )
        decoded = decode_update(payload, update).tensors
        for name in shapes:
            true[name] += update[name]
            arrived[name] += decoded[name]
            step = steps(np.asarray(update[name] + before[name]), wire_bits)
            assert (np.abs(true[name] - arrived[name]) <= step * 1.0001 + 1e-4).all()


def test_the_residual_is_exactly_what_decoding_leaves():
    update = random_update()
    first = random_update(1)
    about = {"wire_bits": 4, "round_number": 1, "client": 1, "num_examples": 1}
    payload, residual = encode_with_feedback(update, first, rng=np.random.default_rng(0), **about)
    decoded = decode_update(payload, update).tensors
    for name in update:
        expected = (update[name] + first[name]) - decoded[name]
        assert isinstance(residual[name], np.ndarray)
        assert (residual[name] == expected).all()


def test_with_32_bits_feedback_pays_everything_back():
    update, owed = random_update(0), random_update(1)
    about = {"wire_bits": 32, "round_number": 1, "client": 1, "num_examples": 1}
    _, residual = encode_with_feedback(update, owed, rng=np.random.default_rng(0), **about)
    assert not any(values.any() for values in residual.values())


def test_a_foreign_residual_is_refused_by_name():
    update = {"w": np.zeros((2, 3), np.float32)}
    about = {"wire_bits": 4, "round_number": 1, "client": 1, "num_examples": 1}
    rng = np.random.default_rng(0)
    for residual in ({"w": np.zeros(3, np.float32)}, {"v": np.zeros((2, 3), np.float32)}, {}):
        with pytest.raises(ValueError, match=r"residual.*'[wv]'"):
            encode_with_feedback(update, residual, rng=rng, **about)


@pytest.mark.parametrize("wire_bits", WIRE_BITS)
def test_neither_update_nor_residual_of_the_caller_changes(wire_bits):
    update, owed = random_update(0), random_update(1)
    before = [values.copy() for values in (*update.values(), *owed.values())]
    for values in (*update.values(), *owed.values()):
        values.flags.writeable = False  # decoded tensors are like that
    about = {"wire_bits": wire_bits, "round_number": 1, "client": 1, "num_examples": 1}
    encode(update, wire_bits)
    _, left = encode_with_feedback(update, owed, rng=np.random.default_rng(0), **about)
    after = (*update.values(), *owed.values())
    assert all((a == b).all() for a, b in zip(after, before, strict=True))
    assert all(values.flags.writeable for values in left.values())


# --- What cannot be sent ---


@pytest.mark.parametrize("wire_bits", WIRE_BITS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_tensor_and_client(wire_bits, value):
    update = {"fine": np.zeros(3, np.float32), "w": np.array([[0, value]], np.float32)}
    with pytest.raises(WireError, match=r"1 of 2 in tensor 'w' of client 7 in round 3"):
        encode(update, wire_bits)


def test_an_overflowing_sum_with_the_residual_is_reported():
    huge = {"w": np.full(2, 3e38, np.float32)}
    about = {"wire_bits": 4, "round_number": 1, "client": 9, "num_examples": 1}
    with pytest.raises(WireError, match="tensor 'w' of client 9"):
        encode_with_feedback(huge, huge, rng=np.random.default_rng(0), **about)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wire_bits": 1}, "wire_bits"),
        ({"client": -1}, "client < 2"),
        ({"round_number": 2**32}, "round_number < 2"),
        ({"num_examples": -1}, "num_examples < 2"),
    ],
)
def test_wrong_arguments_are_value_errors(change, message):
    with pytest.raises(ValueError, match=message):
        encode({}, **change)


def test_float64_and_negative_dimensions_are_value_errors():
    with pytest.raises(ValueError, match="'w' must be float32, but got float64"):
        encode({"w": np.zeros(3)})
    with pytest.raises(ValueError, match="dim"):
        encoded_bytes([(-1, 2)], 4)


# --- What cannot be read ---

TEMPLATE = {"w": np.zeros((3, 5), np.float32), "b": np.zeros(3, np.float32)}


def payload_of(wire_bits):
    rng = np.random.default_rng(0)
    return encode(
        {k: rng.normal(size=v.shape).astype("f4") for k, v in TEMPLATE.items()}, wire_bits
    )


def change(payload, offset, layout, value):
    payload = bytearray(payload)
    struct.pack_into(layout, payload, offset, value)
    return reseal(payload)


@pytest.mark.parametrize(
    ("offset", "layout", "value", "message"),
    [
        (0, "4s", b"PK\3\4", "starts with b'FHQU'"),
        (4, "B", 2, "version <= 1.*got 2: update fedhq"),
        (4, "B", 0, "version = 1"),
        (5, "B", 9, "wire_bits in"),
        (5, "B", 3, "body_bytes = 24 of the template at 3 bits"),
        (5, "B", 8, "body_bytes = 34 of the template at 8 bits"),
        (6, "<H", 1, "flags = 0"),
        (8, "<I", 40, "header_bytes >= 48"),
        (8, "<I", 72, "length = header_bytes"),
        (20, "<I", 3, "2 tensors as in the template"),
        (24, "<I", 1, "names checksum"),
        (40, "<Q", 2**63, "length = header_bytes"),
        (48, "<I", 2**32 - 1, "dims of 'w'"),
        (48, "<I", 1, r"shape of 'w' = \(3, 5\).*got \(3,\)"),
        (56, "<I", 4, r"shape of 'w' = \(3, 5\).*got \(3, 4\)"),
        (68, "<f", -1.0, "scales of 'w' from client 7"),
        (68, "<f", np.nan, "scales of 'w'"),
        (80, "<f", np.inf, "scales of 'b'"),
        (80, "<f", 3e38, "scales of 'b'"),
        (84, "B", 0xF0, "codes of 'w' from client 7 <= 14.*got 15"),
        (91, "B", 0x10, r"missing elements of 'w'.*\[1\]"),
    ],
)
def test_each_broken_rule_has_its_message(offset, layout, value, message):
    payload = payload_of(4)
    decode_update(reseal(payload), TEMPLATE)
    with pytest.raises(WireError, match=message):
        decode_update(change(payload, offset, layout, value), TEMPLATE)


@pytest.mark.parametrize("wire_bits", ROUNDED)
@pytest.mark.parametrize("size", [1, 7, 8, 70, 270_000])
def test_the_code_that_stands_for_no_level_is_found_wherever_it_is(wire_bits, size):
    template = {"w": np.zeros(size, np.float32)}
    payload = encode({"w": np.ones(size, np.float32)}, wire_bits)  # every code 2 * qmax
    body = len(payload) - encoded_bytes([(0,)], wire_bits)
    decode_update(payload, template)
    wrong = bytearray(payload)
    for plane in (8, 4, 2, 1):  # sets all bits of the last element
        if wire_bits & plane:
            stride = -(-size * plane // 8)
            run, byte = divmod(size - 1, stride)
            wrong[len(payload) - body + byte] |= (2**plane - 1) << plane * run
            body -= stride
    assert body == 0
    with pytest.raises(WireError, match=f"codes of 'w' .* got {2**wire_bits - 1}"):
        decode_update(reseal(wrong), template)


@pytest.mark.parametrize("wire_bits", [3, 5, 6, 7])
def test_missing_bits_of_every_plane_must_be_zero(wire_bits):
    payload = payload_of(wire_bits)  # its last tensor has three elements
    for plane in (4, 2, 1):
        if wire_bits & plane:
            behind = sum(-(-3 * p // 8) for p in (2, 1) if wire_bits & p and p < plane)
            last = len(payload) - behind - 1
            wrong = payload[:last] + bytes([payload[last] | 0x80]) + payload[last + 1 :]
            with pytest.raises(WireError, match="missing elements of 'b'"):
                decode_update(reseal(wrong), TEMPLATE)


def hostile(dims, body_bytes, wire_bits=4):
    """A sealed payload of one tensor that promises these sizes and holds nothing."""
    table = struct.pack(f"<{1 + len(dims)}I", len(dims), *dims)
    head = struct.pack(
        "<4sBBHIIIIIIQQ",
        *(b"FHQU", 1, wire_bits, 0, 48 + len(table), 0, 0, 1, zlib.crc32(b"w"), 1, 0, body_bytes),
    )
    return reseal(head + table)


@pytest.mark.parametrize("wire_bits", WIRE_BITS)
@pytest.mark.parametrize("dims", [(2**32 - 1,), (2**32 - 1,) * 4, (2**16, 2**16), (0, 2**32 - 1)])
@pytest.mark.parametrize("body_bytes", [0, 2**31, 2**64 - 1])
def test_promised_sizes_take_no_memory(wire_bits, dims, body_bytes):
    template = {"w": np.broadcast_to(np.float32(0), (2**20, 2**10))}  # large, but takes none
    tracemalloc.start()
    for shapes in (template, TEMPLATE, {"w": np.zeros((3, 5), np.float32)}):
        with pytest.raises(WireError):
            decode_update(hostile(dims, body_bytes, wire_bits), shapes)
    right = hostile(template["w"].shape, body_bytes, wire_bits)  # sizes overflow the payload
    with pytest.raises(WireError):
        decode_update(right, template)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000


def test_raw_floats_must_be_finite():
    payload = change(payload_of(32), 68, "<f", np.nan)
    with pytest.raises(WireError, match="'w' from client 7 are finite"):
        decode_update(payload, TEMPLATE)


def test_another_model_is_named():
    payload = payload_of(4)
    other = {**TEMPLATE, "b": np.zeros((3, 1), np.float32)}
    with pytest.raises(WireError, match=r"shape of 'b' = \(3, 1\).*got \(3,\).*same model"):
        decode_update(payload, other)
    with pytest.raises(WireError, match="names checksum"):
        decode_update(payload, {"w": TEMPLATE["w"], "bias": TEMPLATE["b"]})
    with pytest.raises(WireError, match="1 tensors"):
        decode_update(payload, {"w": TEMPLATE["w"]})


@pytest.mark.parametrize("wire_bits", WIRE_BITS)
def test_every_flipped_bit_and_byte_is_a_wire_error(wire_bits):
    payload = payload_of(wire_bits)
    for at in range(len(payload)):
        for mask in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            damaged = payload[:at] + bytes([payload[at] ^ mask]) + payload[at + 1 :]
            with pytest.raises(WireError):
                decode_update(damaged, TEMPLATE)


@pytest.mark.parametrize("wire_bits", WIRE_BITS)
def test_every_truncation_and_any_tail_is_a_wire_error(wire_bits):
    payload = payload_of(wire_bits)
    for size in range(len(payload)):
        with pytest.raises(WireError):
            decode_update(payload[:size], TEMPLATE)
        with pytest.raises(WireError):
            decode_update(reseal(payload[:size].ljust(16, b"\0")), TEMPLATE)
    with pytest.raises(WireError):
        decode_update(payload + b"\0", TEMPLATE)


def test_random_bytes_are_wire_errors():
    rng = np.random.default_rng(0)
    for _ in range(3000):
        noise = rng.bytes(int(rng.integers(0, 200)))
        for payload in (noise, b"FHQU\1" + noise, b"FHQU\1\4\0\0" + noise):
            with pytest.raises(WireError):
                decode_update(payload, TEMPLATE)


@pytest.mark.parametrize("wire_bits", WIRE_BITS)
def test_changed_bytes_with_a_right_checksum_decode_finite_or_are_wire_errors(wire_bits):
    rng, payload, errors = np.random.default_rng(0), payload_of(wire_bits), 0
    for _ in range(3000):
        changed = bytearray(payload)
        for at in rng.integers(0, len(payload), int(rng.integers(1, 4))):
            changed[at] = int(rng.choice([0, 1, 2, 127, 128, 255, int(rng.integers(256))]))
        try:
            tensors = decode_update(reseal(changed), TEMPLATE).tensors
        except WireError:
            errors += 1
        else:
            assert all(np.isfinite(values).all() for values in tensors.values())
    assert 0 < errors < 3000
