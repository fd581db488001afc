import pytest
import torch

from fedhq.models import PerGroup, fake_quantize, fake_quantize_dynamic
from fedhq.models.fake_quant import fake_quantize_fitted
from fedhq.models.rows import as_rows

BITS = range(2, 9)
NAN, INF = float("nan"), float("inf")


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def spread_with_ties(scale: float, rows: int = 1) -> torch.Tensor:
    """Random values, and every multiple of half a step around the grid, `(rows, values)`."""
    ties = torch.arange(-600, 601, dtype=torch.float32) * 0.5 * scale
    return torch.cat([ties, gaussian(2000) * 40 * scale]).repeat(rows, 1)


def both_grids(bits: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (0, 2**bits - 1), (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def aten_per_tensor(x, scale, zero_point, low, high):
    zero = torch.tensor(zero_point, dtype=torch.int32)
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, low, high)


def gradient(function, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and gradient, the latter of a sum with random weights."""
    x = x.clone().requires_grad_()
    y = function(x)
    y.backward(gaussian(*y.shape, seed=1).to(y.dtype))
    return y.detach(), x.grad


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("zero_point", [0, 1, 3])
@pytest.mark.parametrize("scale", [1.0, 0.25, 0.1734])
def test_value_and_gradient_equal_aten_per_tensor_bit_for_bit(bits, zero_point, scale):
    x, step = spread_with_ties(scale), torch.tensor(scale)
    for low, high in both_grids(bits):
        if low <= zero_point <= high:
            ours = gradient(lambda x, e=(low, high): fake_quantize(x, step, zero_point, *e), x)
            theirs = gradient(lambda x, e=(low, high): aten_per_tensor(x, step, zero_point, *e), x)
            assert torch.equal(ours[0], theirs[0])
            assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("bits", BITS)
def test_value_and_gradient_equal_aten_per_channel_bit_for_bit(bits):
    x = spread_with_ties(0.5, rows=4).reshape(4, 1, 3201, 1).contiguous()
    scales, zeros = torch.tensor([0.5, 1.0, 0.1734, 3e-3]), torch.tensor([0, 1, -1, 0]).int()
    codes = both_grids(bits)[1]
    aten = torch.fake_quantize_per_channel_affine
    theirs = gradient(lambda x: aten(x, scales, zeros, 0, *codes), x)
    ours = gradient(lambda x: fake_quantize(x, scales, zeros, *codes), x)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("per_channel", [True, False])
def test_learned_gradients_equal_aten_learnable(bits, per_channel):
    x, (low, high), factor = gaussian(5, 400), both_grids(bits)[1], 0.25
    start = torch.full((5,) if per_channel else (1,), 1.5 / high)
    weight = gaussian(5, 400, seed=1)
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    scale = ours if per_channel else ours.squeeze()
    (fake_quantize(one, scale, 0, low, high, factor) * weight).sum().backward()
    zero = torch.zeros_like(start)
    if per_channel:
        y = torch._fake_quantize_learnable_per_channel_affine(
            other, theirs, zero, 0, low, high, factor
        )
    else:
        y = torch._fake_quantize_learnable_per_tensor_affine(other, theirs, zero, low, high, factor)
    (y * weight).sum().backward()
    assert torch.equal(fake_quantize(x, scale.detach(), 0, low, high), y.detach())
    assert torch.equal(one.grad, other.grad)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("zero_point", [0, 3])
@pytest.mark.parametrize("scale_shape", [(), (4,), (4, 2)])
def test_learned_gradients_equal_autograd_of_the_formula_in_double(scale_shape, zero_point):
    x, low, high = gaussian(4, 60).double(), 0, 7
    start = gaussian(*scale_shape, seed=2).abs().double() * 0.3 + 0.1
    weight = gaussian(4, 60, seed=1).double()

    def formula(x, scale):
        step = scale.reshape(4 if scale_shape else 1, -1).repeat_interleave(
            60 // max(scale_shape[1:], default=1), dim=1
        )
        steps = x / step
        rounded = steps + (steps.round() - steps).detach()
        return rounded.clamp(low - zero_point, high - zero_point) * step

    results = []
    for function in (formula, lambda x, s: fake_quantize(x, s, zero_point, low, high)):
        values, scale = x.clone().requires_grad_(), start.clone().requires_grad_()
        y = function(values, scale)
        (y * weight).sum().backward()
        results.append((y.detach(), values.grad, scale.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_mask_follows_the_rounded_code():
    # -2.5 rounds to the even -2, the smallest code, and 1.5 rounds to 2, beyond the largest.
    x = torch.tensor([-2.51, -2.5, 0.3, 1.49, 1.5], requires_grad=True)
    fake_quantize(x, torch.tensor(1.0), 0, -2, 1).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_halves_round_to_even_and_division_is_a_product_with_the_reciprocal():
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5])
    assert fake_quantize(x, torch.tensor(1.0), 0, -8, 7).tolist() == [0.0, 2.0, 2.0, 0.0, -2.0]
    scale = torch.tensor(0.1734)
    ties = torch.arange(1, 4000, 2, dtype=torch.float32) * 0.5 * scale
    codes = (fake_quantize(ties, scale, 0, -(2**14), 2**14) / scale).round()
    assert torch.equal(codes, (ties * (1 / scale)).round())
    assert not torch.equal(codes, (ties / scale).round())


def test_dynamic_ranges_let_every_gradient_pass():
    x = gaussian(6, 50)
    for symmetric, codes in ((True, (-7, 7)), (False, (0, 15))):
        arguments = *codes, symmetric, (6,)
        y, grad = gradient(lambda x, a=arguments: fake_quantize_dynamic(x, *a)[0], x)
        assert torch.equal(grad, gaussian(6, 50, seed=1))
        assert not torch.equal(y, x)


def test_fitted_ranges_are_a_constant_to_the_gradient():
    x, ratios = gaussian(6, 50), torch.tensor([0.5, 0.7])
    _, scale, zero_point = fake_quantize_fitted(x, -2, 1, True, (6,), ratios)
    ours = gradient(lambda x: fake_quantize_fitted(x, -2, 1, True, (6,), ratios)[0], x)
    given = gradient(lambda x: fake_quantize(x, scale, zero_point, -2, 1), x)
    assert torch.equal(ours[0], given[0])
    assert torch.equal(ours[1], given[1])
    assert 0.2 < (ours[1] != 0).float().mean() < 0.98


def test_groups_are_rows_of_their_own():
    x = gaussian(4, 3, 8)
    scale_shape = PerGroup(6).scale_shape(x.shape)
    assert scale_shape == (4, 4)
    y, scale, _ = fake_quantize_dynamic(x, -7, 7, True, scale_shape)
    for channel in range(4):
        for k, group in enumerate(x[channel].flatten().split(6)):
            alone = fake_quantize_dynamic(group, -7, 7, True, ())
            assert torch.equal(y[channel].flatten()[6 * k : 6 * k + 6], alone[0])
            assert torch.equal(scale[channel, k], alone[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_layout_in_memory_does_not_matter(dtype):
    x = gaussian(4, 6, 5, 3).to(dtype)
    scale, weight = torch.rand(4) * 0.1 + 0.3, gaussian(4, 6, 5, 3, seed=1).to(dtype)
    results = []
    turned = x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)
    for layout in (x, x.contiguous(memory_format=torch.channels_last), turned):
        values = layout.clone(memory_format=torch.preserve_format).requires_grad_()
        y = fake_quantize(values, scale, 0, -2, 1)
        (y * weight).sum().backward()
        results.append((y.detach(), values.grad))
        assert y.dtype == dtype
    for y, grad in results[1:]:
        assert torch.equal(y, results[0][0])
        assert torch.equal(grad, results[0][1])


def test_bfloat16_is_computed_in_float32_and_rounded_once():
    x, scale = gaussian(3, 500).bfloat16(), torch.tensor([0.3, 0.1, 0.77])
    wanted = fake_quantize(x.float(), scale, 0, -8, 7).bfloat16()
    assert torch.equal(fake_quantize(x, scale, 0, -8, 7), wanted)
    assert wanted.unique().numel() > 16


def test_nothing_stays_nothing_and_one_value_is_enough():
    for shape in ((0,), (0, 3), (2, 0), (1,)):
        x = torch.zeros(shape, requires_grad=True)
        scale_shape = shape[:1] if len(shape) == 2 else ()
        y = fake_quantize_dynamic(x, -7, 7, True, scale_shape)[0]
        z = fake_quantize(x, torch.ones(scale_shape), 0, -2, 1)
        (y.sum() + z.sum()).backward()
        assert y.shape == z.shape == x.grad.shape == shape
    scalar = fake_quantize(torch.tensor(0.7), torch.tensor(0.5), 0, -2, 1)
    assert scalar == 0.5
    assert scalar.dim() == 0


def test_rows_beyond_two_to_the_fifteen_columns_are_no_exception():
    x = gaussian(2, 2**15 + 37)
    y, scale, _ = fake_quantize_dynamic(x, -127, 127, True, (2,))
    assert ((y - x).abs() <= 0.50001 * scale[:, None]).all()


def test_nan_stays_nan_and_infinities_are_clipped():
    x = torch.tensor([NAN, INF, -INF], requires_grad=True)
    quantized = fake_quantize(x, torch.tensor(1.0), 0, -2, 1)
    assert quantized[0].isnan()
    assert quantized[1:].tolist() == [1.0, -2.0]
    quantized.sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0]
    assert fake_quantize(torch.ones(2), torch.tensor(NAN), 0, -2, 1).isnan().all()


def test_input_and_scale_are_left_as_they_were():
    x, scale = torch.tensor([0.4, 9.0]), torch.tensor(0.5)
    fake_quantize(x, scale, 0, -2, 1)
    assert torch.equal(x, torch.tensor([0.4, 9.0]))
    assert scale == 0.5


def test_a_scale_that_fits_neither_way_is_named():
    for x, shape in (((3, 2), (2,)), ((3, 7), (3, 2)), ((), (1,)), ((3, 2), (3, 2, 1))):
        with pytest.raises(ValueError, match=r"`scale` must have shape"):
            fake_quantize(torch.zeros(x), torch.ones(shape), 0, -2, 1)
    with pytest.raises(ValueError, match=r"equal groups.* x of shape \(3, 7\), but got \(3, 2\)"):
        as_rows(torch.zeros(3, 7), (3, 2))


def test_grids_that_are_none_are_refused():
    for codes in ((1, 1), (2, -2), (-(2**16), 0), (0, 2**16)):
        with pytest.raises(ValueError, match=r"`-2\*\*15 <= quant_min < quant_max < 2\*\*16`"):
            fake_quantize(torch.zeros(3), torch.tensor(1.0), 0, *codes)
    with pytest.raises(ValueError, match="values would be clipped"):
        fake_quantize_dynamic(torch.zeros(3), -2, 7, True, ())
