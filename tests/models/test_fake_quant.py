import pytest
import torch

from fedhq.models import fake_quantize

BITS = range(2, 9)


def spread_with_ties(scale: float, rows: int = 1) -> torch.Tensor:
    """Random values, and every multiple of half a step around the grid, `(rows, values)`."""
    generator = torch.Generator().manual_seed(0)
    ties = torch.arange(-600, 601, dtype=torch.float32) * 0.5 * scale
    noise = torch.randn(2000, generator=generator) * 40 * scale
    return torch.cat([ties, noise]).repeat(rows, 1)


def aten_per_tensor(x, scale, zero_point, low, high):
    zero = torch.tensor(zero_point, dtype=torch.int32)
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, low, high)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("zero_point", [0, 1, 3])
@pytest.mark.parametrize("scale", [1.0, 0.25, 0.1734])
def test_it_equals_aten_per_tensor_bit_for_bit(bits, zero_point, scale):
    x, step = spread_with_ties(scale), torch.tensor(scale)
    for low, high in ((0, 2**bits - 1), (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)):
        if low <= zero_point <= high:
            ours = fake_quantize(x, step, zero_point, low, high)
            assert torch.equal(ours, aten_per_tensor(x, step, zero_point, low, high))


@pytest.mark.parametrize("bits", BITS)
def test_it_equals_aten_per_channel_bit_for_bit(bits):
    x = spread_with_ties(0.5, rows=4).reshape(4, 1, 3201, 1).contiguous()
    scales = torch.tensor([0.5, 1.0, 0.1734, 3e-3])
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    zeros = torch.zeros(4, dtype=torch.int32)
    theirs = torch.fake_quantize_per_channel_affine(x, scales, zeros, 0, low, high)
    assert torch.equal(fake_quantize(x, scales, 0, low, high), theirs)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("zero_point", [0, 1])
@pytest.mark.parametrize("scale", [1.0, 0.1734])
def test_its_gradient_equals_aten_also_half_a_step_beyond_the_ends(bits, zero_point, scale):
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    step = torch.tensor(scale)
    ours = spread_with_ties(scale).requires_grad_()
    theirs = spread_with_ties(scale).requires_grad_()
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    fake_quantize(ours, step, zero_point, low, high).backward(weight)
    aten_per_tensor(theirs, step, zero_point, low, high).backward(weight)
    assert torch.equal(ours.grad, theirs.grad)


def test_the_mask_follows_the_rounded_code():
    # -2.5 rounds to the even -2, the smallest code, and 1.5 rounds to 2, beyond the largest.
    x = torch.tensor([-2.51, -2.5, 0.3, 1.49, 1.5], requires_grad=True)
    fake_quantize(x, torch.tensor(1.0), 0, -2, 1).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_halves_round_to_even():
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5])
    assert fake_quantize(x, torch.tensor(1.0), 0, -8, 7).tolist() == [0.0, 2.0, 2.0, 0.0, -2.0]


def test_nan_stays_nan_and_infinities_are_clipped():
    x = torch.tensor([float("nan"), float("inf"), -float("inf")])
    quantized = fake_quantize(x, torch.tensor(1.0), 0, -2, 1)
    assert quantized[0].isnan()
    assert quantized[1:].tolist() == [1.0, -2.0]
    assert fake_quantize(torch.ones(2), torch.tensor(float("nan")), 0, -2, 1).isnan().all()


def test_input_and_scale_are_left_as_they_were():
    x, scale = torch.tensor([0.4, 9.0]), torch.tensor(0.5)
    fake_quantize(x, scale, 0, -2, 1)
    assert torch.equal(x, torch.tensor([0.4, 9.0]))
    assert scale == 0.5


def test_a_scale_that_fits_neither_way_is_named():
    with pytest.raises(ValueError, match=r"`scale` must have shape .* got \(2,\)"):
        fake_quantize(torch.zeros(3, 2), torch.ones(2), 0, -2, 1)


def test_an_empty_grid_is_refused():
    with pytest.raises(ValueError, match="`quant_min < quant_max`"):
        fake_quantize(torch.zeros(3), torch.tensor(1.0), 0, 1, 1)
