"""Rounding and packing: against loops written out from the definition."""

import numpy as np
import pytest

from fedhq.fl_core.rounding import (
    Coded,
    coded_bytes,
    dequantize,
    num_scales,
    pack,
    quantize,
    scale_limits,
    unpack,
)


@pytest.mark.parametrize("wire_bits", [2, 4, 8])
@pytest.mark.parametrize("size", range(20))
def test_packing_puts_element_j_of_every_run_into_byte_j(wire_bits, size):
    codes = np.random.default_rng(size).integers(0, 2**wire_bits - 1, size).astype(np.uint8)
    stride = -(-size * wire_bits // 8)
    expected = [0] * stride
    for k, code in enumerate(codes.tolist()):
        expected[k % stride] |= code << (wire_bits * (k // stride))
    packed = pack(codes, wire_bits)
    assert list(packed) == expected
    back = unpack(np.frombuffer(packed, np.uint8), wire_bits)
    assert back[:size].tolist() == codes.tolist()
    assert not back[size:].any()


@pytest.mark.parametrize("wire_bits", [2, 4, 8])
def test_a_value_is_its_level_times_the_scale_of_its_row(wire_bits):
    qmax = 2 ** (wire_bits - 1) - 1
    codes = np.random.default_rng(0).integers(0, 2 * qmax + 1, 6).astype(np.uint8)
    scales = np.array([0.5, 3.0], np.float32)
    values = dequantize(Coded((2, 3), scales, codes), wire_bits)
    for k, code in enumerate(codes.tolist()):
        assert values.flat[k] == np.float32(code - qmax) * scales[k // 3]


@pytest.mark.parametrize("wire_bits", [2, 4, 8])
def test_codes_are_the_neighbours_of_the_exact_level(wire_bits):
    values = np.random.default_rng(1).normal(size=(5, 40)).astype(np.float32)
    coded = quantize(values, wire_bits, np.random.default_rng(2))
    qmax = 2 ** (wire_bits - 1) - 1
    levels = coded.codes.reshape(values.shape).astype(int) - qmax
    exact = values.astype(np.float64) / coded.scales[:, None]
    assert np.abs(levels).max() == qmax  # the row's greatest value sets the scale
    assert (np.abs(levels - exact) < 1 + 1e-5).all()


@pytest.mark.parametrize("wire_bits", [2, 4, 8, 32])
def test_bytes_and_scales_are_counted_as_written(wire_bits):
    for shape in [(), (0,), (5,), (7, 1), (3, 0), (0, 4), (2, 1, 2, 5)]:
        coded = quantize(np.ones(shape, np.float32), wire_bits, np.random.default_rng(0))
        assert len(coded.scales) == num_scales(shape, wire_bits)
        written = coded.scales.nbytes + len(pack(coded.codes, wire_bits))
        assert written == coded_bytes(shape, wire_bits)


@pytest.mark.parametrize("wire_bits", [2, 4, 8])
def test_the_greatest_scale_times_the_greatest_level_is_finite(wire_bits):
    least, greatest = scale_limits(wire_bits)
    assert 0 < least < greatest
    assert np.isfinite(greatest * np.float32(2 ** (wire_bits - 1) - 1))


def test_raw_floats_draw_no_random_number():
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    coded = quantize(values, 32, rng)
    assert rng.bit_generator.state == state
    assert pack(coded.codes, 32) == values.astype("<f4").tobytes()
