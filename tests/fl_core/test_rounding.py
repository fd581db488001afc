"""Rounding and packing: against loops written out from the definition."""

import numpy as np
import pytest
import torch

from fedhq.fl_core.wire.rounding import (
    RAW_BITS,
    Coded,
    add_decoded,
    coded_bytes,
    greatest_scale,
    has_foreign_code,
    missing_elements,
    num_scales,
    quantize,
)

ROUNDED = [2, 3, 4, 5, 6, 7, 8]


def pack_by_hand(codes: list[int], wire_bits: int) -> bytes:
    """Planes of two powers, highest bits first; element j of every run in byte j."""
    packed, shift = bytearray(), wire_bits
    for plane in (8, 4, 2, 1):
        if wire_bits & plane:
            shift -= plane
            part = [0] * -(-len(codes) * plane // 8)
            for k, code in enumerate(codes):
                bits = code >> shift & (2**plane - 1)
                part[k % len(part)] |= bits << (plane * (k // len(part)))
            packed += bytes(part)
    return bytes(packed)


def coded_by_hand(codes: list[int], shape, scales: list[float], wire_bits: int) -> Coded:
    packed = torch.tensor(list(pack_by_hand(codes, wire_bits)), dtype=torch.uint8)
    return Coded(shape, wire_bits, torch.tensor(scales), packed)


@pytest.mark.parametrize("wire_bits", ROUNDED)
@pytest.mark.parametrize("size", range(1, 20))
def test_whole_levels_are_packed_as_the_layout_says(wire_bits, size):
    qmax = 2 ** (wire_bits - 1) - 1
    levels = np.random.default_rng(size).integers(-qmax, qmax + 1, size)
    levels[0] = qmax  # the scale is 1
    coded = quantize(levels.astype(np.float32), None, wire_bits, np.random.default_rng(0))
    assert coded.scales.tolist() == [1.0]
    assert bytes(coded.packed.tolist()) == pack_by_hand((levels + qmax).tolist(), wire_bits)
    assert coded.decode().tolist() == levels.tolist()


@pytest.mark.parametrize("wire_bits", ROUNDED)
def test_a_value_is_its_level_times_the_scale_of_its_row(wire_bits):
    qmax = 2 ** (wire_bits - 1) - 1
    codes = np.random.default_rng(0).integers(0, 2 * qmax + 1, 6).tolist()
    coded = coded_by_hand(codes, (2, 3), [0.1, 3.0], wire_bits)
    values = coded.decode()
    for k, code in enumerate(codes):
        assert values.flat[k] == np.float32(code - qmax) * coded.scales.numpy()[k // 3]


@pytest.mark.parametrize("wire_bits", ROUNDED)
def test_levels_are_the_neighbours_of_the_exact_level(wire_bits):
    values = np.random.default_rng(1).normal(size=(5, 40)).astype(np.float32)
    coded = quantize(values, None, wire_bits, np.random.default_rng(2))
    scales = coded.scales.numpy()[:, None].astype(np.float64)
    levels, exact = coded.decode() / scales, values / scales
    assert np.abs(levels).max() == pytest.approx(2 ** (wire_bits - 1) - 1)  # sets the scale
    assert (np.abs(levels - exact) < 1 + 1e-5).all()


@pytest.mark.parametrize("wire_bits", [*ROUNDED, RAW_BITS])
def test_bytes_and_scales_are_counted_as_written(wire_bits):
    for shape in [(), (0,), (5,), (7, 1), (3, 0), (0, 4), (2, 1, 2, 5)]:
        coded = quantize(np.ones(shape, np.float32), None, wire_bits, np.random.default_rng(0))
        assert len(coded.scales) == num_scales(shape, wire_bits)
        assert 4 * len(coded.scales) + len(coded.packed) == coded_bytes(shape, wire_bits)
        assert coded.decode().shape == shape


@pytest.mark.parametrize("wire_bits", [*ROUNDED, RAW_BITS])
def test_the_residual_becomes_what_decoding_leaves(wire_bits):
    rng = np.random.default_rng(0)
    values, owed = (rng.normal(size=(3, 7)).astype(np.float32) for _ in range(2))
    left = torch.tensor(owed)
    coded = quantize(values, left, wire_bits, rng)
    assert (left.numpy() == (values + owed) - coded.decode()).all()


@pytest.mark.parametrize("wire_bits", ROUNDED)
def test_the_greatest_scale_times_the_greatest_level_is_finite(wire_bits):
    qmax = np.float32(2 ** (wire_bits - 1) - 1)
    assert np.isfinite(greatest_scale(wire_bits) * qmax)
    largest = np.array([np.finfo(np.float32).max], np.float32)
    coded = quantize(largest, None, wire_bits, np.random.default_rng(0))
    assert coded.scales[0] <= greatest_scale(wire_bits)


def test_raw_floats_draw_no_random_number():
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    coded = quantize(values, None, RAW_BITS, rng)
    assert rng.bit_generator.state == state
    assert bytes(coded.packed.tolist()) == values.astype("<f4").tobytes()


@pytest.mark.parametrize("wire_bits", [*ROUNDED, RAW_BITS])
def test_every_tensor_draws_random_numbers_of_its_own(wire_bits):
    values, rng = np.linspace(-1, 1, 200, dtype=np.float32), np.random.default_rng(0)
    first, second = (quantize(values, None, wire_bits, rng).packed for _ in range(2))
    assert torch.equal(first, second) == (wire_bits == RAW_BITS)


@pytest.mark.parametrize("wire_bits", ROUNDED)
@pytest.mark.parametrize("size", [1, 5, 64, 131_100])
def test_the_foreign_code_is_told_from_all_others(wire_bits, size):
    rng, foreign = np.random.default_rng(size), 2**wire_bits - 1
    codes = rng.integers(0, foreign, size).tolist()
    assert not has_foreign_code(coded_by_hand(codes, (size,), [1.0], wire_bits))
    codes[int(rng.integers(size))] = foreign
    assert has_foreign_code(coded_by_hand(codes, (size,), [1.0], wire_bits))


@pytest.mark.parametrize("wire_bits", ROUNDED)
@pytest.mark.parametrize("size", range(1, 18))
def test_missing_elements_are_all_bits_that_no_code_uses(wire_bits, size):
    coded = coded_by_hand([2**wire_bits - 1] * size, (size,), [1.0], wire_bits)
    assert not any(missing_elements(coded))
    full = Coded((size,), wire_bits, coded.scales, torch.full_like(coded.packed, 255))
    rest = 8 * len(coded.packed) - size * wire_bits
    assert sum(value.bit_count() for value in missing_elements(full)) == rest


@pytest.mark.parametrize("wire_bits", [*ROUNDED, RAW_BITS])
def test_adding_decoded_is_adding_what_is_decoded(wire_bits):
    rng = np.random.default_rng(0)
    coded = [
        quantize(rng.normal(size=(3, 2, 5)).astype(np.float32), None, wire_bits, rng)
        for _ in range(4)
    ]
    weights = [0.5, 0.25, 2.0, 1.0]  # exact products
    expected, total = np.ones((3, 2, 5), np.float32), torch.ones(3, 2, 5)
    for one, weight in zip(coded, weights, strict=True):
        expected += np.float32(weight) * one.decode()
    add_decoded(coded, weights, total)
    np.testing.assert_allclose(total.numpy(), expected, rtol=1e-6, atol=1e-6)
